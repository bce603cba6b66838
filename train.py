"""Train a network to name flowers from a folder of photographs.

python train.py flowers --gpu
python train.py flowers --download flowers
python train.py flowers --resume
python train.py --demo
torchrun --nproc_per_node=2 train.py flowers
"""

import argparse
import json
import math
import os
import re
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

from data_utils import (
    DataSet,
    Inspected,
    describe_data,
    find_data,
    find_names,
    load_names,
    problem_lines,
)
from learning.activations import Activations, discard_others
from learning.evaluation import calibrate, evaluate, judge_checkpoint
from learning.fit import KEPT_VIEWS, learn
from learning.processes import join_processes
from learning.resume import Earlier, read_resume_file, save_training
from model_utils import new_model, save_checkpoint, versions
from network.architectures import find_architecture, list_architectures
from network.classifier import find_cut
from network.devices import find_device, keep_freed_memory, native_precision
from network.inference import for_inference
from photographs.batches import inspect, typical_side
from photographs.drawing import draw_data
from photographs.known_data import KNOWN_DATA_SETS
from photographs.splits import has_train
from reporting.metrics import rank_of, summarise
from reporting.report import HEADER, draw, epoch_line, list_misnamed, report_lines, write_history
from running.console import Parser, say, tell, with_bar
from running.environment import (
    Clock,
    count_processes,
    default_workers,
    peak_memory,
    require,
    share_processors,
)
from running.errors import (
    FlowersError,
    ImageError,
    InputError,
    RunError,
    is_lost_connection,
    is_out_of_memory,
)
from running.files import atomic_write, hold, keep_previous, prepare_folder
from running.settings import (
    FINE_TUNING,
    FROM_SCRATCH,
    HIGHEST_LR,
    LIMITS,
    SETTINGS,
    Recipe,
    settle,
    settle_again,
)
from running.signals import Stopped, signals_wait, stoppable

if __name__ == "__main__":  # until main() hears it, Ctrl-C ends this without a word
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import numpy as np

# torch and what imports it come in `run`, so that --help and most mistakes need not wait.

DEFAULT_ARCH = "efficientnet_lite0"
DEMO_FOLDER = "drawn_flowers"
RUN_FILES = ("checkpoint.pth", "history.csv", "report.json")
RESUME_FILE = "last.pth"

# Under torchrun several processes run this script. The first one talks and writes.
TOGETHER = count_processes() > 1
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
        choices=tuple(KNOWN_DATA_SETS),
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
        default=default_workers(),
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
    share_processors()
    # Pillow warns of odd files with lines of its own source; unreadable ones raise anyway.
    warnings.filterwarnings("ignore", module="PIL")
    outcome = Outcome(spell_command("train.py", *(sys.argv[1:] if argv is None else argv)))
    try:
        with stoppable():
            return run(args, outcome)
    except FlowersError as error:
        # Perhaps one process alone sees that a photograph has vanished.
        say(f"train.py: {error}", everybody=isinstance(error, ImageError))
        say(*outcome.lines())
        let_the_first_speak()
        return error.exit_code
    except Stopped as stop:
        say(f"train.py: {stop}", *outcome.lines())
        return stop.exit_code
    except (MemoryError, RuntimeError) as error:
        if TOGETHER and is_lost_connection(error):
            say(
                "train.py: another process of this run has ended, or is out of reach: "
                + str(error).splitlines()[0],
                *outcome.lines(),
            )
            return 1
        if not is_out_of_memory(error):
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
        tell(*list_architectures())
        return 0
    if args.plot:
        require("matplotlib", "--plot")
    data_dir = args.data_dir
    if TOGETHER and (args.demo or args.download and not has_train(data_dir)):
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
    if args.download and not has_train(data_dir):
        download(args)
    data = find_data(data_dir)
    find_names(data.categories, data_dir, args.category_names)
    if args.check_data:
        return (
            check_data(inspect(data, data_dir, args.category_names, args.workers)) if FIRST else 0
        )
    last = Path(args.save_dir, RESUME_FILE)
    if args.resume and not last.exists():
        raise InputError(f"--resume goes on from {last}, which does not exist")
    files = [*RUN_FILES, RESUME_FILE]
    if FIRST:
        prepare_folder(args.save_dir, files)
    with hold(args.save_dir, files) if FIRST else nullcontext():
        return train(args, data, data_dir, outcome)


def train(args: argparse.Namespace, data: DataSet, data_dir: str, outcome: "Outcome") -> int:
    """The whole way, from the folder of photographs to the report; return the exit code."""
    clock = Clock()
    checkpoint, last = Path(args.save_dir, "checkpoint.pth"), Path(args.save_dir, RESUME_FILE)
    with signals_wait():
        import torch

    keep_freed_memory()
    device = find_device(args.gpu)
    processes = join_processes(device)

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
            model, preprocessing, source = new_model(
                settings["arch"],
                len(data.categories),
                settings["image_size"],
                settings["hidden_units"],
                settings["weights"],
                typical_side(data.splits["train"].paths),
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
    cut = find_cut(model.body) if tail else 0
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
    frozen = for_inference(model)
    activations = {
        name: Activations(
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
    discard_others(args.save_dir, activations.values(), processes)
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
        result = evaluate(for_inference(network), activations["valid"], labels)
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
                    "precision": str(native_precision(device)),
                }
                save_checkpoint(
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
            save_training(
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
        **summarise(labels, logits.argmax(1), rank_of(logits, labels), data.categories, names),
        "misnamed": list_misnamed(data.splits[split].paths, labels, logits, names),
        **honesty,
        "kept": kept,
        "seconds": clock.seconds,
        "peak_memory_mib": peak_memory(),
        "versions": versions(),
        "command": outcome.command,
    }
    if processes.first:
        with atomic_write(Path(args.save_dir, "report.json")) as file:
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


# --- Learning and judging -------------------------------------------------------------


# --- What is checked, said and written ------------------------------------------------


def draw_demo(save_dir: str, arch: str) -> str:
    """Draw the demo's photographs where they are not there yet; return their folder."""

    with signals_wait():
        pass
    data_dir = str(Path(save_dir, DEMO_FOLDER))
    find_architecture(arch)  # a mistyped name need not wait for the drawing
    prepare_folder(save_dir, [])
    if not os.path.exists(data_dir):
        say(f"drawing flowers into {data_dir}")
        try:
            draw_data(data_dir)
        except OSError as error:
            raise RunError(f"{data_dir} cannot be drawn: {error.strerror}") from error
    return data_dir


def download(args: argparse.Namespace) -> None:
    """Put a known data set into DATA_DIR; what is mistyped need not wait for that."""
    if args.category_names:
        load_names(args.category_names)
    if not args.check_data:
        with signals_wait():
            pass
        find_architecture(args.arch or DEFAULT_ARCH)
        prepare_folder(args.save_dir, [*RUN_FILES, RESUME_FILE])
    known = KNOWN_DATA_SETS[args.download]
    say(
        f"putting {args.download} into {args.data_dir}, from {known.archive} if it lies there, "
        f"else from {known.url}"
    )
    download(args.download, args.data_dir, with_bar)


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


def keep_earlier_run(save_dir: str) -> None:
    """Set an earlier run's files aside before the first ones of this run replace them."""
    kept = [keep_previous(Path(save_dir, name)) for name in RUN_FILES]
    if any(kept):
        say("kept the earlier run as " + " and ".join(str(path) for path in kept if path))
    # Moved, so that nobody goes on from there with this run's checkpoint.
    with suppress(FileNotFoundError):
        last = Path(save_dir, RESUME_FILE)
        os.replace(last, last.with_stem("last.previous"))


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
