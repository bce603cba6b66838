"""Name the flowers on photographs.

python predict.py image.jpg checkpoint.pth --top_k 5
python predict.py photographs/ checkpoint.pth --format csv --output names.csv
python predict.py --export flowers.onnx checkpoint.pth
"""

import argparse
import math
import os
import re
import signal
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from typing import Any, NoReturn

from data_utils import load_names
from model_utils import load_checkpoint
from network.devices import find_device, keep_freed_memory
from photographs.batches import ACCELERATOR_BATCH, EVALUATION_BATCH
from photographs.folders import is_image_name
from photographs.images import FORMATS, load_image, open_image
from prediction.info import KEEP
from prediction.inputs import expand, is_one_photograph, read
from prediction.onnx_runtime import is_exported, predict_each
from prediction.records import CSV_HEADER, csv_row, format_alone, make_record
from prediction.score import Score
from reporting.plots import plot_guesses
from running.console import printable
from running.environment import default_workers, require, share_processors
from running.errors import FlowersError, InputError, RunError, is_out_of_memory
from running.files import atomic_write, is_special, prepare_folder
from running.signals import signals_wait
from running.threads import map_ahead

# torch and what imports it come where a checkpoint is loaded: --help, mistakes and exported
# networks need not wait for it.

EPILOG = """\
exit codes:
  0    every input was named
  1    some were not, or there is too little memory or disk
  2    the command line, the checkpoint or the names file cannot be used
  130  stopped by Ctrl-C
  143  stopped by SIGTERM
"""


class Parser(argparse.ArgumentParser):
    """A parser whose messages leave the terminal alone, whatever was typed."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; exits with 2 where it makes no sense."""
    parser = Parser(
        prog="predict.py",
        description="Name the flowers on photographs.",
        usage="%(prog)s INPUT [INPUT ...] CHECKPOINT [flags]\n       %(prog)s --info CHECKPOINT\n"
        "       %(prog)s --export FILE CHECKPOINT",
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="INPUT ... CHECKPOINT",
        help="photographs, folders of them, or - for paths on standard input, one "
        "a line; and the checkpoint.pth that train.py wrote, or a file of "
        "--export",
    )
    parser.add_argument(
        "--top_k",
        "--top-k",
        type=int,
        default=5,
        metavar="K",
        help="how many names to print, the most probable first (default: %(default)s)",
    )
    parser.add_argument(
        "--category_names",
        "--category-names",
        metavar="FILE",
        help='JSON file of names, as in {"21": "fire lily"} (default: the checkpoint\'s)',
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="text",
        help="how a record is written (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write the records into a file, which appears when it is whole "
        "(default: standard output)",
    )
    parser.add_argument(
        "--null",
        action="store_true",
        help="the paths on standard input end with NUL, as those of find -print0",
    )
    parser.add_argument(
        "--shard",
        default="1/1",
        metavar="I/N",
        help="name every Nth input, from the Ith on; N such jobs share a list",
    )
    parser.add_argument(
        "--reject",
        action="store_true",
        help="answer unknown where a photograph looks like nothing that the network learned",
    )
    parser.add_argument(
        "--keep",
        type=float,
        default=KEEP,
        metavar="SHARE",
        help="with --reject: the share of the photographs of its categories that "
        "keep their names (default: %(default)s)",
    )
    parser.add_argument(
        "--score",
        action="store_true",
        help="the folder that a photograph is in tells its category: say on "
        "standard error how many were named rightly",
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="draw the one photograph beside its most probable names"
    )
    parser.add_argument("--info", action="store_true", help="say what a checkpoint knows, and stop")
    parser.add_argument(
        "--export",
        metavar="FILE",
        help="write the checkpoint's network into an ONNX file for applications, "
        "flowers.onnx, and stop",
    )
    parser.add_argument(
        "--batch_size",
        "--batch-size",
        type=int,
        metavar="N",
        help="photographs that are computed at once (default: "
        f"{EVALUATION_BATCH}, with --gpu "
        f"{ACCELERATOR_BATCH})",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=default_workers(),
        metavar="N",
        help="threads that decode photographs (default here: %(default)s)",
    )
    parser.add_argument("--gpu", action="store_true", help="use an accelerator where there is one")
    argv = sys.argv[1:] if argv is None else argv
    end = argv.index("--") if "--" in argv else len(argv)  # behind it are paths, like -x.jpg
    args = parser.parse_intermixed_args(argv[:end])
    args.paths += argv[end + 1 :]

    if args.batch_size is None:
        args.batch_size = ACCELERATOR_BATCH if args.gpu else EVALUATION_BATCH
    for flag, highest in (("top_k", None), ("batch_size", 10_000), ("workers", 1024)):
        value = getattr(args, flag)
        if value < 1 or highest and value > highest:
            parser.error(
                f"--{flag} {value}: it must be at least 1"
                + (f" and at most {highest}" if highest else "")
            )
    if not 0 <= args.keep <= 1:
        parser.error(f"--keep {args.keep}: it must be from 0 to 1")
    shard = re.fullmatch(r"(\d{1,9})/(\d{1,9})", args.shard)
    if not shard or not 1 <= int(shard[1]) <= int(shard[2]):
        parser.error(f"--shard {args.shard}: the second of eight is 2/8")
    args.shard = int(shard[1]), int(shard[2])
    if args.paths and is_image_name(args.paths[-1]):
        parser.error(f"{args.paths[-1]} is an image; the checkpoint comes last")
    alone = "--info" if args.info else "--export FILE" if args.export else None
    if not args.paths or len(args.paths) == 1 and not alone:
        parser.error(
            "an image and a checkpoint are needed, in this order"
            if not alone
            else f"{alone} takes a checkpoint"
        )
    *args.inputs, args.checkpoint = args.paths
    if alone and args.inputs:
        parser.error(f"{alone} takes a checkpoint and nothing else")
    if args.export and (args.info or is_exported(args.checkpoint) or not is_exported(args.export)):
        parser.error(
            "--export turns a checkpoint into a file named .onnx, as in --export "
            "flowers.onnx checkpoint.pth"
        )
    if args.inputs.count("-") > 1:
        parser.error("- can be read only once")
    if args.plot and not is_one_photograph(args.inputs):
        parser.error("--plot takes one photograph")
    return args


def main(argv: list[str] | None = None) -> int:
    """Name the flowers as the command line says and return the exit code."""
    args = parse_args(argv)
    share_processors()
    # Pillow warns of odd files with lines of its own source; unreadable ones raise anyway.
    warnings.filterwarnings("ignore", module="PIL")
    try:
        return run(args)
    except FlowersError as error:
        say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        say("out of memory; a lower --batch_size takes less")
        return 1


def run(args: argparse.Namespace) -> int:
    """The whole way, from paths to records; return the exit code."""
    # What can be wrong is found before torch is imported.
    check_checkpoint_file(args.checkpoint)
    new_names = load_names(args.category_names) if args.category_names else None
    alone = is_one_photograph(args.inputs)
    if alone and args.format == "text":
        open_image(args.inputs[0]).close()
    if args.plot:
        require("matplotlib", "--plot")
    if args.export:
        export(args.export, args.checkpoint)
        return 0
    predict_each, info = load(args.checkpoint, args.gpu, args.batch_size)
    if args.info:
        print(*map(printable, describe(info)), sep="\n")
        return 0
    categories, names = info["categories"], info["names"]
    if new_names is not None:
        names = [new_names.get(category, category) for category in categories]
        known = len(new_names.keys() & set(categories))
        if known < max(len(categories), len(new_names)):
            say(
                f"warning: {args.category_names} names {known} of the {len(categories)} categories "
                f"of {args.checkpoint}, and {len(new_names) - known} others"
            )

    # From paths to records, one after the other, so that memory does not grow.
    first, step = args.shard
    paths = islice(expand(args.inputs, b"\0" if args.null else b"\n"), first - 1, None, step)
    photographs = map_ahead(
        lambda item: read(*item, info["preprocessing"]), paths, args.workers, 3 * args.batch_size
    )
    lowest = info["calibration"].least_familiar(args.keep) if args.reject else -math.inf
    score = Score(categories) if args.score else None
    format_record = format_alone if alone and args.format == "text" else FORMATS[args.format]
    count = failed = 0
    with open_output(args.output, args.format) as write:
        if args.format == "csv":
            write(csv_row(CSV_HEADER))
        for file, result in with_bar(predict_each(photographs)):
            record = make_record(file, result, categories, names, args.top_k, lowest)
            if score and not record.error:
                score.add(file, result.probabilities)
            count += 1
            failed += bool(record.error)
            write(format_record(record))
    if score:
        say(*score.lines(names))
    if args.plot and count > failed:
        photograph = load_image(args.inputs[0], info["preprocessing"])
        figure = plot_guesses(
            photograph,
            [guess.name for guess in record.guesses],
            [guess.probability for guess in record.guesses],
        )
        with atomic_write(args.plot) as file:
            figure.savefig(file)
    if failed:
        say(f"{failed} of {count} inputs could not be named")
    return 1 if failed else 0


# --- Inputs ---------------------------------------------------------------------------


# --- Records --------------------------------------------------------------------------


# --- Output ---------------------------------------------------------------------------


@contextmanager
def open_output(path: str | None, format_name: str) -> Iterator[Callable[[str], None]]:
    """Open the file or standard output; yield a function that writes and flushes a record."""
    # Records carry file names as they are, whatever bytes those are of.
    encoding, errors = "utf-8", "surrogateescape"
    if path:
        prepare_folder(os.path.dirname(path) or ".", [os.path.basename(path)])
    elif format_name == "text":  # names that the terminal cannot show
        encoding, errors = sys.stdout.encoding or encoding, "backslashreplace"
    with atomic_write(path) if path else nullcontext(sys.stdout.buffer) as file:

        def write(text: str) -> None:
            try:
                file.write(text.encode(encoding, errors))
                file.flush()
            except OSError as error:
                raise RunError(
                    f"{path or 'standard output'} cannot be written: {error.strerror}"
                ) from error

        yield write


def with_bar(records: Iterable) -> Iterator:
    """Show progress where standard error is a terminal and the records go elsewhere."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        return iter(records)
    from tqdm import tqdm

    return iter(tqdm(records, unit=" photos", leave=False))


def say(*lines: str) -> None:
    """Tell the user, on standard error, what is no record."""
    print(
        *(f"predict.py: {printable(line)}" for line in lines), sep="\n", file=sys.stderr, flush=True
    )


# --- Checkpoints ----------------------------------------------------------------------


def check_checkpoint_file(path: str) -> None:
    """See that a file could be a checkpoint, without reading more than its directory.

    Raises:
        InputError: it cannot be one.
    """
    if not os.path.exists(path):
        raise InputError(f"{path}: no such checkpoint")
    if is_special(path):
        raise InputError(f"{path} is a pipe or a device; the checkpoint is a file")
    if os.path.isdir(path):
        raise InputError(
            f"{path} is a folder; the checkpoint is a file that train.py wrote, "
            "such as checkpoint.pth"
        )
    # torch.save writes an archive; one that was cut off is none.
    if not is_exported(path) and not zipfile.is_zipfile(path):
        raise InputError(f"{path} is damaged or no checkpoint of train.py")


def load(
    path: str, gpu: bool, batch_size: int
) -> tuple[Callable[[Iterable], Iterator], dict[str, Any]]:
    """Load a checkpoint or an exported network; return it with what the file knows.

    The network is a function that puts predictions in the place of photographs, see
    `predict_each`.

    Raises:
        InputError: the file cannot be used.
    """
    if is_exported(path):
        if gpu:
            say("warning: an exported network is computed by the CPU here")
        predict, info = load(path)
        return partial(predict_each, predict), info
    with signals_wait():
        pass
    keep_freed_memory()
    device = find_device(gpu)
    if gpu and device.type == "cpu":
        say("warning: PyTorch finds no accelerator here; the CPU does the work")
    model, info = load_checkpoint(path, device)
    return partial(predict_each, model, info["calibration"].patterns, batch_size=batch_size), info


def export(path: str, checkpoint: str) -> None:
    """Write a checkpoint's network into an ONNX file.

    Raises:
        FlowersError: the checkpoint cannot be used, a package is missing, or the disk is full.
    """
    for package in ("onnx", "onnxscript"):
        require(package, "--export", "onnx onnxscript")
    prepare_folder(os.path.dirname(path) or ".", [os.path.basename(path)])
    with signals_wait():
        pass
    export(path, checkpoint)


def describe(info: dict[str, Any]) -> Iterator[str]:
    """Say what a checkpoint knows."""
    figures, preprocessing = info["figures"], info["preprocessing"]
    yield f"network: {info['arch']}"
    yield f"categories: {len(info['categories'])}"
    yield "names: " + ", ".join(info["names"])
    yield (
        f"valid accuracy: {figures['valid_accuracy']:.2%} (n = {figures['valid_images']}), "
        f"after epoch {figures['epoch']}, in {figures['precision']}"
    )
    yield f"temperature: {info['calibration'].temperature:.4f}"
    yield (
        f"preprocessing: short side {preprocessing.resize}, centre {preprocessing.crop} x "
        f"{preprocessing.crop}, {preprocessing.interpolation}"
    )
    yield f"trained: {info['date']}, seed {info['seed']}, by {info['command']}"
    yield "with: " + ", ".join(f"{name} {version}" for name, version in info["versions"].items())


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaves no half file behind
    sys.exit(main())
