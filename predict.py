"""Name the flowers on photographs.

python predict.py image.jpg checkpoint.pth --top_k 5
python predict.py photographs/ checkpoint.pth --format csv --output names.csv
python predict.py --export flowers.onnx checkpoint.pth
"""

import argparse
import os
import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the imports without a word
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # python -P leaves it out
    from running.packages import require_packages

    require_packages()

import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import NamedTuple, TypeAlias

import numpy as np

from photographs.batches import ACCELERATOR_BATCH, EVALUATION_BATCH
from photographs.folders import is_image_name
from photographs.images import load_image, open_image
from prediction import onnx_runtime
from prediction.answers import Answers, Rules, describe_promises, match_groups, read_only
from prediction.info import KEEP, NetworkInfo, Prediction
from prediction.inputs import (
    STDIN,
    check_checkpoint_file,
    expand,
    is_one_photograph,
    name_inputs,
    open_stdin,
    read_each,
    refuse_target,
)
from prediction.onnx_runtime import is_exported, is_onnx_name
from prediction.records import (
    CSV_HEADER,
    RECORD_FORMATS,
    Record,
    csv_row,
    format_alone,
    open_output,
)
from running.console import Console, ExitNotes, Parser, prepare_streams, require_stdout
from running.environment import require, spell_command, versions
from running.errors import FlowersError, InputError
from running.files import find_target, write_alone
from running.flags import SHARE, WORKERS, Number, add_flag, file_name, shard
from running.signals import delay_signals
from running.threads import default_workers, let_waiting_threads_sleep, map_ahead

# torch and what imports it come where a checkpoint is loaded, and what scores and draws where
# that is asked for, as names are read: one photograph need not wait for them.

USAGE = """\
%(prog)s INPUT [INPUT ...] CHECKPOINT [flags]
       %(prog)s --info CHECKPOINT
       %(prog)s --export FILE [INPUT ...] CHECKPOINT"""

EPILOG = """\
exit codes:
  0    every input was named
  1    some were not, or there is too little memory or disk
  2    the command line, the checkpoint or the names file cannot be used
  130  stopped by Ctrl-C
  143  stopped by SIGTERM
"""

STDOUT = "-"  # as the file of --output
PICTURES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")

# A path with its pixels, then with their prediction; or with what is wrong with it.
Read: TypeAlias = tuple[str, np.ndarray | FlowersError]
Named: TypeAlias = tuple[str, Prediction | FlowersError]


class Network(NamedTuple):
    """A network of either kind of file, ready to be asked."""

    predict_each: Callable[[Iterable[Read]], Iterator[Named]]
    info: NetworkInfo


# --- The command line -----------------------------------------------------------------


def build_parser(console: Console) -> Parser:
    """Describe the command line; what goes together is for `parse_args` to see."""
    description = "Name the flowers on photographs."
    parser = Parser(console, description=description, usage=USAGE, epilog=EPILOG)
    parser.add_argument(
        "paths",
        nargs="*",
        type=file_name,
        metavar="INPUT ... CHECKPOINT",
        help="photographs, folders of them, or - for paths on standard input, one a line; and the "
        "checkpoint.pth that train.py wrote, or a file of --export",
    )
    add, default = partial(add_flag, parser), "(default: %(default)s)"
    text = f"how many names to print, the most probable first {default}"
    add("top_k", type=Number(int, 1, 10**6), default=5, metavar="K", help=text)
    text = 'JSON file of names, as in {"21": "fire lily"} (default: the checkpoint\'s)'
    add("category_names", type=file_name, metavar="FILE", help=text)
    text = f"how a record is written {default}"
    add("format", choices=RECORD_FORMATS, default="text", help=text)
    text = (
        "write the records into a file, which appears when it is whole (default: -, which is "
        "standard output)"
    )
    add("output", type=file_name, metavar="FILE", help=text)
    text = "the paths on standard input end with NUL, as those of find -print0"
    add("null", action="store_true", help=text)
    text = "name every Nth input, from the Ith on; N such jobs share a list"
    add("shard", type=shard, default="1/1", metavar="I/N", help=text)
    text = "answer unknown where a photograph looks like nothing that the network learned"
    add("reject", action="store_true", help=text)
    text = "with --reject: the share of the photographs of its categories that keep their names "
    add("keep", type=SHARE, metavar="SHARE", help=text + f"(default: {KEEP})")
    text = "name only so many that, with 95%% confidence, this share of the names is correct; the "
    text += "other answers are review"
    add("promise", type=Number(float, 0.5, 0.9999), metavar="SHARE", help=text)
    text = "with --promise: give the smallest set of names that holds the correct one with that "
    add("sets", action="store_true", help=text + "probability")
    text = "the answer is one of these categories: a file with a category or name on each line"
    add("only", type=file_name, metavar="FILE", help=text)
    text = (
        'with --promise: the answer may be a group, a JSON file as in {"21": "lilies"}, where no '
    )
    add("group", type=file_name, metavar="FILE", help=text + "name is safe")
    text = "the folder that a photograph is in tells its category: say on standard error how many "
    add("score", action="store_true", help=text + "names are correct")
    text = "with --score: write all figures, and the photographs that were named wrongly, into a "
    text += "page, report.html, and the figures into report.json beside it"
    add("report", type=file_name, metavar="FILE", help=text)
    text = "draw the one photograph, where its best name is seen and its most probable names: a "
    text += ".png, .jpg, .pdf or .svg"
    add("plot", type=file_name, metavar="FILE", help=text)
    add("info", action="store_true", help="say what a checkpoint knows, and stop")
    text = "write the checkpoint's network into an ONNX file for applications, flowers.onnx, and "
    text += "stop; it is half as large where that changes no name of the photographs"
    add("export", type=file_name, metavar="FILE", help=text)
    text = f"photographs that are computed at once (default: {EVALUATION_BATCH}, with --gpu "
    text += f"{ACCELERATOR_BATCH})"
    add("batch_size", type=Number(int, 1, 10_000), metavar="N", help=text)
    text = "threads that decode photographs (default: as many as processors)"
    add("workers", type=WORKERS, default=default_workers(), metavar="N", help=text)
    add("gpu", action="store_true", help="use an accelerator where there is one")
    return parser


def parse_args(console: Console, argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; exits with 2 where it makes no sense."""
    parser = build_parser(console)
    argv = sys.argv[1:] if argv is None else argv
    end = argv.index("--") if "--" in argv else len(argv)  # behind it are paths, like -x.jpg
    args = parser.parse_intermixed_args(argv[:end])
    args.paths += argv[end + 1 :]

    if args.batch_size is None:
        args.batch_size = ACCELERATOR_BATCH if args.gpu else EVALUATION_BATCH
    if args.paths and is_image_name(args.paths[-1]):
        parser.error(f"{args.paths[-1]} is an image; the checkpoint comes last")
    alone = "--info" if args.info else "--export FILE" if args.export else None
    if not args.paths or (len(args.paths) == 1 and not alone):
        parser.error(
            f"{alone} takes a checkpoint"
            if alone
            else "an image and a checkpoint are needed, in this order"
        )
    *args.inputs, args.checkpoint = args.paths
    more = [args.output, args.plot, args.category_names, args.null, args.reject, args.score]
    more += [args.report, args.promise, args.only]
    if alone and ((args.inputs and args.info) or any(more) or args.format != "text"):
        what = "a checkpoint" if args.info else "photographs, a checkpoint"
        parser.error(f"{alone} takes {what} and nothing else")
    if args.export and (args.info or is_exported(args.checkpoint) or not is_onnx_name(args.export)):
        parser.error(
            "--export turns a checkpoint into a file named .onnx, as in --export flowers.onnx "
            "checkpoint.pth"
        )
    if args.inputs.count(STDIN) > 1:
        parser.error(f"{STDIN} can be read only once")
    if args.plot and not is_one_photograph(args.inputs):
        parser.error("--plot takes one photograph")
    if args.plot and os.path.splitext(args.plot)[1].lower() not in PICTURES:
        parser.error(f"--plot {args.plot} ends in none of {', '.join(PICTURES)}")
    if args.report and not args.score:
        parser.error("--report goes with --score")
    if args.report and os.path.splitext(args.report)[1].lower() != ".html":
        parser.error(f"--report {args.report} does not end in .html")
    if args.null and STDIN not in args.inputs:
        parser.error(f"--null goes with {STDIN} among the inputs")
    if args.keep is not None and not args.reject:
        parser.error("--keep goes with --reject")
    if (args.sets or args.group) and args.promise is None:
        parser.error("--sets and --group go with --promise")
    if args.sets and (args.group or args.reject):
        parser.error("--sets goes neither with --group nor with --reject")
    if args.output == STDOUT:
        args.output = None
    args.figures = f"{os.path.splitext(args.report)[0]}.json" if args.report else None
    args.command = spell_command("predict.py", *argv)
    return args


# --- The story ------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Name the flowers as the command line says and return the exit code."""
    prepare_streams()
    console = Console("predict.py")
    args = parse_args(console, argv)
    let_waiting_threads_sleep()
    # Pillow warns of odd files with lines of its own source; unreadable ones raise anyway.
    warnings.filterwarnings("ignore", module="PIL")
    notes = ExitNotes(console.program, memory_advice="a lower --batch_size takes less")
    return console.run_guarded(lambda: run(args, console), notes)


def run(args: argparse.Namespace, console: Console) -> int:
    """Do what is asked for: name photographs, describe a network or export it."""
    # What can be wrong is found before torch is imported.
    check_checkpoint_file(args.checkpoint)
    check_targets(args)
    if args.export:
        export_network(args.export, args.inputs, args.checkpoint, console)
        return 0
    new_names = None
    if args.category_names:
        from data_utils import load_names

        new_names = load_names(args.category_names)
    if args.format == "text" and is_one_photograph(args.inputs):
        open_image(args.inputs[0]).close()
    if args.plot:
        require("matplotlib", "--plot")
    network = load_network(args.checkpoint, args.gpu, args.batch_size, console)
    if args.info:
        console.print_result(*describe(network.info))
        return 0
    names, categories = network.info.names, network.info.categories
    if new_names is not None:
        names = [new_names.get(category, category) for category in categories]
        known = len(new_names.keys() & set(categories))
        if known < len(categories):
            console.print_message(
                f"warning: {args.category_names} names {known} of the {len(categories)} categories "
                f"of {args.checkpoint}"
            )
    return name_photographs(args, network, names, console)


def check_targets(args: argparse.Namespace) -> None:
    """See that what is written takes the place of nothing that is read.

    Raises:
        InputError: it would, or cannot be written there.
    """
    reads = [args.checkpoint, *args.inputs]
    reads += [path for path in (args.category_names, args.only, args.group) if path]
    if STDIN in args.inputs:
        open_stdin()
        reads.append("/dev/stdin")  # a list, where a file is redirected
    writes = (args.output, args.plot, args.export, args.report, args.figures)
    targets = [find_target(path, reads) for path in writes if path]
    if len({*map(os.path.realpath, targets)}) < len(targets):
        raise InputError("two of --output, --plot and --report name the same file")
    if not args.output and not args.export:
        require_stdout()


def name_photographs(
    args: argparse.Namespace, network: Network, names: list[str], console: Console
) -> int:
    """Go from paths to records, one after the other; return the exit code."""
    info = network.info
    first, step = args.shard
    found = expand(args.inputs, b"\0" if args.null else b"\n")
    for target in (args.output, args.report, args.figures):
        found = refuse_target(target, found)
    paths: Iterable[tuple[str, FlowersError | None]] = islice(found, first - 1, None, step)
    total = None
    if STDIN not in args.inputs:  # standard input may go on for ever
        paths = [*paths]
        total = len(paths)
    read = partial(read_each, preprocessing=info.preprocessing)
    photographs = map_ahead(read, paths, args.workers, 3 * args.batch_size)
    named = network.predict_each(photographs)
    if args.output or not sys.stdout.isatty():  # where records would not run into it
        named = console.count(named, total, "naming")

    answers = Answers(info, names, find_rules(args, info.categories, names))
    score = None
    if args.score:
        from prediction.score import Score

        score = Score(info.categories, keeps=bool(args.report))
    alone = is_one_photograph(args.inputs)
    format_record = format_alone if alone and args.format == "text" else RECORD_FORMATS[args.format]
    count = failed = 0
    with open_output(args.output, args.format) as write:
        if args.format == "csv":
            write(csv_row(CSV_HEADER))
        for file, result in named:
            result = answers.restrict(result)
            record = answers.record(file, result)
            if score and isinstance(result, Prediction):
                score.add(file, result.probabilities, partial(answers.is_right, record))
            count += 1
            failed += bool(record.error)
            write(format_record(record))
    if not count:
        console.print_message("warning: there was nothing to name")
    console.print_message(*answers.remarks())
    if args.output:
        number = "1 record" if count == 1 else f"{count} records"
        console.print_note(f"wrote {args.output}: {number}")
    if score:
        console.print_message(*score.lines(names, args.promise))
    if score and args.report:
        report = {"command": args.command, "versions": versions(), "network": info.summary()}
        split = name_inputs(args.inputs)
        score.write_report(args.report, args.figures, split, names, report)
        console.print_note(f"wrote {args.report} and {args.figures}")
    if args.plot and count > failed:
        draw_record(args.plot, record, network)
        console.print_note(f"wrote {args.plot}")
    if failed and count > 1:
        console.print_message(f"{failed} of {count} could not be named")
    return 1 if failed else 0


def find_rules(args: argparse.Namespace, categories: list[str], names: list[str]) -> Rules:
    """Read how photographs are to be answered.

    Raises:
        InputError: a file cannot be used.
    """
    keep = KEEP if args.keep is None else args.keep
    only = groups = None
    if args.only:
        only = read_only(args.only, categories, names)
    if args.group:
        from data_utils import load_names

        groups = match_groups(load_names(args.group), categories, names)
    return Rules(args.top_k, keep if args.reject else None, args.promise, args.sets, only, groups)


# --- Output ---------------------------------------------------------------------------


def draw_record(path: str, record: Record, network: Network) -> None:
    """Draw a photograph, where its best name is seen, and its most probable names into a file.

    Raises:
        FlowersError: the photograph has gone, or the disk is full.
    """
    from prediction.evidence import find_evidence
    from reporting.plots import plot_guesses, save_figure

    photograph = load_image(record.file, network.info.preprocessing)
    best = network.info.categories.index(record.guesses[0].category)
    figure = plot_guesses(
        photograph,
        [guess.name for guess in record.guesses],
        [guess.probability for guess in record.guesses],
        find_evidence(network.predict_each, photograph, best),
    )
    with write_alone(path) as file:
        save_figure(figure, file, os.path.splitext(path)[1][1:].lower())


def describe(info: NetworkInfo) -> Iterator[str]:
    """Say what a checkpoint knows."""
    metrics, preprocessing = info.metrics, info.preprocessing
    yield f"network: {info.arch}"
    yield f"categories: {len(info.categories)}"
    yield "names: " + ", ".join(info.names)
    yield (
        f"valid accuracy: {metrics.valid_accuracy:.2%} (n = {metrics.valid_images}), "
        f"after epoch {metrics.epoch}, in {metrics.precision}"
    )
    yield f"temperature: {info.calibration.temperature:.4f}"
    yield from describe_promises(info)
    yield (
        f"preprocessing: short side {preprocessing.resize}, centre {preprocessing.crop} x "
        f"{preprocessing.crop}, {preprocessing.interpolation}"
    )
    yield f"trained: {info.date}, seed {info.seed}, by {info.command}"
    yield "with: " + ", ".join(f"{name} {version}" for name, version in info.versions.items())


# --- Networks -------------------------------------------------------------------------


def load_network(path: str, gpu: bool, batch_size: int, console: Console) -> Network:
    """Load a checkpoint, or an exported network, which needs no torch.

    Raises:
        InputError: the file cannot be used.
    """
    if is_exported(path):
        if gpu:
            console.print_message("warning: an exported network is computed by the CPU here")
        exported = onnx_runtime.load(path)
        if not exported.sealed:
            console.print_message(f"warning: {path} was changed since it was exported")
        return Network(partial(onnx_runtime.predict_each, exported.predict), exported.info)
    with delay_signals():
        from model_utils import load_checkpoint, predict_each
        from network.devices import find_device, keep_freed_memory
    keep_freed_memory()
    device = find_device(gpu, console.launch)
    if gpu and device.type == "cpu":
        console.print_message("warning: PyTorch finds no accelerator here; the CPU does the work")
    model, info = load_checkpoint(path, device)
    return Network(partial(predict_each, model, batch_size=batch_size), info)


def export_network(path: str, inputs: list[str], checkpoint: str, console: Console) -> None:
    """Write a checkpoint's network into an ONNX file, half as large if no name of inputs changes.

    Raises:
        FlowersError: the checkpoint cannot be used, a package is missing, or the disk is full.
    """
    for package in ("onnx", "onnxscript"):
        require(package, "--export", "onnx onnxscript")
    if inputs:
        require("onnxruntime", "--export with photographs")
    with delay_signals():
        from model_utils import export
    note = export(path, checkpoint, inputs, console.progress)
    console.print_note(f"wrote {path}; {note}")


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    sys.exit(main())
