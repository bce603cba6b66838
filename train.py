"""Train a network to name flowers from a folder of photographs.

    python train.py flowers --gpu
    python train.py --demo
"""

import argparse
import csv
import difflib
import io
import math
import os
import shlex
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import data_utils
from data_utils import DataSet, FlowersError, InputError, Preprocessing, RunError, load_batches

# torch and what imports it come in `run`, so that --help and most mistakes need not wait.

DEFAULT_ARCH = "efficientnet_lite0"
DEMO_FOLDER = "drawn_flowers"
EPILOG = """\
exit codes:
  0    done
  1    a photograph cannot be read, or the run failed (disk, numbers, memory)
  2    the command line, the data folder, a names file or --save_dir cannot be used
  130  stopped by Ctrl-C
"""


class Recipe(NamedTuple):
    """How the epochs learn, where the command line does not say otherwise."""

    epochs: int
    lr: float  # the highest, after warming up
    batch_size: int


FINE_TUNING = Recipe(epochs=3, lr=3e-4, batch_size=32)
FROM_SCRATCH = Recipe(epochs=20, lr=1e-3, batch_size=64)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; exits with 2 where it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="train.py", description="Train a network to name flowers from a folder of photographs.",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)

    def defaults(field: str) -> str:
        return (f"(default: {getattr(FINE_TUNING, field)}, "
                f"from scratch {getattr(FROM_SCRATCH, field)})")

    parser.add_argument("data_dir", nargs="?", metavar="DATA_DIR",
                        help="photographs as DATA_DIR/{train,valid,test}/<category>/*.jpg")
    parser.add_argument("--demo", action="store_true",
                        help=f"draw a small data set into SAVE_DIR/{DEMO_FOLDER} and train on it")
    parser.add_argument("--arch", default=DEFAULT_ARCH, metavar="NAME",
                        help="efficientnet_lite0 (starts from ImageNet weights) or cnn (from "
                             "scratch) (default: %(default)s)")
    parser.add_argument("--epochs", type=int, metavar="N",
                        help="times that the network sees every photograph; 0: solve the head of "
                             f"a pretrained network and stop {defaults('epochs')}")
    parser.add_argument("--lr", "--learning_rate", "--learning-rate", type=float, metavar="RATE",
                        help=f"highest learning rate of the epochs {defaults('lr')}")
    parser.add_argument("--batch_size", "--batch-size", type=int, metavar="N",
                        help=f"photographs a step of the epochs {defaults('batch_size')}")
    parser.add_argument("--image_size", "--image-size", type=int, metavar="PIXELS",
                        help="side of the square that the network sees (default: 224, cnn 64)")
    parser.add_argument("--save_dir", "--save-dir", default=".", metavar="DIR",
                        help="folder for checkpoint.pth and history.csv (default: this folder)")
    parser.add_argument("--category_names", "--category-names", metavar="FILE",
                        help='JSON file of names, as in {"21": "fire lily"} (default: '
                             "cat_to_name.json of DATA_DIR; for Oxford's 102 categories this "
                             "project's own; else the folders' names)")
    parser.add_argument("--gpu", action="store_true", help="use an accelerator where there is one")
    parser.add_argument("--seed", type=int, default=0, metavar="N",
                        help="the same seed on the same CPU gives the same network "
                             "(default: %(default)s)")
    parser.add_argument("--workers", type=int, default=data_utils.default_workers(), metavar="N",
                        help="threads that decode photographs (default here: %(default)s)")
    args = parser.parse_args(argv)

    if args.demo == (args.data_dir is not None):
        parser.error("--demo draws its own photographs: leave DATA_DIR out" if args.demo else
                     "DATA_DIR is missing: the folder of photographs (or try --demo)")
    for flag, value, lowest in (("epochs", args.epochs, 0), ("batch_size", args.batch_size, 1),
                                ("image_size", args.image_size, 32), ("seed", args.seed, 0),
                                ("workers", args.workers, 1)):
        if value is not None and value < lowest:
            parser.error(f"--{flag} {value}: the lowest value is {lowest}")
    if args.lr is not None and not 0 < args.lr < math.inf:  # also refuses nan
        parser.error(f"--lr {args.lr}: a learning rate is a number above 0, such as 0.001")
    return args


def main(argv: list[str] | None = None) -> int:
    """Train as the command line says and return the exit code."""
    args = parse_args(argv)
    # Pillow warns of odd files with lines of its own source; unreadable ones raise anyway.
    warnings.filterwarnings("ignore", module="PIL")
    command = shlex.join(["python", "train.py", *(sys.argv[1:] if argv is None else argv)])
    try:
        run(args, command)
    except FlowersError as error:
        say(f"train.py: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("train.py: stopped by Ctrl-C")
        return 130
    return 0


def run(args: argparse.Namespace, command: str) -> None:
    """The whole way, from the folder of photographs to the figure of the best checkpoint."""
    # What can be wrong is found before time is spent.
    data_utils.prepare_folder(args.save_dir)
    data_dir = str(Path(args.save_dir, DEMO_FOLDER)) if args.demo else args.data_dir
    if args.demo and not os.path.exists(data_dir):
        import draw_flowers
        say(f"drawing flowers into {data_dir}")
        draw_flowers.draw_data(data_dir)
    data = data_utils.find_data(data_dir)
    names, names_source = data_utils.find_names(data.categories, data_dir, args.category_names)
    import torch

    import model_utils
    check_arch(args.arch, model_utils.ARCHITECTURES, args.epochs)
    device = model_utils.find_device(args.gpu)

    # The network, and how it will learn.
    model_utils.keep_freed_memory()
    torch.manual_seed(args.seed)
    model, preprocessing = model_utils.new_model(args.arch, len(data.categories), args.image_size)
    model.to(device)
    pretrained = model_utils.ARCHITECTURES[args.arch].pretrained
    given = {field: getattr(args, field) for field in Recipe._fields}
    recipe = (FINE_TUNING if pretrained else FROM_SCRATCH)._replace(
        **{field: value for field, value in given.items() if value is not None})
    say(*describe_data(data, data_dir),
        f"names: {names_source}",
        f"network: {args.arch}, {'ImageNet weights' if pretrained else 'from scratch'}, "
        f"{preprocessing.crop} x {preprocessing.crop} pixels, {recipe.epochs} epochs",
        *describe_device(device, args.gpu))

    # Every epoch is judged on valid; the checkpoint holds the best one so far.
    checkpoint = Path(args.save_dir, "checkpoint.pth")
    history: list[dict] = []
    best = None
    print(HEADER, flush=True)
    started = time.time()
    for epoch, train_loss in learn(model, data.splits["train"], preprocessing, recipe, pretrained,
                                   args.seed, args.workers):
        if not math.isfinite(train_loss):
            raise RunError(f"the loss of epoch {epoch} is not a finite number; try a lower --lr"
                           + (f" ({checkpoint} holds the best epoch before it)" if best else ""))
        result = evaluate(model, data.splits["valid"], preprocessing, args.workers, "valid")
        saved = best is None or result.is_better(best)
        if saved:
            if best is None:
                keep_earlier_run(args.save_dir)
            best = result
            figures = {"epoch": epoch, "valid_loss": result.loss,
                       "valid_accuracy": result.accuracy,
                       "valid_images": len(result.predictions)}
            model_utils.save_checkpoint(checkpoint, model, args.arch, preprocessing,
                                        data.categories, names, figures, args.seed, command)
        history.append({"epoch": epoch, "train_loss": train_loss, "valid_loss": result.loss,
                        "valid_accuracy": result.accuracy, "seconds": time.time() - started,
                        "saved": int(saved)})
        write_history(Path(args.save_dir, "history.csv"), history)
        print(epoch_line(**history[-1]), flush=True)
        started = time.time()

    # The figure to quote: the file, as prediction will load it, on photographs never used.
    split, result = "valid", best
    if "test" in data.splits:
        model, info = model_utils.load_checkpoint(checkpoint, device)
        split = "test"
        result = evaluate(model, data.splits["test"], info["preprocessing"], args.workers, "test")
    print(*report(split, result, data.splits[split].labels, names), sep="\n")
    print(f"checkpoint: {checkpoint}")
    print(f"next: {predict_command(data.splits[split].paths[0], checkpoint)}")


# --- Learning and judging -------------------------------------------------------------


def learn(model, split: data_utils.Split, preprocessing: Preprocessing, recipe: Recipe,
          pretrained: bool, seed: int, workers: int) -> Iterator[tuple[int, float]]:
    """Train the network in place; yield each epoch's number and mean training loss.

    A pretrained network's head is solved first, as epoch 0, on features that are computed
    once; the epochs then start from it and train the last third of the layers with it. From
    scratch there are the epochs alone, and they train everything.
    """
    import torch

    from model_utils import extract_features, freeze_first_layers, solve_head
    count = len(split.paths)
    if pretrained:
        batches = load_batches(split.paths, preprocessing, workers)
        features = extract_features(model, with_bar(batches, count, "features"))
        yield 0, solve_head(model.head, features, torch.from_numpy(split.labels))
        model.frozen_statistics = True
        freeze_first_layers(model.body)

    optimizer_class = torch.optim.AdamW if pretrained else torch.optim.Adam
    optimizer = optimizer_class([p for p in model.parameters() if p.requires_grad], lr=recipe.lr)
    steps = max(1, recipe.epochs * math.ceil(count / recipe.batch_size))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, steps))
    for epoch in range(1, recipe.epochs + 1):
        # Order and augmentation depend on the seed and the epoch alone, on any device.
        order = np.random.default_rng((seed, epoch)).permutation(count)
        batches = load_batches([split.paths[i] for i in order], preprocessing, workers,
                               recipe.batch_size, augment=(seed, epoch))
        yield epoch, train_one_epoch(
            model, with_bar(batches, count, f"epoch {epoch} of {recipe.epochs}"),
            split.labels[order], optimizer, scheduler)


def train_one_epoch(model, batches: Iterable[np.ndarray], labels: np.ndarray, optimizer,
                    scheduler) -> float:
    """Show the network every photograph once; return its mean loss while it learned."""
    import torch

    from model_utils import to_device
    model.train()
    total, seen = 0.0, 0
    for images in batches:
        targets = torch.from_numpy(labels[seen:seen + len(images)]).to(model.mean.device)
        loss = torch.nn.functional.cross_entropy(model(to_device(images, model)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(images)
        seen += len(images)
    return total / seen


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
    predictions: np.ndarray  # index of the most probable category of each photograph

    def is_better(self, other: "Evaluation") -> bool:
        """Compare accuracies; between equal ones the lower loss wins."""
        return (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


def evaluate(model, split: data_utils.Split, preprocessing: Preprocessing, workers: int,
             description: str) -> Evaluation:
    """Judge the network on a whole split."""
    import torch

    from model_utils import compute_logits
    batches = load_batches(split.paths, preprocessing, workers)
    logits = compute_logits(model, with_bar(batches, len(split.paths), description))
    predictions = logits.argmax(1).numpy()
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(split.labels)).item()
    return Evaluation(loss, float((predictions == split.labels).mean()), predictions)


# --- What is checked, said and written ------------------------------------------------


def check_arch(arch: str, known: Iterable[str], epochs: int | None) -> None:
    """Refuse a network that is not there, or that --epochs 0 would leave untrained.

    Raises:
        InputError: it is one of these.
    """
    if arch not in known:
        near = difflib.get_close_matches(arch.lower(), known, n=1, cutoff=0)[0]
        raise InputError(f"--arch {arch}: no such network; did you mean {near}? "
                         f"There are {', '.join(known)}")
    if epochs == 0 and not known[arch].pretrained:
        raise InputError(f"--epochs 0 would leave {arch} untrained: it starts from scratch")


def say(*lines: str) -> None:
    """Tell the user, on stderr, what is no result."""
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def describe_data(data: DataSet, data_dir: str) -> Iterator[str]:
    """Say what was found in the data folder."""
    counts = np.bincount(data.splits["train"].labels)
    yield (f"{data_dir}: " + ", ".join(f"{len(split.paths)} {name}"
                                       for name, split in data.splits.items())
           + f" photographs; {len(counts)} categories of {counts.min()} to {counts.max()} in train")
    if "test" not in data.splits:
        yield f"{data_dir} has no test split, and none is carved from the others"
    yield from data.notes


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


def with_bar(batches: Iterable[np.ndarray], total: int, description: str) -> Iterator[np.ndarray]:
    """Show progress in photographs while the batches pass, on a terminal only."""
    with tqdm(total=total, desc=description, unit=" photos", leave=False, disable=None) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))


def keep_earlier_run(save_dir: str) -> None:
    """Set an earlier run's files aside before the first ones of this run replace them."""
    kept = [data_utils.keep_previous(Path(save_dir, name))
            for name in ("checkpoint.pth", "history.csv")]
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


def report(split: str, result: Evaluation, labels: np.ndarray, names: list[str]) -> Iterator[str]:
    """Say how good the best checkpoint is, and what it finds hard."""
    right = result.predictions == labels
    yield (f"{split} accuracy: {right.mean():.2%} ({right.sum()} of {len(right)})"
           + ("" if split == "test" else ", the figure by which the checkpoint was chosen"))
    if right.all():
        return
    count = np.bincount(labels, minlength=len(names))
    wrong = np.bincount(labels[~right], minlength=len(names))
    hardest = sorted(np.flatnonzero(wrong), key=lambda i: (-wrong[i] / count[i], -wrong[i]))[:5]
    yield "hardest: " + ", ".join(f"{names[i]} ({count[i] - wrong[i]} of {count[i]} right)"
                                  for i in hardest)
    pairs = Counter(tuple(sorted(pair)) for pair in
                    zip(labels[~right].tolist(), result.predictions[~right].tolist()))
    (one, other), times = pairs.most_common(1)[0]
    yield f"most confused: {names[one]} and {names[other]} ({times} times)"


def predict_command(image: str, checkpoint: Path) -> str:
    """Spell the command that names a photograph with the checkpoint."""
    script = os.path.relpath(Path(__file__).with_name("predict.py"))
    return shlex.join(["python", script, image, str(checkpoint)])


if __name__ == "__main__":
    sys.exit(main())
