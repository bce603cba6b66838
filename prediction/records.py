"""Name the flowers on photographs.

python predict.py image.jpg checkpoint.pth --top_k 5
python predict.py photographs/ checkpoint.pth --format csv --output names.csv
python predict.py --export flowers.onnx checkpoint.pth
"""

import argparse
import csv
import io
import json
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
from typing import Any, BinaryIO, NamedTuple, NoReturn

import numpy as np

import data_utils
import onnx_utils
from data_utils import FlowersError, ImageError, InputError, Prediction, RunError, printable

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
        default=data_utils.KEEP,
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
        f"{data_utils.EVALUATION_BATCH}, with --gpu "
        f"{data_utils.ACCELERATOR_BATCH})",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=data_utils.default_workers(),
        metavar="N",
        help="threads that decode photographs (default here: %(default)s)",
    )
    parser.add_argument("--gpu", action="store_true", help="use an accelerator where there is one")
    argv = sys.argv[1:] if argv is None else argv
    end = argv.index("--") if "--" in argv else len(argv)  # behind it are paths, like -x.jpg
    args = parser.parse_intermixed_args(argv[:end])
    args.paths += argv[end + 1 :]

    if args.batch_size is None:
        args.batch_size = data_utils.ACCELERATOR_BATCH if args.gpu else data_utils.EVALUATION_BATCH
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
    if args.paths and data_utils.is_image_name(args.paths[-1]):
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
    if args.export and (
        args.info
        or onnx_utils.is_exported(args.checkpoint)
        or not onnx_utils.is_exported(args.export)
    ):
        parser.error(
            "--export turns a checkpoint into a file named .onnx, as in --export "
            "flowers.onnx checkpoint.pth"
        )
    if args.inputs.count("-") > 1:
        parser.error("- can be read only once")
    if args.plot and not is_one_photograph(args.inputs):
        parser.error("--plot takes one photograph")
    return args


def is_one_photograph(inputs: list[str]) -> bool:
    return len(inputs) == 1 and inputs != ["-"] and not os.path.isdir(inputs[0])


def main(argv: list[str] | None = None) -> int:
    """Name the flowers as the command line says and return the exit code."""
    args = parse_args(argv)
    data_utils.share_processors()
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
        if not data_utils.is_out_of_memory(error):
            raise
        say("out of memory; a lower --batch_size takes less")
        return 1


def run(args: argparse.Namespace) -> int:
    """The whole way, from paths to records; return the exit code."""
    # What can be wrong is found before torch is imported.
    check_checkpoint_file(args.checkpoint)
    new_names = data_utils.load_names(args.category_names) if args.category_names else None
    alone = is_one_photograph(args.inputs)
    if alone and args.format == "text":
        data_utils.open_image(args.inputs[0]).close()
    if args.plot:
        data_utils.require("matplotlib", "--plot")
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
    photographs = data_utils.map_ahead(
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
        import metrics

        photograph = data_utils.load_image(args.inputs[0], info["preprocessing"])
        figure = metrics.plot_guesses(
            photograph,
            [guess.name for guess in record.guesses],
            [guess.probability for guess in record.guesses],
        )
        with data_utils.atomic_write(args.plot) as file:
            figure.savefig(file)
    if failed:
        say(f"{failed} of {count} inputs could not be named")
    return 1 if failed else 0


# --- Inputs ---------------------------------------------------------------------------


def expand(inputs: Iterable[str], separator: bytes) -> Iterator[tuple[str, FlowersError | None]]:
    """Yield the path of every photograph; with an error, where there is none to read."""
    for path in inputs:
        if path == "-":
            yield from expand(
                (f"./{p}" if p == "-" else p for p in read_paths(sys.stdin.buffer, separator)),
                separator,
            )
        elif not os.path.isdir(path):
            yield path, None
        else:
            try:
                found = data_utils.find_photographs(path)
            except InputError as error:
                yield path, error
                continue
            if not found:
                yield path, ImageError(f"{path} holds no photographs")
            yield from ((file, None) for file in found)


def read_paths(stream: BinaryIO, separator: bytes) -> Iterator[str]:
    """Read paths that a separator stands between; empty ones are none."""
    rest = b""
    while part := stream.read1(2**16):
        *whole, rest = (rest + part).split(separator)
        yield from (os.fsdecode(path) for path in whole if path)
    if rest:
        yield os.fsdecode(rest)


def read(path: str, error: FlowersError | None, preprocessing):
    """Read a photograph; return its path with its pixels, or with what is wrong with it."""
    if error is None:
        try:
            return path, data_utils.load_image(path, preprocessing)
        except ImageError as unreadable:
            error = unreadable
    return path, error


# --- Records --------------------------------------------------------------------------

UNKNOWN = "unknown"  # the answer where nothing that was learned is to be seen


class Guess(NamedTuple):
    """One of the names that a photograph might have."""

    name: str
    category: str
    probability: float  # 0..1


class Record(NamedTuple):
    """What is to be said of an input."""

    file: str
    guesses: list[Guess]  # the most probable first
    known: bool  # whether it looks like something that the network learned
    error: FlowersError | None


def make_record(
    file: str,
    result: Prediction | FlowersError,
    categories: list[str],
    names: list[str],
    top_k: int,
    lowest: float,
) -> Record:
    """Say of a prediction, or error, what is to be said.

    What is less familiar than `lowest` is unknown.
    """
    if isinstance(result, FlowersError):
        return Record(file, [], False, result)
    best = np.argsort(-result.probabilities, kind="stable")[:top_k].tolist()
    guesses = [Guess(names[i], categories[i], result.probabilities[i].item()) for i in best]
    return Record(file, guesses, result.familiarity >= lowest, None)


def format_alone(record: Record) -> str:
    """Write the names of the one photograph, aligned in columns.

    Raises:
        FlowersError: the record's error, which is all that there is to say.
    """
    if record.error:
        raise record.error
    width = max(len(guess.name) for guess in record.guesses)
    return ("" if record.known else f"{UNKNOWN}\n") + "".join(
        f"{guess.probability:7.2%}  {guess.name:{width}}  {guess.category}\n"
        for guess in record.guesses
    )


def format_text(record: Record) -> str:
    """Write a photograph's path on a line, and below it its names or what is wrong with it."""
    below = f"  {printable(str(record.error))}\n" if record.error else format_alone(record)
    return f"{printable(record.file)}\n{below}"


CSV_HEADER = ("file", "answer", "rank", "label", "category", "probability", "error")


def format_csv(record: Record) -> str:
    """Write a row for each name, or one with the error."""
    if record.error:
        return csv_row((record.file, "", "", "", "", "", str(record.error)))
    answer = record.guesses[0].name if record.known else UNKNOWN
    return "".join(
        csv_row(
            (record.file, answer, rank, guess.name, guess.category, f"{guess.probability:.6f}", "")
        )
        for rank, guess in enumerate(record.guesses, start=1)
    )


def csv_row(fields: Iterable[object]) -> str:
    row = io.StringIO(newline="")
    csv.writer(row).writerow(fields)  # its own line end makes it quote both "\r" and "\n"
    return row.getvalue().removesuffix("\r\n") + "\n"


def format_jsonl(record: Record) -> str:
    """Write a JSON object on one line of ASCII."""
    text = json.dumps
    start = f'{{"file": {text(record.file)}'
    if record.error:
        return f'{start}, "error": {text(str(record.error))}}}\n'
    guesses = [
        f'"label": {text(guess.name)}, "category": {text(guess.category)}, '
        f'"probability": {guess.probability:.6f}'
        for guess in record.guesses
    ]
    top = ", ".join(f"{{{guess}}}" for guess in guesses)
    answer = (
        guesses[0]
        if record.known
        else (f'"label": {text(UNKNOWN)}, "category": null, "probability": null')
    )
    return f'{start}, {answer}, "top": [{top}]}}\n'


FORMATS = {"text": format_text, "csv": format_csv, "jsonl": format_jsonl}


# --- Output ---------------------------------------------------------------------------


@contextmanager
def open_output(path: str | None, format_name: str) -> Iterator[Callable[[str], None]]:
    """Open the file or standard output; yield a function that writes and flushes a record."""
    # Records carry file names as they are, whatever bytes those are of.
    encoding, errors = "utf-8", "surrogateescape"
    if path:
        data_utils.prepare_folder(os.path.dirname(path) or ".", [os.path.basename(path)])
    elif format_name == "text":  # names that the terminal cannot show
        encoding, errors = sys.stdout.encoding or encoding, "backslashreplace"
    with data_utils.atomic_write(path) if path else nullcontext(sys.stdout.buffer) as file:

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


class Score:
    """Counts how many photographs were named as the folder is that they are in."""

    def __init__(self, categories: list[str]):
        self.categories = categories
        self.index = {category: i for i, category in enumerate(categories)}
        self.labels: list[int] = []
        self.predictions: list[int] = []
        self.ranks: list[int] = []
        self.others = 0  # photographs in folders that are no categories

    def add(self, file: str, probabilities: np.ndarray) -> None:
        """Count a photograph by its probabilities (C,)."""
        import metrics

        label = self.index.get(os.path.basename(os.path.dirname(os.path.abspath(file))))
        if label is None:
            self.others += 1
            return
        self.labels.append(label)
        self.predictions.append(int(probabilities.argmax()))
        self.ranks.append(int(metrics.rank_of(probabilities[None], np.array([label]))[0]))

    def lines(self, names: list[str]) -> Iterator[str]:
        """Say how good the names were."""
        import metrics

        if self.others:
            yield f"{self.others} photographs are not in a folder named as a category"
        if self.labels:
            yield from metrics.summary_lines(
                "accuracy",
                metrics.summarise(
                    *map(np.array, (self.labels, self.predictions, self.ranks)),
                    self.categories,
                    names,
                ),
            )


# --- Checkpoints ----------------------------------------------------------------------


def check_checkpoint_file(path: str) -> None:
    """See that a file could be a checkpoint, without reading more than its directory.

    Raises:
        InputError: it cannot be one.
    """
    if not os.path.exists(path):
        raise InputError(f"{path}: no such checkpoint")
    if data_utils.is_special(path):
        raise InputError(f"{path} is a pipe or a device; the checkpoint is a file")
    if os.path.isdir(path):
        raise InputError(
            f"{path} is a folder; the checkpoint is a file that train.py wrote, "
            "such as checkpoint.pth"
        )
    # torch.save writes an archive; one that was cut off is none.
    if not onnx_utils.is_exported(path) and not zipfile.is_zipfile(path):
        raise InputError(f"{path} is damaged or no checkpoint of train.py")


def load(
    path: str, gpu: bool, batch_size: int
) -> tuple[Callable[[Iterable], Iterator], dict[str, Any]]:
    """Load a checkpoint or an exported network; return it with what the file knows.

    The network is a function that puts predictions in the place of photographs, see
    `model_utils.predict_each`.

    Raises:
        InputError: the file cannot be used.
    """
    if onnx_utils.is_exported(path):
        if gpu:
            say("warning: an exported network is computed by the CPU here")
        predict, info = onnx_utils.load(path)
        return partial(onnx_utils.predict_each, predict), info
    with data_utils.signals_wait():
        import model_utils
    model_utils.keep_freed_memory()
    device = model_utils.find_device(gpu)
    if gpu and device.type == "cpu":
        say("warning: PyTorch finds no accelerator here; the CPU does the work")
    model, info = model_utils.load_checkpoint(path, device)
    return partial(
        model_utils.predict_each, model, info["calibration"].patterns, batch_size=batch_size
    ), info


def export(path: str, checkpoint: str) -> None:
    """Write a checkpoint's network into an ONNX file.

    Raises:
        FlowersError: the checkpoint cannot be used, a package is missing, or the disk is full.
    """
    for package in ("onnx", "onnxscript"):
        data_utils.require(package, "--export", "onnx onnxscript")
    data_utils.prepare_folder(os.path.dirname(path) or ".", [os.path.basename(path)])
    with data_utils.signals_wait():
        import model_utils
    model_utils.export(path, checkpoint)


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
