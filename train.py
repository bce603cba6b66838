"""Train a network to name flowers from a folder of photographs.

    python train.py flowers --gpu
    python train.py --demo
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
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

import data_utils
import metrics
from data_utils import DataSet, FlowersError, InputError, RunError, printable

# torch and what imports it come in `run`, so that --help and most mistakes need not wait.

DEFAULT_ARCH = "efficientnet_lite0"
DEMO_FOLDER = "drawn_flowers"
RUN_FILES = ("checkpoint.pth", "history.csv", "report.json")
EPILOG = """\
exit codes:
  0    done
  1    a photograph went missing during the run, or the run failed (disk, numbers, memory)
  2    the command line, data folder, names file, weights or --save_dir cannot be used
  3    the network is less accurate than --min_accuracy wants
  130  stopped by Ctrl-C
"""


class Recipe(NamedTuple):
    """How the epochs learn, where the command line does not say otherwise."""

    epochs: int
    lr: float  # the highest, after warming up
    batch_size: int


FINE_TUNING = Recipe(epochs=5, lr=4e-4, batch_size=64)
FROM_SCRATCH = Recipe(epochs=20, lr=1e-3, batch_size=64)

# The certainty that pretrained networks learn to leave to the other categories (Szegedy et
# al., "Rethinking the Inception architecture", CVPR 2016).
SMOOTHING = 0.1

# Random views of a photograph that are kept, beside the photograph as it is, where the
# first layers stay as they are; where they learn, every epoch sees a new one.
KEPT_VIEWS = 4


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; exits with 2 where it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="train.py", epilog=EPILOG,
        description="Train a network to name flowers from a folder of photographs.",
        allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)

    def defaults(field: str) -> str:
        return (f"(default: {getattr(FINE_TUNING, field)}, "
                f"from scratch {getattr(FROM_SCRATCH, field)})")

    parser.add_argument("data_dir", nargs="?", metavar="DATA_DIR",
                        help="photographs as DATA_DIR/{train,valid,test}/<category>/*.jpg; what is "
                             "missing of valid and test is carved from the rest")
    parser.add_argument("--demo", action="store_true",
                        help=f"draw a small data set into SAVE_DIR/{DEMO_FOLDER} and train on it")
    parser.add_argument("--arch", default=DEFAULT_ARCH, metavar="NAME",
                        help="network: efficientnet_lite0, cnn or one of torchvision's, such as "
                             "resnet50; help lists them (default: %(default)s)")
    parser.add_argument("--weights", metavar="none|FILE",
                        help="none: start from scratch; FILE: a state dict or a checkpoint to "
                             "start from (default: ImageNet weights, where the network has some)")
    parser.add_argument("--hidden_units", "--hidden-units", metavar="N[,N...]", default="",
                        help="width of each hidden layer of the head, as in 512 or 512,256 "
                             "(default: no hidden layer)")
    parser.add_argument("--tune", choices=("tail", "all"),
                        help="what the epochs train: the last third of the layers, on what the "
                             "others make of the photographs once and for all; or all (default: "
                             "tail for pretrained networks on a CPU whose layers form a chain, "
                             "else all)")
    parser.add_argument("--epochs", type=int, metavar="N",
                        help="times that the network sees every photograph; 0: solve the head of "
                             f"a pretrained network and stop {defaults('epochs')}")
    parser.add_argument("--lr", "--learning_rate", "--learning-rate", type=float, metavar="RATE",
                        help=f"highest learning rate of the epochs {defaults('lr')}")
    parser.add_argument("--batch_size", "--batch-size", type=int, metavar="N",
                        help=f"photographs a step of the epochs {defaults('batch_size')}")
    parser.add_argument("--image_size", "--image-size", type=int, metavar="PIXELS",
                        help="side of the square that the network sees (default: the network's "
                             "own)")
    parser.add_argument("--save_dir", "--save-dir", default=".", metavar="DIR",
                        help="folder for checkpoint.pth and history.csv (default: this folder)")
    parser.add_argument("--category_names", "--category-names", metavar="FILE",
                        help='JSON file of names, as in {"21": "fire lily"} (default: '
                             "cat_to_name.json of DATA_DIR; for Oxford's 102 categories this "
                             "project's own; else the folders' names)")
    parser.add_argument("--min_accuracy", "--min-accuracy", type=float, metavar="SHARE",
                        help="end with exit code 3 if a smaller share of test (without test: of "
                             "valid) is named rightly, as in 0.95")
    parser.add_argument("--plot", action="store_true",
                        help="draw curves.png, confusion.png and mistakes.png into SAVE_DIR")
    parser.add_argument("--gpu", action="store_true", help="use an accelerator where there is one")
    parser.add_argument("--seed", type=int, default=0, metavar="N",
                        help="the same seed on the same CPU gives the same network "
                             "(default: %(default)s)")
    parser.add_argument("--workers", type=int, default=data_utils.default_workers(), metavar="N",
                        help="threads that decode photographs (default here: %(default)s)")
    args = parser.parse_args(argv)

    if args.arch == "help":
        return args
    if args.demo == (args.data_dir is not None):
        parser.error("--demo draws its own photographs: leave DATA_DIR out" if args.demo else
                     "DATA_DIR is missing: the folder of photographs (or try --demo)")
    for flag, lowest, highest in (("epochs", 0, 10**6), ("batch_size", 1, 10**6),
                                  ("image_size", 32, 2048), ("seed", 0, 2**63 - 1),
                                  ("workers", 1, 1024)):
        value = getattr(args, flag)
        if value is not None and not lowest <= value <= highest:
            parser.error(f"--{flag} {value}: it must be from {lowest} to {highest}")
    if args.lr is not None and not 0 < args.lr <= 100:  # also refuses nan
        parser.error(f"--lr {args.lr}: it must be above 0 and at most 100; 0.001 is usual")
    if args.min_accuracy is not None and not 0 <= args.min_accuracy <= 1:
        parser.error(f"--min_accuracy {args.min_accuracy}: it must be from 0 to 1")
    if not re.fullmatch(r"([1-9]\d{0,5}(,[1-9]\d{0,5})*)?", args.hidden_units):
        parser.error(f"--hidden_units {args.hidden_units}: whole numbers above 0, as in 512,256")
    args.hidden_units = [int(units) for units in args.hidden_units.split(",") if units]
    return args


def main(argv: list[str] | None = None) -> int:
    """Train as the command line says and return the exit code."""
    args = parse_args(argv)
    data_utils.share_processors()
    # Pillow warns of odd files with lines of its own source; unreadable ones raise anyway.
    warnings.filterwarnings("ignore", module="PIL")
    command = shlex.join(["python", "train.py", *(sys.argv[1:] if argv is None else argv)])
    try:
        return run(args, command)
    except FlowersError as error:
        say(f"train.py: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("train.py: stopped by Ctrl-C")
        return 130
    except (MemoryError, RuntimeError) as error:
        if not data_utils.is_out_of_memory(error):
            raise
        say("train.py: out of memory; a lower --batch_size, --image_size or --hidden_units "
            "takes less")
        return 1


def run(args: argparse.Namespace, command: str) -> int:
    """The whole way, from the folder of photographs to the report; return the exit code."""
    if args.arch == "help":
        import model_utils
        print(*model_utils.list_architectures(), sep="\n")
        return 0

    # What can be wrong is found before time is spent.
    clock = Clock()
    if args.plot:
        data_utils.require("matplotlib", "--plot")
    data_dir = args.data_dir
    if args.demo:
        data_dir = draw_demo(args.save_dir, args.arch)
    data = data_utils.find_data(data_dir)
    names, names_source = data_utils.find_names(data.categories, data_dir, args.category_names)
    data_utils.prepare_folder(args.save_dir, RUN_FILES)
    import torch

    import model_utils
    model_utils.keep_freed_memory()
    device = model_utils.find_device(args.gpu)

    # The network, and how it will learn.
    torch.manual_seed(args.seed)
    model, preprocessing, source = model_utils.new_model(
        args.arch, len(data.categories), args.image_size, args.hidden_units, args.weights)
    model.to(device)
    pretrained = source is not None
    if args.epochs == 0 and not pretrained:
        raise InputError(f"--epochs 0 would leave {args.arch} untrained: it starts from scratch")
    given = {field: getattr(args, field) for field in Recipe._fields}
    recipe = (FINE_TUNING if pretrained else FROM_SCRATCH)._replace(
        **{field: value for field, value in given.items() if value is not None})
    cut = choose_cut(args.tune, args.arch, model, recipe.epochs)
    say(*describe_data(data, data_dir),
        f"names: {names_source}",
        f"network: {args.arch}, "
        + (f"starting from {source}, " if pretrained else "starting from scratch, ")
        + f"{preprocessing.crop} x {preprocessing.crop} pixels, {recipe.epochs} epochs"
        + (" of the last third of its layers" if cut else ""),
        *describe_device(device, args.gpu))
    clock.lap("start")
    data = leave_out_unreadable(data, data_dir, args.workers)
    clock.lap("reading every photograph once")
    frozen = model_utils.for_inference(model)
    activations = {
        name: model_utils.Activations(frozen, cut, data.splits[name].paths, preprocessing, views,
                                      args.seed, args.workers, args.save_dir, with_bar)
        for name, views in (("train", 1 + KEPT_VIEWS), ("valid", 1))}
    if cut:
        say(f"the other layers' activations are kept {activations['train'].place}")

    # Every epoch is judged on valid; the checkpoint holds the best one so far.
    checkpoint = Path(args.save_dir, "checkpoint.pth")
    history: list[dict] = []
    best = None
    print(HEADER, flush=True)
    for epoch, train_loss, sums, network in learn(
            model, activations["train"], data.splits["train"].labels, recipe, pretrained,
            args.seed):
        seconds = clock.lap("epochs" if epoch else "head")
        result = evaluate(model_utils.for_inference(network), activations["valid"],
                          data.splits["valid"].labels)
        if not math.isfinite(train_loss + result.loss):
            raise RunError(f"the loss of epoch {epoch} is not a finite number; try a lower --lr"
                           + (f" ({checkpoint} holds the best epoch before it)" if best else ""))
        saved = best is None or result.is_better(best)
        if saved:
            if best is None:
                keep_earlier_run(args.save_dir)
            best = result
            patterns = model_utils.find_patterns(sums)
            familiar = model_utils.familiarity(torch.from_numpy(result.logits), patterns)
            calibration = model_utils.Calibration(
                metrics.fit_temperature(result.logits, data.splits["valid"].labels), patterns,
                familiar.quantile(torch.linspace(0, 1, 1001)))
            figures = {"epoch": epoch, "valid_loss": result.loss,
                       "valid_accuracy": result.accuracy,
                       "valid_images": len(result.logits),
                       "precision": str(model_utils.native_precision(device))}
            model_utils.save_checkpoint(checkpoint, network, args.arch, preprocessing,
                                        data.categories, names, calibration, figures, args.seed,
                                        command)
        seconds += clock.lap("judging and saving")
        history.append({"epoch": epoch, "train_loss": train_loss, "valid_loss": result.loss,
                        "valid_accuracy": result.accuracy, "seconds": seconds,
                        "saved": int(saved)})
        write_history(Path(args.save_dir, "history.csv"), history)
        print(epoch_line(**history[-1]), flush=True)

    # The figures to quote: of the file, as prediction will load it, on photographs never used.
    split, labels = "valid", data.splits["valid"].labels
    logits = metrics.cross_fit(best.logits, labels)
    honesty = {"valid, cross-fitted": metrics.calibration(logits, labels)}
    kept = {"valid": data_utils.KEEP}  # what predict.py --reject leaves of the categories' photographs
    if "test" in data.splits:
        split, labels = "test", data.splits["test"].labels
        model, info = model_utils.load_checkpoint(checkpoint, device)
        photographs = model_utils.Activations(model, 0, data.splits["test"].paths,
                                              info["preprocessing"], workers=args.workers)
        logits = evaluate(model, photographs, labels).logits
        honesty["test"] = metrics.calibration(logits, labels)
        familiar = model_utils.familiarity(torch.from_numpy(logits), calibration.patterns)
        kept["test"] = (familiar >= calibration.least_familiar()).float().mean().item()
    clock.lap("final figures")
    report = {
        "split": split,
        **metrics.summarise(labels, logits.argmax(1), metrics.rank_of(logits, labels),
                            data.categories, names),
        "misnamed": list_misnamed(data.splits[split].paths, labels, logits, names),
        "temperature": calibration.temperature, "calibration": honesty, "kept": kept,
        "seconds": clock.seconds, "peak_memory_mib": peak_memory(),
        "versions": model_utils.versions(), "command": command}
    with data_utils.atomic_write(Path(args.save_dir, "report.json")) as file:
        file.write(json.dumps(report, indent=1).encode())
    if args.plot:
        draw(args.save_dir, history, labels, logits, names, report["misnamed"], preprocessing)
    print(*report_lines(report), sep="\n")
    print(f"report: {Path(args.save_dir, 'report.json')}")
    print(f"checkpoint: {checkpoint}")
    print(f"next: {predict_command(data.splits[split].paths[0], checkpoint)}")
    accuracy = report["top1"]["share"]
    if args.min_accuracy is not None and accuracy < args.min_accuracy:
        say(f"train.py: {split} accuracy {accuracy:.2%} is below --min_accuracy "
            f"{args.min_accuracy:.2%}")
        return 3
    return 0


def choose_cut(tune: str | None, arch: str, model, epochs: int) -> int:
    """Say how many layers stay as they are; 0: all learn, or, without epochs, none does.

    Raises:
        InputError: --tune tail, and the network has no tail.
    """
    import model_utils
    if tune == "tail" and not model.depths:
        raise InputError(f"--tune tail: {arch} as it is here has no tail; that takes a pretrained "
                         "network whose layers form a chain")
    if tune is None:
        tune = "tail" if model.depths and model.mean.device.type == "cpu" else "all"
    return model_utils.find_cut(model.body) if tune == "tail" and epochs else 0


# --- Learning and judging -------------------------------------------------------------


def learn(model, activations, labels: np.ndarray, recipe: Recipe, pretrained: bool,
          seed: int) -> Iterator[tuple[int, float, Any, Any]]:
    """Train the network in place; yield each epoch's number, training loss, the sum of the
    logits of each category's photographs (C, C), and the network.

    A pretrained network's head comes first, as epoch 0, on features that are computed once:
    a linear one is solved, one with hidden layers learns. The epochs then start from it and
    train it with the layers behind the cut of the activations. From scratch there are the
    epochs alone, and they train everything.

    What the epochs of a pretrained network yield is a moving average of its weights over
    about a tenth of the run: good from the first epoch on, while the weights themselves
    first lose what the head knew.
    """
    import torch

    from model_utils import chain, extract_features, learn_head, mirror, solve_head
    count = len(labels)
    smoothing = SMOOTHING if pretrained else 0.0
    if pretrained:
        batches = activations.batches(np.arange(count), np.zeros(count, int))
        features = extract_features(activations.model, with_bar(batches, count, "features"),
                                    count, activations.cut)
        if not features.isfinite().all():
            raise RunError("the network's features are not finite numbers; its weights are damaged")
        fit_head = solve_head if isinstance(model.head, torch.nn.Linear) else learn_head
        targets = torch.from_numpy(labels)
        logits = fit_head(model.head, features, targets, smoothing)
        loss = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)
        sums = torch.zeros([logits.shape[1]] * 2).index_add_(0, targets, logits)
        yield 0, loss.item(), sums, model
        del features, logits
        model.frozen_statistics = True
        for layer in chain(model.body)[:activations.cut]:
            layer.requires_grad_(False)

    optimizer_class = torch.optim.AdamW if pretrained else torch.optim.Adam
    optimizer = optimizer_class([p for p in model.parameters() if p.requires_grad], lr=recipe.lr,
                                fused=True)
    steps = max(1, recipe.epochs * math.ceil(count / recipe.batch_size))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, steps))
    averaged = copy.deepcopy(model) if pretrained else model
    for epoch in range(1, recipe.epochs + 1):
        # Order and views depend on the seed and the epoch alone, on any device.
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(count)
        views = (rng.integers(activations.views, size=count) if activations.cut else
                 np.full(count, epoch))
        batches = activations.batches(order, views, recipe.batch_size)
        if activations.cut:  # no more to compute, and twice as many views
            batches = (mirror(x, rng.random(len(x)) < 0.5) for x in batches)
        loss, sums = train_one_epoch(
            model, activations.cut, with_bar(batches, count, f"epoch {epoch} of {recipe.epochs}"),
            torch.from_numpy(labels[order]), smoothing, optimizer, scheduler, averaged, 10 / steps)
        yield epoch, loss, sums, averaged


def train_one_epoch(model, cut: int, batches: Iterable, labels, smoothing: float, optimizer,
                    scheduler, averaged, share: float) -> tuple[float, Any]:
    """Show the network every photograph once, while it learns.

    Every step moves the averaged network by a share towards the one that learns.

    Returns:
        The mean loss, and the sums of the logits by category (C, C).
    """
    import torch

    from model_utils import move_average
    total, seen, sums = 0.0, 0, 0
    for x in batches:
        model.train()
        if len(x) == 1:  # one photograph has no statistics for BatchNorm to normalise by
            model.freeze_statistics()
        targets = labels[seen:seen + len(x)].to(x.device)
        logits = model(x, cut)
        loss = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        move_average(averaged, model, share)
        total += loss.item() * len(x)
        seen += len(x)
        sums += logits.new_zeros([logits.shape[1]] * 2).index_add_(0, targets, logits.detach())
    return total / seen, sums.cpu()


def lr_factor(step: int, steps: int) -> float:
    """Scale the learning rate: up in a line for a tenth of the steps, then a cosine to 0."""
    warmup = steps / 10
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


class Evaluation(NamedTuple):
    """How a network does on a split."""

    loss: float  # mean cross-entropy, in nats
    accuracy: float  # 0..1
    logits: np.ndarray  # float32 (N, C)

    def is_better(self, other: "Evaluation") -> bool:
        """Compare accuracies; between equal ones the lower loss wins."""
        return (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


def evaluate(model, activations, labels: np.ndarray) -> Evaluation:
    """Judge a network from `for_inference` or a checkpoint on a whole split."""
    import torch

    from model_utils import compute_logits
    count = len(labels)
    batches = activations.batches(np.arange(count), np.zeros(count, int))
    logits = compute_logits(model, with_bar(batches, count, "judging"), activations.cut)
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).item()
    logits = logits.numpy()
    return Evaluation(loss, float((logits.argmax(1) == labels).mean()), logits)


# --- What is checked, said and written ------------------------------------------------


def draw_demo(save_dir: str, arch: str) -> str:
    """Draw the demo's photographs where they are not there yet; return their folder."""
    import draw_flowers
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


def say(*lines: str) -> None:
    """Tell the user, on stderr, what is no result."""
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def describe_data(data: DataSet, data_dir: str) -> Iterator[str]:
    """Say what was found in the data folder."""
    counts = np.bincount(data.splits["train"].labels)
    yield (f"{data_dir}: " + ", ".join(f"{len(split.paths)} {name}"
                                       for name, split in data.splits.items())
           + f" photographs; {len(counts)} categories of {counts.min()} to {counts.max()} in train")
    yield from data.notes
    if "test" not in data.splits:
        yield "there is no test split: the figures at the end will be those of valid"


def leave_out_unreadable(data: DataSet, data_dir: str, workers: int) -> DataSet:
    """Read every photograph once; name (ten at most) and count those that cannot be read.

    Splits that were carved are carved again, from what can be read.

    Raises:
        InputError: a category has no photograph left to train on.
    """
    paths = [path for split in data.splits.values() for path in split.paths]
    errors = tqdm(data_utils.find_unreadable(paths, workers), "reading", len(paths),
                  unit=" photos", leave=False, disable=None)
    unreadable = {path: error for path, error in zip(paths, errors) if error}
    if not unreadable:
        return data
    say(*(f"left out: {error}" for error in list(unreadable.values())[:10]),
        f"warning: {len(unreadable)} of {len(paths)} photographs cannot be read")
    readable = data_utils.find_data(data_dir, unreadable)
    lost = [category for category in data.categories if category not in readable.categories]
    if lost:
        raise InputError("no readable photograph left to train on of " + ", ".join(lost))
    return readable


def describe_device(device, wanted: bool) -> Iterator[str]:
    """Say where the network runs; warn where no accelerator is there, hint where one idles."""
    import torch
    if device.type != "cpu":
        yield f"device: {device}"
        return
    yield f"device: cpu, {torch.get_num_threads()} threads"
    if wanted:
        yield "warning: --gpu, but PyTorch finds no accelerator here; the CPU does the work"
    elif torch.accelerator.is_available():
        yield f"hint: an accelerator ({torch.accelerator.current_accelerator()}) is idle; try --gpu"


def with_bar(batches: Iterable, total: int, description: str) -> Iterator:
    """Show progress in photographs while the batches pass, on a terminal only."""
    with tqdm(total=total, desc=description, unit=" photos", leave=False, disable=None) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))


def keep_earlier_run(save_dir: str) -> None:
    """Set an earlier run's files aside before the first ones of this run replace them."""
    kept = [data_utils.keep_previous(Path(save_dir, name)) for name in RUN_FILES]
    if any(kept):
        say("kept the earlier run as " + " and ".join(str(path) for path in kept if path))


HEADER = "epoch  train loss  valid loss  valid accuracy  seconds"


def epoch_line(epoch: int, train_loss: float, valid_loss: float, valid_accuracy: float,
               seconds: float, saved: int) -> str:
    """Format a row of the table under `HEADER`; the solved head is epoch 0."""
    return (f"{epoch or 'head':>5}  {train_loss:10.4f}  {valid_loss:10.4f}  "
            f"{valid_accuracy:14.2%}  {seconds:7.1f}{'  saved' if saved else ''}")


def write_history(path: Path, rows: list[dict]) -> None:
    """Write a row an epoch; the file is whole at any time."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    with data_utils.atomic_write(path) as file:
        file.write(text.getvalue().encode())


def list_misnamed(paths: list[str], labels: np.ndarray, logits: np.ndarray,
                  names: list[str]) -> list[dict]:
    """List the photographs that were named wrongly, what they show and were taken for."""
    taken, certainty = logits.argmax(1), metrics.softmax(logits).max(1)
    return [{"file": paths[i], "name": names[labels[i]], "taken_for": names[taken[i]],
             "probability": float(certainty[i])} for i in np.flatnonzero(taken != labels)]


def report_lines(report: dict) -> Iterator[str]:
    """Say how good the best checkpoint is, and what it finds hard."""
    first, *others = metrics.summary_lines(f"{report['split']} accuracy", report)
    yield first + ("" if report["split"] == "test" else
                   ", the figure by which the checkpoint was chosen")
    yield from others
    shown = report["misnamed"][:10]
    for row in shown:
        yield (f"misnamed: {printable(row['file'])}: {row['name']}, taken for {row['taken_for']} "
               f"({row['probability']:.1%})")
    if len(report["misnamed"]) > len(shown):
        yield f"misnamed: {len(report['misnamed']) - len(shown)} more, in the report"
    for split, figures in report["calibration"].items():
        yield metrics.calibration_line(split, figures)
    yield "keep their names with predict.py --reject: " + ", ".join(
        f"{share:.1%} of {split}" for split, share in report["kept"].items())
    yield "seconds: " + ", ".join(f"{phase} {seconds:.1f}"
                                  for phase, seconds in report["seconds"].items())
    yield f"peak memory: {report['peak_memory_mib']:.0f} MiB"
    yield "versions: " + ", ".join(f"{name} {version}"
                                   for name, version in report["versions"].items())
    yield f"command: {printable(report['command'])}"


def draw(save_dir: str, history: list[dict], labels: np.ndarray, logits: np.ndarray,
         names: list[str], misnamed: list[dict], preprocessing) -> None:
    """Draw the run's pictures into the folder."""
    shown = misnamed[:60]
    photographs = [data_utils.load_image(row["file"], preprocessing) for row in shown]
    with data_utils.atomic_write(Path(save_dir, "curves.png")) as file:
        metrics.plot_curves(file, history)
    with data_utils.atomic_write(Path(save_dir, "confusion.png")) as file:
        metrics.plot_confusion(file, labels, logits.argmax(1), names)
    with data_utils.atomic_write(Path(save_dir, "mistakes.png")) as file:
        metrics.plot_mistakes(file, photographs, [row["name"] for row in shown],
                              [row["taken_for"] for row in shown])


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


def predict_command(image: str, checkpoint: Path) -> str:
    """Spell the command that names a photograph with the checkpoint."""
    script = os.path.relpath(Path(__file__).with_name("predict.py"))
    return shlex.join(["python", script, image, str(checkpoint)])


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal cannot show
    sys.exit(main())
