"""Train a network to name flowers from a folder of photographs.

python train.py flowers --gpu
python train.py flowers --download flowers
python train.py flowers --resume
python train.py --demo
torchrun --nproc_per_node=2 train.py flowers
"""

import argparse
import copy
import csv
import io
import json
import math
import os
import re
import shlex
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

if __name__ == "__main__":  # until main() hears it, Ctrl-C ends this without a word
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import numpy as np
from tqdm import tqdm

import data_utils
import metrics
from data_utils import DataSet, FlowersError, InputError, RunError, printable

# torch and what imports it come in `run`, so that --help and most mistakes need not wait.

DEFAULT_ARCH = "efficientnet_lite0"
DEMO_FOLDER = "drawn_flowers"
RUN_FILES = ("checkpoint.pth", "history.csv", "report.json")
RESUME_FILE = "last.pth"

# Under torchrun several processes run this script. The first one talks and writes.
TOGETHER = data_utils.count_processes() > 1
FIRST = not TOGETHER or os.environ["RANK"] == "0"

EPILOG = """\
exit codes:
  0    done
  1    a photograph went missing during the run, the run failed (disk, numbers, memory), or
       --check_data found something
  2    the command line, data folder, names file, weights or --save_dir cannot be used
  3    the network is less accurate than --min_accuracy wants
  130  stopped by Ctrl-C
  143  stopped by SIGTERM
"""


# What decides the result of a run, beside the photographs; None: see `settle`.
SETTINGS: dict[str, Any] = {
    "arch": DEFAULT_ARCH,
    "weights": None,
    "hidden_units": [],
    "tune": None,
    "epochs": None,
    "lr": None,
    "batch_size": None,
    "image_size": None,
    "seed": 0,
}
LIMITS = {
    "epochs": (0, 10**6),
    "batch_size": (1, 10**6),
    "image_size": (data_utils.SMALLEST_CROP, data_utils.LARGEST_CROP),
    "seed": (0, 2**63 - 1),
    "workers": (1, 1024),
}
HIGHEST_LR = 100


class Recipe(NamedTuple):
    """How the epochs learn, where the command line does not say otherwise."""

    epochs: int
    lr: float  # the highest, after warming up
    batch_size: int


FINE_TUNING = Recipe(epochs=5, lr=4e-4, batch_size=64)
FROM_SCRATCH = Recipe(epochs=13, lr=6e-3, batch_size=256)

# The certainty that networks learn to leave to the other categories (Szegedy et
# al., "Rethinking the Inception architecture", CVPR 2016).
SMOOTHING = 0.1

# Random views of a photograph that are kept, beside the photograph as it is, where the
# first layers stay as they are; where they learn, every epoch sees a new one.
KEPT_VIEWS = 4


class Parser(argparse.ArgumentParser):
    """A parser whose messages leave the terminal alone, whatever was typed."""

    def error(self, message: str) -> NoReturn:
        if not FIRST:
            let_the_first_speak()
            sys.exit(2)
        super().error(printable(message))


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; exits with 2 where it makes no sense."""
    parser = Parser(
        prog="train.py",
        epilog=EPILOG,
        description="Train a network to name flowers from a folder of photographs.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def defaults(field: str) -> str:
        return (
            f"(default: {getattr(FINE_TUNING, field)}, from scratch {getattr(FROM_SCRATCH, field)})"
        )

    parser.add_argument(
        "data_dir",
        nargs="?",
        metavar="DATA_DIR",
        help="photographs as DATA_DIR/{train,valid,test}/<category>/*.jpg; what is "
        "missing of valid and test is carved from the rest",
    )
    parser.add_argument(
        "--demo",
        action="store_true",
        help=f"draw a small data set into SAVE_DIR/{DEMO_FOLDER} and train on it",
    )
    parser.add_argument(
        "--download",
        choices=tuple(data_utils.KNOWN_DATA_SETS),
        help="put this data set into DATA_DIR first, where that has no train yet: "
        "Oxford 102 Flowers (345 MB) or CIFAR-10 (170 MB)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help=f"go on from SAVE_DIR/{RESUME_FILE}, with the settings of that run; a "
        "higher --epochs extends it",
    )
    parser.add_argument(
        "--check_data",
        "--check-data",
        action="store_true",
        help="read every photograph, say what is wrong with them, and stop",
    )
    parser.add_argument(
        "--arch",
        metavar="NAME",
        help="network: efficientnet_lite0, cnn or one of torchvision's, such as "
        f"resnet50; help lists them (default: {DEFAULT_ARCH})",
    )
    parser.add_argument(
        "--weights",
        metavar="none|FILE",
        help="none: start from scratch; FILE: a state dict or a checkpoint to "
        "start from (default: ImageNet weights, where the network has some)",
    )
    parser.add_argument(
        "--hidden_units",
        "--hidden-units",
        metavar="N[,N...]",
        help="width of each hidden layer of the head, as in 512 or 512,256 "
        "(default: no hidden layer)",
    )
    parser.add_argument(
        "--tune",
        choices=("tail", "all"),
        help="what the epochs train: the last third of the layers, on what the "
        "others make of the photographs once and for all; or all (default: "
        "tail for pretrained networks on a CPU whose layers form a chain, "
        "else all)",
    )
    parser.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="times that the network sees every photograph; 0: solve the head of "
        f"a pretrained network and stop {defaults('epochs')}",
    )
    parser.add_argument(
        "--lr",
        "--learning_rate",
        "--learning-rate",
        type=float,
        metavar="RATE",
        help=f"highest learning rate of the epochs {defaults('lr')}, with "
        "another --batch_size in proportion to its root",
    )
    parser.add_argument(
        "--batch_size",
        "--batch-size",
        type=int,
        metavar="N",
        help="photographs a step of the epochs, of all processes together "
        f"{defaults('batch_size')}",
    )
    parser.add_argument(
        "--image_size",
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="side of the square that the network sees (default: the network's own)",
    )
    parser.add_argument(
        "--save_dir",
        "--save-dir",
        default=".",
        metavar="DIR",
        help="folder for checkpoint.pth and the run's other files (default: this folder)",
    )
    parser.add_argument(
        "--category_names",
        "--category-names",
        metavar="FILE",
        help='JSON file of names, as in {"21": "fire lily"} (default: '
        "cat_to_name.json of DATA_DIR; for Oxford's 102 categories this "
        "project's own; else the folders' names)",
    )
    parser.add_argument(
        "--min_accuracy",
        "--min-accuracy",
        type=float,
        metavar="SHARE",
        help="end with exit code 3 if a smaller share of test (without test: of "
        "valid) is named rightly, as in 0.95",
    )
    parser.add_argument(
        "--plot",
        action="store_true",
        help="draw curves.png, confusion.png and mistakes.png into SAVE_DIR",
    )
    parser.add_argument("--gpu", action="store_true", help="use an accelerator where there is one")
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help=f"the same seed on the same CPU gives the same network (default: {SETTINGS['seed']})",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=data_utils.default_workers(),
        metavar="N",
        help="threads that decode photographs (default here: %(default)s)",
    )
    args = parser.parse_args(argv)

    if args.arch == "help":
        return args
    if args.demo == (args.data_dir is not None):
        parser.error(
            "--demo draws its own photographs: leave DATA_DIR out"
            if args.demo
            else "DATA_DIR is missing: the folder of photographs (or try --demo)"
        )
    if args.demo and args.download:
        parser.error("--demo draws its own photographs: leave --download out")
    for flag, (lowest, highest) in LIMITS.items():
        value = getattr(args, flag)
        if value is not None and not lowest <= value <= highest:
            parser.error(f"--{flag} {value}: it must be from {lowest} to {highest}")
    if args.lr is not None and not 0 < args.lr <= HIGHEST_LR:  # also refuses nan
        parser.error(f"--lr {args.lr}: it must be above 0 and at most {HIGHEST_LR}; 0.001 is usual")
    if args.min_accuracy is not None and not 0 <= args.min_accuracy <= 1:
        parser.error(f"--min_accuracy {args.min_accuracy}: it must be from 0 to 1")
    if args.hidden_units is not None:
        if not re.fullmatch(r"[1-9]\d{0,5}(,[1-9]\d{0,5}){0,9}", args.hidden_units):
            parser.error(
                f"--hidden_units {args.hidden_units}: whole numbers above 0, as in 512,256"
            )
        args.hidden_units = [int(units) for units in args.hidden_units.split(",")]
    return args


def main(argv: list[str] | None = None) -> int:
    """Train as the command line says and return the exit code."""
    args = parse_args(argv)
    data_utils.share_processors()
    # Pillow warns of odd files with lines of its own source; unreadable ones raise anyway.
    warnings.filterwarnings("ignore", module="PIL")
    outcome = Outcome(spell_command("train.py", *(sys.argv[1:] if argv is None else argv)))
    try:
        with stoppable():
            return run(args, outcome)
    except FlowersError as error:
        # Perhaps one process alone sees that a photograph has vanished.
        say(f"train.py: {error}", everybody=isinstance(error, data_utils.ImageError))
        say(*outcome.lines())
        let_the_first_speak()
        return error.exit_code
    except Stopped as stop:
        say(f"train.py: {stop}", *outcome.lines())
        return stop.exit_code
    except (MemoryError, RuntimeError) as error:
        if TOGETHER and data_utils.is_lost_connection(error):
            say(
                "train.py: another process of this run has ended, or is out of reach: "
                + str(error).splitlines()[0],
                *outcome.lines(),
            )
            return 1
        if not data_utils.is_out_of_memory(error):
            raise
        outcome.resumable = False  # it would need as much again
        half = outcome.batch_size // 2
        say(
            "train.py: out of memory; "
            + (f"try --batch_size {half}, or " if half else "try ")
            + "a lower --image_size or --hidden_units",
            everybody=True,
        )
        say(*outcome.lines())
        return 1


def let_the_first_speak() -> None:
    """Wait a little before this process ends: torchrun then stops the others at once."""
    if not FIRST:
        time.sleep(2)


def run(args: argparse.Namespace, outcome: "Outcome") -> int:
    """Do what is asked for: list the networks, check the data, or train."""
    if args.arch == "help":
        import model_utils

        tell(*model_utils.list_architectures())
        return 0
    if args.plot:
        data_utils.require("matplotlib", "--plot")
    data_dir = args.data_dir
    if TOGETHER and (args.demo or args.download and not data_utils.has_train(data_dir)):
        raise InputError(
            "under torchrun the photographs have to be there already; "
            + (
                f"--download {args.download} --check_data without torchrun puts them there"
                if args.download
                else "--demo is for one process"
            )
        )
    if args.demo:
        data_dir = draw_demo(args.save_dir, args.arch or DEFAULT_ARCH)
    if args.download and not data_utils.has_train(data_dir):
        download(args)
    data = data_utils.find_data(data_dir)
    data_utils.find_names(data.categories, data_dir, args.category_names)
    if args.check_data:
        return (
            check_data(inspect(data, data_dir, args.category_names, args.workers)) if FIRST else 0
        )
    last = Path(args.save_dir, RESUME_FILE)
    if args.resume and not last.exists():
        raise InputError(f"--resume goes on from {last}, which does not exist")
    files = [*RUN_FILES, RESUME_FILE]
    if FIRST:
        data_utils.prepare_folder(args.save_dir, files)
    with data_utils.hold(args.save_dir, files) if FIRST else nullcontext():
        return train(args, data, data_dir, outcome)


def train(args: argparse.Namespace, data: DataSet, data_dir: str, outcome: "Outcome") -> int:
    """The whole way, from the folder of photographs to the report; return the exit code."""
    clock = Clock()
    checkpoint, last = Path(args.save_dir, "checkpoint.pth"), Path(args.save_dir, RESUME_FILE)
    with data_utils.signals_wait():
        import torch

        import model_utils
    model_utils.keep_freed_memory()
    device = model_utils.find_device(args.gpu)
    processes = model_utils.join_processes(device)

    # The network, and how it will learn.
    typed = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    if args.resume:
        start, preprocessing, earlier = read_resume_file(last, checkpoint, len(data.categories))
        settings = settle_again(typed, earlier.settings)
        model, source = start.model.to(device), earlier.source
        start.averaged.to(device)
        history, best = earlier.history, earlier.best
        outcome.best, outcome.resumable = describe_best(checkpoint, history), True
    else:
        start, settings, history, best = None, {**SETTINGS, **typed}, [], None
        torch.manual_seed(settings["seed"])
        with processes.first_before_others():  # it may download weights
            model, preprocessing, source = model_utils.new_model(
                settings["arch"],
                len(data.categories),
                settings["image_size"],
                settings["hidden_units"],
                settings["weights"],
                data_utils.typical_side(data.splits["train"].paths),
            )
        model.to(device)
        settings = settle(settings, model, preprocessing.crop, pretrained=source is not None)
    if settings["batch_size"] < processes.size:
        raise InputError(
            f"--batch_size {settings['batch_size']} cannot be shared out among "
            f"{processes.size} processes"
        )
    outcome.batch_size = settings["batch_size"]
    recipe = Recipe(settings["epochs"], settings["lr"], settings["batch_size"])
    tail = settings["tune"] == "tail" and recipe.epochs
    cut = model_utils.find_cut(model.body) if tail else 0
    say(
        *describe_data(data, data_dir),
        f"network: {settings['arch']}, "
        + (f"starting from {source}, " if source else "starting from scratch, ")
        + f"{preprocessing.crop} x {preprocessing.crop} pixels, {recipe.epochs} epochs"
        + (" of the last third of its layers" if cut else ""),
        *describe_device(device, args.gpu, processes.size),
    )
    clock.lap("start")

    # Every photograph is read once, before hours are spent on them.
    inspected = inspect(data, data_dir, args.category_names, args.workers, processes)
    data, names = inspected.data, inspected.names
    say(f"names: {inspected.names_source}", *problem_lines(inspected.problems, 10))
    if inspected.lost:
        raise InputError("no readable photograph left to train on of " + ", ".join(inspected.lost))
    for name, split in data.splits.items():
        if len(split.paths) < processes.size:
            raise InputError(
                f"{processes.size} processes cannot share out the photographs of "
                f"{name}: {len(split.paths)}"
            )
    if start and (
        earlier.photographs != inspected.fingerprint
        or len(best.logits) != len(data.splits["valid"].labels)
    ):
        raise InputError(
            f"the photographs in {data_dir} are not those of the run in {last}; "
            "without --resume a new one starts"
        )
    clock.lap("reading every photograph once")
    frozen = model_utils.for_inference(model)
    activations = {
        name: model_utils.Activations(
            frozen,
            cut,
            data.splits[name].paths,
            preprocessing,
            views,
            settings["seed"],
            args.workers,
            args.save_dir,
            f"{inspected.fingerprint} {name}",
            with_bar,
            processes,
        )
        for name, views in (("train", 1 + KEPT_VIEWS), ("valid", 1))
    }
    model_utils.discard_others(args.save_dir, activations.values(), processes)
    if cut:
        say(f"the other layers' activations are kept {activations['train'].place}")

    # Every epoch is judged on valid; the checkpoint holds the best one so far.
    labels = data.splits["valid"].labels
    tell(HEADER, *(epoch_line(**row) for row in history))
    if history and processes.first:
        write_history(Path(args.save_dir, "history.csv"), history)
    for training, train_loss, sums in learn(
        model,
        activations["train"],
        data.splits["train"].labels,
        recipe,
        source is not None,
        settings["seed"],
        start,
    ):
        epoch, network = training.epoch, training.averaged
        seconds = clock.lap("epochs" if epoch else "head")
        require_finite(train_loss, epoch, outcome)
        result = evaluate(model_utils.for_inference(network), activations["valid"], labels)
        require_finite(result.loss, epoch, outcome)
        saved = best is None or result.is_better(best)
        if saved:
            if processes.first:
                if best is None:
                    keep_earlier_run(args.save_dir)
                figures = {
                    "epoch": epoch,
                    "valid_loss": result.loss,
                    "valid_accuracy": result.accuracy,
                    "valid_images": len(labels),
                    "precision": str(model_utils.native_precision(device)),
                }
                model_utils.save_checkpoint(
                    checkpoint,
                    network,
                    settings["arch"],
                    preprocessing,
                    data.categories,
                    names,
                    calibrate(result, labels, sums),
                    figures,
                    settings["seed"],
                    outcome.command,
                )
            best = result
        seconds += clock.lap("judging and saving")
        history.append(
            {
                "epoch": epoch,
                "train_loss": train_loss,
                "valid_loss": result.loss,
                "valid_accuracy": result.accuracy,
                "seconds": seconds,
                "saved": int(saved),
            }
        )
        outcome.best = describe_best(checkpoint, history)
        if processes.first:
            model_utils.save_training(
                last,
                training,
                settings["arch"],
                preprocessing,
                Earlier(settings, source, inspected.fingerprint, history, best).entries(),
            )
            write_history(Path(args.save_dir, "history.csv"), history)
        outcome.resumable = True
        tell(epoch_line(**history[-1]))
    processes.wait()

    # The figures to quote: of the file, as prediction will load it, on photographs never used.
    split, logits, honesty, kept = judge_checkpoint(
        checkpoint, device, data, best, args.workers, processes
    )
    clock.lap("final figures")
    labels = data.splits[split].labels
    report = {
        "split": split,
        **metrics.summarise(
            labels, logits.argmax(1), metrics.rank_of(logits, labels), data.categories, names
        ),
        "misnamed": list_misnamed(data.splits[split].paths, labels, logits, names),
        **honesty,
        "kept": kept,
        "seconds": clock.seconds,
        "peak_memory_mib": peak_memory(),
        "versions": model_utils.versions(),
        "command": outcome.command,
    }
    if processes.first:
        with data_utils.atomic_write(Path(args.save_dir, "report.json")) as file:
            file.write(json.dumps(report, indent=1).encode())
        if args.plot:
            draw(args.save_dir, history, labels, logits, names, report["misnamed"], preprocessing)
    for each in activations.values():
        each.discard()
    image = data.splits[split].paths[0]
    tell(
        *report_lines(report),
        f"report: {Path(args.save_dir, 'report.json')}",
        f"checkpoint: {checkpoint}",
        f"next: {spell_command('predict.py', image, str(checkpoint))}",
    )
    accuracy = report["top1"]["share"]
    # The others would have torchrun stop the first one while it writes.
    if args.min_accuracy is not None and accuracy < args.min_accuracy and processes.first:
        say(
            f"train.py: {split} accuracy {accuracy:.2%} is below --min_accuracy "
            f"{args.min_accuracy:.2%}"
        )
        return 3
    return 0


# --- Settings, and runs that go on ----------------------------------------------------


def settle(settings: dict[str, Any], model, crop: int, pretrained: bool) -> dict[str, Any]:
    """Put numbers where the settings leave the choice to the network.

    Raises:
        InputError: they do not go together.
    """
    recipe = FINE_TUNING if pretrained else FROM_SCRATCH
    if settings["batch_size"]:  # Malladi et al., "On the SDEs and scaling rules for adaptive
        # gradient algorithms" (NeurIPS 2022): Adam's rate goes with the root of the batch size.
        recipe = recipe._replace(
            lr=recipe.lr * math.sqrt(settings["batch_size"] / recipe.batch_size)
        )
    settings = {
        **settings,
        "image_size": crop,
        **{field: value for field, value in recipe._asdict().items() if settings[field] is None},
    }
    arch = settings["arch"]
    if settings["epochs"] == 0 and not pretrained:
        raise InputError(f"--epochs 0 would leave {arch} untrained: it starts from scratch")
    if settings["tune"] == "tail" and not model.depths:
        raise InputError(
            f"--tune tail: {arch} as it is here has no tail; that takes a pretrained "
            "network whose layers form a chain"
        )
    if settings["tune"] is None:
        settings["tune"] = "tail" if model.depths and model.mean.device.type == "cpu" else "all"
    return settings


def settle_again(typed: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Take the settings of the run that goes on; only more epochs may be asked for.

    Raises:
        InputError: other settings are asked for, which would be another run.
    """
    wanted = {**settings, **typed}
    others = [
        name
        for name in SETTINGS
        if wanted[name] != settings[name] and (name != "epochs" or wanted[name] < settings[name])
    ]
    if others:

        def spell(value: Any) -> str:
            return ",".join(map(str, value)) if isinstance(value, list) else str(value)

        raise InputError(
            "; ".join(
                f"--{name} {spell(wanted[name])}: the run that --resume goes on with has "
                f"{spell(settings[name])}"
                for name in others
            )
            + ". Leave it out, or start anew without --resume"
        )
    return wanted


class Earlier(NamedTuple):
    """What the resume file tells about a run, beside the network."""

    settings: dict[str, Any]
    source: str | None  # of the weights; None: from scratch
    photographs: str  # see `data_utils.fingerprint`
    history: list[dict]
    best: "Evaluation"

    def entries(self) -> dict[str, Any]:
        """Turn it into plain data and tensors."""
        import torch

        best = self.best._replace(logits=torch.from_numpy(self.best.logits))
        return {**self._asdict(), "best": best._asdict()}


def read_resume_file(path: Path, checkpoint: Path, num_classes: int):
    """Read where a run stands; return its `Training`, `Preprocessing` and `Earlier`.

    Raises:
        InputError: the file is damaged, or the checkpoint beside it is not this run's.
    """
    import torch

    import model_utils

    start, arch, preprocessing, run = model_utils.load_training(path, num_classes)
    try:
        earlier = Earlier(**run)
        check_types = data_utils.check_types
        check_types(
            run,
            {
                "settings": dict,
                "source": (str, type(None)),
                "photographs": str,
                "history": list,
                "best": dict,
            },
        )
        check_types(
            earlier.settings,
            {
                "arch": str,
                "weights": (str, type(None)),
                "hidden_units": list,
                "tune": str,
                "epochs": int,
                "lr": float,
                "batch_size": int,
                "image_size": int,
                "seed": int,
            },
        )
        for row in earlier.history:
            check_types(
                row,
                dict(
                    epoch=int,
                    train_loss=float,
                    valid_loss=float,
                    valid_accuracy=float,
                    seconds=float,
                    saved=int,
                ),
            )
        check_types(run["best"], dict.fromkeys(("loss", "calibrated_loss", "accuracy"), float))
        best = Evaluation(**run["best"])
        if not (
            torch.is_tensor(best.logits)
            and best.logits.dtype == torch.float32
            and best.logits.dim() == 2
            and best.logits.shape[1] == num_classes
            and best.logits.isfinite().all()
            and earlier.history[-1]["epoch"] == start.epoch
            and any(row["saved"] for row in earlier.history)
            and earlier.settings["arch"] == arch
            and all(
                low <= earlier.settings[name] <= high
                for name, (low, high) in LIMITS.items()
                if name in earlier.settings
            )
            and 0 < earlier.settings["lr"] <= HIGHEST_LR
        ):
            raise ValueError("impossible entries")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: its parts do not fit together") from error
    info = model_utils.load_checkpoint(checkpoint)[1]
    figures = info["figures"]
    # A run may have been killed when it had saved a better network, but not yet the rest.
    if (
        (info["arch"], info["seed"]) != (arch, earlier.settings["seed"])
        or figures["epoch"] != start.epoch + 1
        and figures["valid_loss"] != best.loss
    ):
        raise InputError(
            f"{checkpoint} is not the best network of the run in {path}; without "
            "--resume a new run starts"
        )
    return start, preprocessing, earlier._replace(best=best._replace(logits=best.logits.numpy()))


class Stopped(KeyboardInterrupt):
    """Ctrl-C, or the SIGTERM of a batch system."""

    def __init__(self, number: int):
        super().__init__("stopped by " + ("Ctrl-C" if number == signal.SIGINT else "SIGTERM"))
        self.exit_code = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the block in order, the second one at once."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def leave(number: int, _) -> None:
        os._exit(128 + number)

    def stop(number: int, _) -> None:
        for each in numbers:
            signal.signal(each, leave)
        raise Stopped(number)

    # Only the main thread hears signals; of several processes only the first has to say something.
    if threading.current_thread() is not threading.main_thread() or not FIRST:
        yield
        return
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)


class Outcome:
    """What a run that ends early tells its user: what is safe, and how to go on."""

    def __init__(self, command: str):
        self.command = command
        self.batch_size = 0
        self.best: str | None = None  # a sentence
        self.resumable = False

    def lines(self) -> Iterator[str]:
        """Say it."""
        if self.best:
            yield self.best
        if self.resumable:
            more = "" if "--resume" in shlex.split(self.command) else " --resume"
            yield f"go on with: {self.command}{more}"


def describe_best(checkpoint: Path, history: list[dict]) -> str:
    """Say where the best network so far is, and how good it is."""
    best = [row for row in history if row["saved"]][-1]
    epoch = f"epoch {best['epoch']}" if best["epoch"] else "the head"
    return (
        f"the best network so far is in {checkpoint} ({epoch}, "
        f"{best['valid_accuracy']:.2%} on valid)"
    )


def require_finite(loss: float, epoch: int, outcome: Outcome) -> None:
    """Stop a run that no longer computes with numbers.

    Raises:
        RunError: the loss is not finite.
    """
    if not math.isfinite(loss):
        outcome.resumable = False  # it would come to the same
        raise RunError(f"the loss of epoch {epoch} is not a finite number; try a lower --lr")


def calibrate(result: "Evaluation", labels: np.ndarray, sums):
    """Make a `Calibration` of an epoch's logits on valid and sums of logits in training."""
    import torch

    import model_utils

    patterns = model_utils.find_patterns(sums)
    familiar = model_utils.familiarity(torch.from_numpy(result.logits), patterns)
    return model_utils.Calibration(
        metrics.fit_temperature(result.logits, labels),
        patterns,
        familiar.quantile(torch.linspace(0, 1, 1001)),
    )


def judge_checkpoint(
    checkpoint: Path,
    device,
    data: DataSet,
    best: "Evaluation",
    workers: int,
    processes,
) -> tuple[str, np.ndarray, dict[str, Any], dict[str, float]]:
    """Judge the best network as prediction will load it, on test where there is one.

    Returns:
        The split, its logits (N, C), how far probabilities can be believed, and the share
        of each split's photographs that --reject leaves their names.
    """
    import torch

    import model_utils

    split, labels = "valid", data.splits["valid"].labels
    logits = metrics.cross_fit(best.logits, labels)
    honesty = {"valid, cross-fitted": metrics.calibration(logits, labels)}
    kept = {"valid": data_utils.KEEP}
    model, info = model_utils.load_checkpoint(checkpoint, device)
    calibration = info["calibration"]
    if "test" in data.splits:
        split, labels = "test", data.splits["test"].labels
        photographs = model_utils.Activations(
            model,
            0,
            data.splits["test"].paths,
            info["preprocessing"],
            workers=workers,
            processes=processes,
        )
        logits = evaluate(model, photographs, labels).logits
        honesty["test"] = metrics.calibration(logits, labels)
        familiar = model_utils.familiarity(torch.from_numpy(logits), calibration.patterns)
        kept["test"] = (familiar >= calibration.least_familiar()).float().mean().item()
    return split, logits, {"temperature": calibration.temperature, "calibration": honesty}, kept


# --- Learning and judging -------------------------------------------------------------


def learn(
    model, activations, labels: np.ndarray, recipe: Recipe, pretrained: bool, seed: int, start=None
) -> Iterator[tuple[Any, float, Any]]:
    """Train the network in place; yield after each epoch the `Training`, the training loss,
    and the sum of the logits of each category's photographs (C, C).

    A pretrained network's head comes first, as epoch 0, on features that are computed once:
    a linear one is solved, one with hidden layers learns. The epochs then start from it and
    train it with the layers behind the cut of the activations. From scratch there are the
    epochs alone, and they train everything. With `start`, an earlier `Training` whose model
    this is, the epochs go on behind that one.

    What the epochs of a pretrained network yield is a moving average of its weights over
    about a tenth of the run: good from the first epoch on, while the weights themselves
    first lose what the head knew.
    """
    import torch

    from model_utils import Training, chain, mirror_some, restore_optimizer

    if pretrained and not start:
        loss, sums = fit_head(model, activations, labels)
        start = Training(0, model, model, {}, torch.get_rng_state())
        yield start, loss, sums
    if pretrained:
        model.frozen_statistics = True
        for layer in chain(model.body)[: activations.cut]:
            layer.requires_grad_(False)
    averaged = (
        model if not pretrained else (start.averaged if start.epoch else copy.deepcopy(model))
    )
    optimizer_class = torch.optim.AdamW if pretrained else torch.optim.Adam
    optimizer = optimizer_class(
        [p for p in model.parameters() if p.requires_grad], lr=recipe.lr, fused=True
    )
    if start:
        torch.set_rng_state(start.random)
    if start and start.epoch:
        restore_optimizer(optimizer, start.optimizer)

    processes = activations.processes
    learner, count = processes.synchronised(model), len(labels)
    # What falls to this process of the photographs of a step, and of an epoch's weights.
    recipe = recipe._replace(batch_size=-(-recipe.batch_size // processes.size))
    weights = torch.from_numpy(weigh(count, recipe.batch_size, processes.rank, processes.size))
    for epoch in range(start.epoch + 1 if start else 1, recipe.epochs + 1):
        # Order and views depend on the seed and the epoch alone, on any device.
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(count)
        views = (
            rng.integers(activations.views, size=count)
            if activations.cut
            else np.full(count, epoch)
        )
        mirrored = rng.random(count) < 0.5
        mine = np.flatnonzero(order % processes.size == processes.rank)
        mine = np.resize(mine, len(weights))  # where it has one too few, one stands there twice
        order, views, mirrored = order[mine], views[mine], mirrored[mine]
        batches = activations.batches(order // processes.size, views, recipe.batch_size)
        if activations.cut:  # no more to compute, and twice as many views
            batches = mirror_some(batches, mirrored)
        if processes.rank:  # what dropout leaves out is another thing in each process
            torch.manual_seed(rng.integers(2**31) + processes.rank)
        loss, sums = train_one_epoch(
            model,
            learner,
            activations.cut,
            with_bar(batches, len(order), f"epoch {epoch} of {recipe.epochs}"),
            torch.from_numpy(labels[order]),
            weights,
            optimizer,
            averaged,
            epoch,
            recipe,
        )
        processes.copy_first(model, averaged)
        yield (
            Training(
                epoch, model, averaged, optimizer.state_dict()["state"], torch.get_rng_state()
            ),
            processes.add(loss).item() / count,
            processes.add(sums),
        )


def fit_head(model, activations, labels: np.ndarray) -> tuple[float, Any]:
    """Fit a pretrained network's head; return the loss, and the sums of logits (C, C)."""
    import torch

    from model_utils import extract_features, learn_head, move_if_it_fits, solve_head

    processes, count = activations.processes, len(activations.paths)
    batches = activations.batches(np.arange(count), np.zeros(count, int))
    features = extract_features(
        activations.model,
        with_bar(batches, count, "features"),
        count,
        activations.cut,
        activations.room,
    )
    if not features.isfinite().all():
        raise RunError("the network's features are not finite numbers; its weights are damaged")
    features = processes.collect(features, len(labels), everywhere=False, room=activations.room)
    number = int(labels.max()) + 1
    loss, sums = torch.zeros(()), torch.zeros(number, number)
    if processes.first:
        fit = solve_head if isinstance(model.head, torch.nn.Linear) else learn_head
        features = move_if_it_fits(features, model.mean.device)
        targets = torch.from_numpy(labels).to(features.device)
        logits = fit(model.head, features, targets, SMOOTHING)
        loss = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=SMOOTHING)
        sums.index_add_(0, targets.cpu(), logits.cpu())
    processes.copy_first(model.head)
    return processes.add(loss.cpu()).item(), processes.add(sums)


def weigh(count: int, batch_size: int, rank: int, size: int) -> np.ndarray:
    """Weigh the photographs that one of `size` processes learns from in an epoch: float32 (n,).

    The processes' gradients are averaged. With these weights, in sums of the photographs'
    losses, the average is the gradient of the mean loss of all photographs of a step. Where
    they cannot be shared out evenly, a process that has one less repeats one, of weight 0.
    """
    longest = -(-count // size)
    weights = np.empty(longest, np.float32)
    for start in range(0, longest, batch_size):
        part = weights[start : start + batch_size]
        surplus = longest * size - count if start + batch_size >= longest else 0
        part[:] = size / (len(part) * size - surplus)
    if rank >= count - (longest - 1) * size:
        weights[-1] = 0
    return weights


def train_one_epoch(
    model,
    learner,
    cut: int,
    batches: Iterable,
    targets,
    weights,
    optimizer,
    averaged,
    epoch: int,
    recipe: Recipe,
) -> tuple[Any, Any]:
    """Show the network, by way of `learner`, every photograph once, while it learns.

    Every step moves the averaged network by a share towards the one that learns.

    Returns:
        The sum of the losses, and the sums of the logits by category (C, C). Where one process
        works alone, an epoch whose loss is no finite number is broken off.
    """
    import torch

    from model_utils import learning_precision, move_average

    device = model.mean.device
    precision = learning_precision(model, cut)
    # New in every epoch, and low, so that no step is left out for an overflow.
    scaler = torch.amp.GradScaler(device.type, 1024, enabled=precision == torch.float16)
    targets, weights = targets.to(device), weights.to(device)
    total, seen, sums = torch.zeros((), device=device), 0, None
    steps_an_epoch = math.ceil(len(targets) / recipe.batch_size)
    steps = steps_an_epoch * recipe.epochs
    model.train()
    for step, x in enumerate(batches, start=steps_an_epoch * (epoch - 1)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * lr_factor(step, steps)
        if len(x) == 1:  # one photograph has no statistics for BatchNorm to normalise by
            model.freeze_statistics()
        part = slice(seen, seen + len(x))
        labels, weight = targets[part], weights[part]
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            logits = learner(x, cut)
        logits = logits.float()
        losses = torch.nn.functional.cross_entropy(
            logits, labels, label_smoothing=SMOOTHING, reduction="none"
        )
        optimizer.zero_grad()
        scaler.scale((losses * weight).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        if averaged is not model:
            move_average(averaged, model, min(1, 10 / steps))
        seen += len(x)
        with torch.no_grad():
            counted = (weight > 0).float()
            total += losses @ counted
            if sums is None:
                sums = logits.new_zeros([logits.shape[1]] * 2)
            sums.index_add_(0, labels, logits * counted[:, None])
        # An accelerator waits when one looks; several processes end their epoch together.
        if (device.type == "cpu" or step % 50 == 0) and learner is model and not total.isfinite():
            break
    return total.cpu(), sums.cpu()


def lr_factor(step: int, steps: int) -> float:
    """Scale the learning rate: up in a line for a tenth of the steps, then a cosine to 0."""
    warmup = steps / 10
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


class Evaluation(NamedTuple):
    """How a network does on a split."""

    loss: float  # mean cross-entropy, in nats
    calibrated_loss: float  # the same with the temperature that a checkpoint gets
    accuracy: float  # 0..1
    logits: np.ndarray  # float32 (N, C)

    def is_better(self, other: "Evaluation") -> bool:
        """Compare accuracies; between equal ones the lower calibrated loss wins.

        The plain one is high where smoothed labels have taught a network to be unsure.
        """
        return (self.accuracy, -self.calibrated_loss) > (other.accuracy, -other.calibrated_loss)


def evaluate(model, activations, labels: np.ndarray) -> Evaluation:
    """Judge a network from `for_inference` or a checkpoint on a whole split."""
    import torch

    from model_utils import compute_logits

    count = len(activations.paths)
    batches = activations.batches(np.arange(count), np.zeros(count, int))
    logits = compute_logits(model, with_bar(batches, count, "judging"), activations.cut)
    logits = activations.processes.collect(logits, len(labels))
    targets, loss_of = torch.from_numpy(labels), torch.nn.functional.cross_entropy
    loss = calibrated = loss_of(logits, targets).item()
    if math.isfinite(loss):
        temperature = metrics.fit_temperature(logits.numpy(), labels)
        calibrated = loss_of(logits / temperature, targets).item()
    accuracy = (logits.argmax(1) == targets).double().mean().item()
    return Evaluation(loss, calibrated, accuracy, logits.numpy())


# --- What is checked, said and written ------------------------------------------------


def draw_demo(save_dir: str, arch: str) -> str:
    """Draw the demo's photographs where they are not there yet; return their folder."""
    import draw_flowers

    with data_utils.signals_wait():
        import model_utils
    data_dir = str(Path(save_dir, DEMO_FOLDER))
    model_utils.find_architecture(arch)  # a mistyped name need not wait for the drawing
    data_utils.prepare_folder(save_dir, [])
    if not os.path.exists(data_dir):
        say(f"drawing flowers into {data_dir}")
        try:
            draw_flowers.draw_data(data_dir)
        except OSError as error:
            raise RunError(f"{data_dir} cannot be drawn: {error.strerror}") from error
    return data_dir


def download(args: argparse.Namespace) -> None:
    """Put a known data set into DATA_DIR; what is mistyped need not wait for that."""
    if args.category_names:
        data_utils.load_names(args.category_names)
    if not args.check_data:
        with data_utils.signals_wait():
            import model_utils
        model_utils.find_architecture(args.arch or DEFAULT_ARCH)
        data_utils.prepare_folder(args.save_dir, [*RUN_FILES, RESUME_FILE])
    known = data_utils.KNOWN_DATA_SETS[args.download]
    say(
        f"putting {args.download} into {args.data_dir}, from {known.archive} if it lies there, "
        f"else from {known.url}"
    )
    data_utils.download(args.download, args.data_dir, with_bar)


def tell(*lines: str) -> None:
    """Print results on stdout.

    Raises:
        RunError: nobody reads them, or the disk is full that they go to.
    """
    if not FIRST:
        return
    try:
        print(*map(printable, lines), sep="\n", flush=True)
    except OSError as error:
        with suppress(OSError, AttributeError):  # or Python would try once more at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise RunError(f"standard output cannot be written: {error.strerror}") from error


def say(*lines: str, everybody: bool = False) -> None:
    """Tell the user, on stderr, what is no result; of several processes the first one does."""
    if not lines or not (FIRST or everybody):
        return
    with suppress(OSError):
        print(*map(printable, lines), sep="\n", file=sys.stderr, flush=True)


def describe_data(data: DataSet, data_dir: str) -> Iterator[str]:
    """Say what was found in the data folder."""
    counts = np.bincount(data.splits["train"].labels)
    yield (
        f"{data_dir}: "
        + ", ".join(f"{len(split.paths)} {name}" for name, split in data.splits.items())
        + f" photographs; {len(counts)} categories of {counts.min()} to {counts.max()} in train"
    )
    yield from data.notes
    if "test" not in data.splits:
        yield "there is no test split: the figures at the end will be those of valid"


class Inspected(NamedTuple):
    """What reading every photograph once has shown."""

    data: DataSet  # what can be read
    names: list[str]  # parallel to the categories
    names_source: str
    lost: list[str]  # categories without a readable photograph in train
    problems: dict[str, list[str]]  # see `data_utils.find_problems`
    fingerprint: str


def inspect(
    data: DataSet, data_dir: str, names_file: str | None, workers: int, processes=None
) -> Inspected:
    """Read every photograph once. Splits that were carved are carved again without what is
    unreadable."""
    paths = [path for split in data.splits.values() for path in split.paths]
    mine = processes.share_of(paths) if processes else paths
    found = [
        *tqdm(
            data_utils.inspect(mine, workers),
            "reading",
            len(mine),
            unit=" photos",
            leave=False,
            disable=None if FIRST else True,
        )
    ]
    results = dict(zip(paths, processes.collect_objects(found) if processes else found))
    errors = {path: error for path, error in results.items() if isinstance(error, FlowersError)}
    readable = data_utils.find_data(data_dir, errors) if errors else data
    lost = [category for category in data.categories if category not in readable.categories]
    names, source, unnamed = data_utils.find_names(readable.categories, data_dir, names_file)
    return Inspected(
        readable,
        names,
        source,
        lost,
        data_utils.find_problems(readable, errors.values(), results, unnamed),
        data_utils.fingerprint(readable, data_dir, results),
    )


def problem_lines(problems: dict[str, list[str]], most: int) -> Iterator[str]:
    """Warn of what is wrong with the data, with at most so many examples of each kind."""
    for kind, found in problems.items():
        if found:
            yield f"warning: {kind}: {len(found)}"
            yield from (f"  {each}" for each in found[:most])
            if len(found) > most:
                yield f"  and {len(found) - most} more, which --check_data lists"


def check_data(inspected: Inspected) -> int:
    """Print what is in a data folder and what is wrong with it; return the exit code."""
    data, problems = inspected.data, inspected.problems
    tell("split  photographs  categories  in each")
    for name, split in data.splits.items():
        counts = np.bincount(split.labels, minlength=len(data.categories))
        tell(
            f"{name:5}  {len(split.paths):11}  {(counts > 0).sum():10}  "
            f"{counts.min()} to {counts.max()}"
        )
    tell(
        "",
        *data.notes,
        f"names: {inspected.names_source}",
        "",
        *(f"{len(found):6}  {kind}" for kind, found in problems.items()),
    )
    for kind, found in problems.items():
        if found:
            tell("", f"{kind}:", *(f"  {each}" for each in found))
    return 1 if any(problems.values()) else 0


def describe_device(device, wanted: bool, processes: int) -> Iterator[str]:
    """Say where the network runs; warn where no accelerator is there, hint where one idles."""
    import torch

    each = f"{processes} processes of " if processes > 1 else ""
    if device.type != "cpu":
        yield f"device: {each}one {device.type}" if each else f"device: {device}"
        return
    yield f"device: cpu, {each}{torch.get_num_threads()} threads"
    if wanted:
        yield "warning: --gpu, but PyTorch finds no accelerator here; the CPU does the work"
    elif torch.accelerator.is_available():
        yield f"hint: an accelerator ({torch.accelerator.current_accelerator()}) is idle; try --gpu"


def with_bar(
    batches: Iterable, total: int, description: str, unit: str = " photos", done: int = 0
) -> Iterator:
    """Show progress in photographs or bytes ("B") while the batches pass, on a terminal only."""
    with tqdm(
        total=total,
        desc=description,
        unit=unit,
        unit_scale=unit == "B",
        initial=done,
        leave=False,
        disable=None if FIRST else True,
    ) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))


def keep_earlier_run(save_dir: str) -> None:
    """Set an earlier run's files aside before the first ones of this run replace them."""
    kept = [data_utils.keep_previous(Path(save_dir, name)) for name in RUN_FILES]
    if any(kept):
        say("kept the earlier run as " + " and ".join(str(path) for path in kept if path))
    # Moved, so that nobody goes on from there with this run's checkpoint.
    with suppress(FileNotFoundError):
        last = Path(save_dir, RESUME_FILE)
        os.replace(last, last.with_stem("last.previous"))


HEADER = "epoch  train loss  valid loss  valid accuracy  seconds"


def epoch_line(
    epoch: int,
    train_loss: float,
    valid_loss: float,
    valid_accuracy: float,
    seconds: float,
    saved: int,
) -> str:
    """Format a row of the table under `HEADER`; the solved head is epoch 0."""
    return (
        f"{epoch or 'head':>5}  {train_loss:10.4f}  {valid_loss:10.4f}  "
        f"{valid_accuracy:14.2%}  {seconds:7.1f}{'  saved' if saved else ''}"
    )


def write_history(path: Path, rows: list[dict]) -> None:
    """Write a row an epoch; the file is whole at any time."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    with data_utils.atomic_write(path) as file:
        file.write(text.getvalue().encode())


def list_misnamed(
    paths: list[str], labels: np.ndarray, logits: np.ndarray, names: list[str]
) -> list[dict]:
    """List the photographs that were named wrongly, what they show and were taken for."""
    taken, certainty = logits.argmax(1), metrics.softmax(logits).max(1)
    return [
        {
            "file": paths[i],
            "name": names[labels[i]],
            "taken_for": names[taken[i]],
            "probability": float(certainty[i]),
        }
        for i in np.flatnonzero(taken != labels)
    ]


def report_lines(report: dict) -> Iterator[str]:
    """Say how good the best checkpoint is, and what it finds hard."""
    first, *others = metrics.summary_lines(f"{report['split']} accuracy", report)
    yield first + (
        "" if report["split"] == "test" else ", the figure by which the checkpoint was chosen"
    )
    yield from others
    shown = report["misnamed"][:10]
    for row in shown:
        yield (
            f"misnamed: {row['file']}: {row['name']}, taken for {row['taken_for']} "
            f"({row['probability']:.1%})"
        )
    if len(report["misnamed"]) > len(shown):
        yield f"misnamed: {len(report['misnamed']) - len(shown)} more, in the report"
    for split, figures in report["calibration"].items():
        yield metrics.calibration_line(split, figures)
    yield "keep their names with predict.py --reject: " + ", ".join(
        f"{share:.1%} of {split}" for split, share in report["kept"].items()
    )
    yield "seconds: " + ", ".join(
        f"{phase} {seconds:.1f}" for phase, seconds in report["seconds"].items()
    )
    yield f"peak memory: {report['peak_memory_mib']:.0f} MiB"
    yield "versions: " + ", ".join(
        f"{name} {version}" for name, version in report["versions"].items()
    )
    yield f"command: {report['command']}"


def draw(
    save_dir: str,
    history: list[dict],
    labels: np.ndarray,
    logits: np.ndarray,
    names: list[str],
    misnamed: list[dict],
    preprocessing,
) -> None:
    """Draw the run's pictures into the folder."""
    shown = misnamed[:60]
    photographs = [data_utils.load_image(row["file"], preprocessing) for row in shown]
    for name, figure in (
        ("curves", metrics.plot_curves(history)),
        ("confusion", metrics.plot_confusion(labels, logits.argmax(1), names)),
        (
            "mistakes",
            metrics.plot_photographs(
                photographs, [row["name"] for row in shown], [row["taken_for"] for row in shown]
            ),
        ),
    ):
        with data_utils.atomic_write(Path(save_dir, f"{name}.png")) as file:
            figure.savefig(file)


class Clock:
    """Counts the seconds of each phase of a run."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, phase: str) -> float:
        """Count the seconds since the last lap as this phase's; return them."""
        seconds, self.last = time.perf_counter() - self.last, time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0) + seconds
        return seconds


def peak_memory() -> float | None:
    """Ask how much memory this process has taken at most, in MiB; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def spell_command(script: str, *arguments: str) -> str:
    """Spell the command that runs a script of this folder from the present one."""
    path = os.path.relpath(Path(__file__).with_name(script))
    return shlex.join(["python", path, *arguments])


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal cannot show
    code = main()
    if TOGETHER and code:  # NCCL would wait for processes that may have gone
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)
