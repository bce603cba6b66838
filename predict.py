# For `uv run`; a checkpoint.pth needs torch, too: uv run --with-requirements requirements.txt
# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "numpy>=1.26",
#     "pillow>=11.3",
#     "onnxruntime>=1.20",
#     "tqdm>=4.66",
# ]
# ///
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
    from running.environment import require_packages

    require_packages()

import hashlib
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_utils import load_names
from formats import onnx_file
from formats.onnx_file import is_exported, is_onnx_name
from formats.openvino_engine import accelerate
from formats.schema import KEEP, CalibrationSet, NetworkInfo, Prediction
from images.decode import load_image, open_image
from images.folders import normalise
from prediction import inputs
from prediction.answers import (
    Answers,
    find_promises,
    match_groups,
    match_only,
    read_list,
    restrict,
)
from prediction.command_line import parse_args
from prediction.inputs import STDIN, Found, Pixels, Predicted, is_one_photograph
from prediction.likeness import FEWEST, LOOKED_AT
from prediction.output import open_output
from prediction.records import RECORD_FORMATS, Record, format_alone
from prediction.sample import (
    accuracy_line,
    as_calibration_set,
    draw,
    label_answers,
    make_sample_page,
    make_table,
    read_answers,
    require_drawn_from,
)
from prediction.sorting import Sorter, check_folder
from running.console import Console, ExitNotes, prepare_streams, require_stdout
from running.environment import join_words, require, spell_command, versions
from running.errors import InputError
from running.files import find_target, write_alone
from running.signals import delay_signals
from running.threads import map_ahead, prepare_threads

# torch, scores, plots and the app are imported where they are needed: one photograph is named
# sooner without them.


class Network(NamedTuple):
    """A network that names photographs."""

    predict_each: Callable[[Iterable[Pixels]], Iterator[Predicted]]
    info: NetworkInfo  # what its file knows
    engine: str  # what computes it


# --- The story ------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Name the flowers as the command line says and return the exit code."""
    prepare_streams()
    console = Console("predict.py")
    args = parse_args(console, argv)
    prepare_threads()
    # Pillow warns of odd files with lines of its own source; unreadable ones raise anyway.
    warnings.filterwarnings("ignore", module="PIL")
    notes = ExitNotes(args.words, "a lower --batch_size takes less", "--continue")
    return console.run_guarded(lambda: run(args, console, notes), notes)


def run(args: argparse.Namespace, console: Console, notes: ExitNotes) -> int:
    """Name photographs, describe a network or export it."""
    # Mistakes are found before torch is imported.
    inputs.check_checkpoint_file(args.checkpoint)
    check_targets(args)
    args.names = load_names(args.category_names) if args.category_names else None
    args.groups = load_names(args.group, "--group") if args.group else None
    args.possible = read_list(args.only) if args.only else None
    args.answers = read_answers(args.checked) if args.checked else None
    if args.export:
        export_network(args, console)
        return 0
    if args.format == "text" and is_one_photograph(args.inputs):
        open_image(args.inputs[0]).close()
    if args.plot:
        require("matplotlib", "--plot")
    network = load_network(args.checkpoint, args.gpu, args.batch_size, console)
    if args.info:
        console.print_result(*describe(network))
        return 0
    if args.check_sample:
        return write_sample(args, network, console)
    return name_photographs(args, network, console, notes)


def check_targets(args: argparse.Namespace) -> None:
    """Check that the files to be written replace nothing that is read."""
    reads = [args.checkpoint, *args.inputs]
    files = args.category_names, args.only, args.group, args.checked
    reads += [path for path in files if path]
    if STDIN in args.inputs:
        inputs.open_stdin()
        reads.append("/dev/stdin")  # a list, where a file is redirected
    writes = [args.output, args.plot, args.report, args.figures, args.page]
    if args.export and is_onnx_name(args.export):
        writes.append(args.export)
    elif args.export:
        from prediction.app import find_app

        find_app(args.export)
    targets = [find_target(path, reads) for path in writes if path]
    if len({*map(os.path.realpath, targets)}) < len(targets):
        raise InputError("two of --output, --plot and --report name the same file")
    there = [path for path in (args.output, args.page) if path and os.path.exists(path)]
    if args.check_sample and there:
        words = "is there already, and may hold answers; --output names another file"
        raise InputError(f"{there[0]} {words}")
    if args.sort_into:
        check_folder(args.sort_into, args.inputs)
    if not args.output and not args.export:
        require_stdout()


def name_photographs(
    args: argparse.Namespace, network: Network, console: Console, notes: ExitNotes
) -> int:
    """Find, read, predict, answer and write one photograph after the other."""
    info, passed_over = network.info, list[str]()
    found = find_batch(args, passed_over)
    sample = None
    if args.checked:
        sample = ask_about_sample(args, network, found, console)
        console.print_message(accuracy_line(sample))
    answers = make_answers(args, info, console, sample)
    if isinstance(found, list) and len(found) >= FEWEST:
        some = predict_all(args, network, islice(draw(found), LOOKED_AT))
        answers.require_alike(answers.restrict(result) for _, result in some)
    alone = is_one_photograph(args.inputs) and args.format == "text"
    format_record = format_alone if alone else RECORD_FORMATS[args.format]
    score = None
    if args.score:
        from prediction.score import Score

        score = Score(answers, args.inputs, keeps=bool(args.report))
    sorter = Sorter(args.sort_into, args.copy, answers.names) if args.sort_into else None
    job = describe_job(args, answers.names) if args.output else None
    with open_output(args.output, args.format, job, args.resume) as output:
        if output.part and not (args.score or args.plot):  # these do not go with --continue
            notes.resume_files = [output.part]
        if output.place.broken_off:
            answers.break_off()
        chosen = inputs.choose(found, args.shard, (args.output, args.report, args.figures))
        total = None
        if isinstance(found, list):
            every = [*chosen]
            total, chosen = len(every) - output.place.records, iter(every)
        predicted = predict_all(args, network, output.skip(chosen))
        if args.output or not sys.stdout.isatty():  # else the bar would run into the records
            predicted = console.count(predicted, total, "naming")
        notes_of_job = [output.note] if output.note else []
        for file, result in predicted:
            console.print_note(*notes_of_job)  # now that the photographs are the same
            notes_of_job = []
            result = answers.restrict(result)
            record = answers.record(file, result)
            if score:
                score.add(record, result)
            if sorter:
                sorter.sort(record)
            why = answers.watch(result)
            output.write(format_record(record), file, bool(record.error), why is not None)
            if why:
                console.print_message(
                    f"warning: these photographs are unlike those of valid: {why}; from now on "
                    "the promise cannot be kept, and all answers are review"
                )
        console.print_note(*notes_of_job)
    notes.resume_files = []
    count, failed = output.place.records, output.place.failed
    if not count:
        console.print_message("warning: there was nothing to name")
    if passed_over:
        count_of = "1 file" if len(passed_over) == 1 else f"{len(passed_over)} files"
        console.print_message(
            f"skipped {count_of} in a format that is not read here, such as {passed_over[0]}"
        )
    if output.place.broken_off:
        first = output.place.broken_off
        console.print_message(
            f"warning: from record {first} on, all answers are review: the photographs are unlike "
            "those of valid"
        )
    if args.output:
        counted = f"{count} record{'' if count == 1 else 's'}"
        console.print_note(f"wrote {args.output}: {counted}, computed by {network.engine}")
    if sorter:
        console.print_note(sorter.summary())
    if score:
        console.print_message(*score.lines())
    if score and args.report:
        source = f"{len(args.inputs)} inputs" if len(args.inputs) > 1 else args.inputs[0]
        source = "standard input" if source == STDIN else source
        more = {
            "command": join_words(args.words),
            "versions": versions(),
            "network": {**info.summary(), "engine": network.engine},
        }
        from prediction.occlusion import light_evidence

        light = partial(light_evidence, network.predict_each, info.preprocessing)
        score.write_report(args.report, args.figures, source, more, light)
        console.print_note(f"wrote {args.report} and {args.figures}")
    if args.plot and count > failed:
        has_letters = draw_record(args.plot, record, network)
        console.print_note(f"wrote {args.plot}")
        if not has_letters:
            console.print_message("the fonts of this machine lack letters of the names")
    if failed and count > 1:
        console.print_message(f"{failed} of {count} could not be named")
    return 1 if failed else 0


def find_batch(args: argparse.Namespace, passed_over: list[str]) -> list[Found] | Iterator[Found]:
    """Find the photographs of all shards: a list, unless standard input may never end."""
    found = inputs.expand(args.inputs, b"\0" if args.null else b"\n", passed_over)
    return found if STDIN in args.inputs else [*found]


def predict_all(
    args: argparse.Namespace, network: Network, found: Iterable[Found]
) -> Iterator[Predicted]:
    """Read and predict photographs in their order."""
    read = partial(inputs.read_each, preprocessing=network.info.preprocessing)
    return network.predict_each(map_ahead(read, found, args.workers, 3 * args.batch_size))


def choose_names(args: argparse.Namespace, info: NetworkInfo) -> list[str]:
    """Return the names of the categories: the user's, or those of the network's file."""
    if args.names is None:
        return info.names
    return [args.names.get(normalise(category), category) for category in info.categories]


def make_answers(
    args: argparse.Namespace,
    info: NetworkInfo,
    console: Console,
    sample: CalibrationSet | None = None,
) -> Answers:
    """Prepare answers as the flags say; warn where the user's names are incomplete."""
    names, categories = choose_names(args, info), info.categories
    if args.names is not None:
        known = len(args.names.keys() & {*map(normalise, categories)})
        if known < len(categories):
            console.print_message(
                f"warning: {args.category_names} names {known} of the {len(categories)} "
                f"categories of {args.checkpoint}"
            )
    if args.export and not args.reject and args.promise is None:
        from prediction.app import default_answers

        return default_answers(info, names)
    only = choose_possible(args, info)
    groups = None if args.groups is None else match_groups(args.groups, categories, names)
    keep = (KEEP if args.keep is None else args.keep) if args.reject else None
    return Answers(info, names, args.top_k, keep, args.promise, only, groups, sample)


def choose_possible(args: argparse.Namespace, info: NetworkInfo) -> np.ndarray | None:
    """Find the categories of --only: bool (C,)."""
    if args.possible is None:
        return None
    return match_only(args.possible, info.categories, choose_names(args, info))


# --- A sample that a person checks ----------------------------------------------------


def write_sample(args: argparse.Namespace, network: Network, console: Console) -> int:
    """Predict a random sample of the photographs; write its table, and its page."""
    found = [*find_batch(args, [])]
    answers = make_answers(args, network.info, console)
    records: list[Record] = []
    wanted = min(args.check_sample, len(found))
    predicted = predict_all(args, network, draw(found))
    for file, result in console.count(predicted, wanted, "naming"):
        if isinstance(result, Prediction):
            records.append(answers.record(file, answers.restrict(result)))
        if len(records) == wanted:
            break
    if not records:
        raise InputError("there was no photograph that could be read")
    with write_alone(args.output) as table:
        table.write(make_table(records, len(found)))
    flags = "--checked", os.path.basename(args.output), "--promise", "0.95"
    command = spell_command("predict.py", *args.inputs, args.checkpoint, *flags)
    with write_alone(args.page) as page:
        page.write(make_sample_page(records, len(found), args.output, answers.names, command))
    console.print_note(
        f"wrote {args.output} and {args.page}: {len(records)} of {len(found)} photographs to check"
    )
    return 0


def ask_about_sample(
    args: argparse.Namespace,
    network: Network,
    found: list[Found] | Iterator[Found],
    console: Console,
) -> CalibrationSet:
    """Predict the photographs of the checked sample, which are some of those that were found."""
    info = network.info
    names = choose_names(args, info)
    checked = label_answers(args.checked, args.answers, info.categories, names)
    if isinstance(found, list):
        require_drawn_from(args.checked, checked, {file for file, _ in found})
        if (count := args.answers[0].of) != len(found):
            console.print_message(
                f"warning: {args.checked} was drawn from {count} photographs, and these are "
                f"{len(found)}: it says nothing of what has come since"
            )
    only = choose_possible(args, info)
    photographs = [(each.path, None) for each in checked]
    predicted = predict_all(args, network, iter(photographs))
    return as_calibration_set(
        args.checked, checked, [restrict(result, only) for _, result in predicted]
    )


def describe_job(args: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """List all options that the records depend on; see `open_output`."""
    return {
        "checkpoint": hashlib.sha256(Path(args.checkpoint).read_bytes()).hexdigest(),
        "--format": args.format,
        "--top_k": args.top_k,
        "--category_names": names,
        "--reject": [args.reject, args.keep],
        "--promise": args.promise,
        "--checked": args.checked and hashlib.sha256(Path(args.checked).read_bytes()).hexdigest(),
        "--only": args.possible and sorted(args.possible),
        "--group": args.groups,
        "--shard": args.shard,
        "--sort_into": [args.sort_into and os.path.realpath(args.sort_into), args.copy],
        "--gpu": args.gpu,
    }


# --- Output ---------------------------------------------------------------------------


def draw_record(path: str, record: Record, network: Network) -> bool:
    """Draw a photograph, an occlusion map and its most probable names into a file.

    Returns whether the fonts here have all letters.
    """
    from prediction.occlusion import compute_occlusion_map
    from reporting.plots import plot_guesses, save_figure

    predict_each, info, _ = network
    photograph = load_image(record.file, info.preprocessing)
    best = info.categories.index(record.guesses[0].category)
    figure = plot_guesses(
        photograph,
        [guess.name for guess in record.guesses],
        [guess.probability for guess in record.guesses],
        compute_occlusion_map(predict_each, photograph, best),
    )
    with write_alone(path) as file:
        return save_figure(figure, file, os.path.splitext(path)[1][1:].lower())


def describe(network: Network) -> Iterator[str]:
    """Describe what a checkpoint holds beside the weights, and what computes it, for --info."""
    info = network.info
    metrics, preprocessing = info.metrics, info.preprocessing
    yield f"network: {info.arch}"
    yield f"computed by: {network.engine}"
    yield f"categories: {len(info.categories)}"
    yield from textwrap.wrap("names: " + ", ".join(info.names), 100, break_long_words=False)
    kind = "cross-validation" if metrics.folds else "valid"
    yield (
        f"{kind} accuracy: {metrics.valid_accuracy:.2%} (n = {metrics.valid_images}), "
        f"after epoch {metrics.epoch}, in {metrics.precision}"
    )
    yield f"temperature: {info.calibration.temperature:.4f}"
    for promise, probability, least, share in find_promises(info):
        yield (
            f"promise {promise}: a name takes a probability of {probability:.5f} and a "
            f"familiarity of {least:.4f}; {share:.1%} of valid get one"
        )
    yield (
        f"preprocessing: short side {preprocessing.resize}, centre {preprocessing.crop} x "
        f"{preprocessing.crop}, {preprocessing.interpolation}"
    )
    yield f"trained: {info.date}, seed {info.seed}, by {info.command}"
    yield "with: " + ", ".join(f"{name} {version}" for name, version in info.versions.items())


# --- Networks -------------------------------------------------------------------------


def load_network(path: str, gpu: bool, batch_size: int, console: Console) -> Network:
    """Load a checkpoint, or an exported network, which needs no torch."""
    if is_exported(path):
        if gpu:
            console.print_message("warning: an exported network is computed by the CPU here")
        exported = accelerate(onnx_file.load(path), path)
        if not exported.sealed:
            console.print_message(f"warning: {path} was changed since it was exported")
        name_each = partial(onnx_file.predict_each, exported.predict)
        return Network(name_each, exported.info, exported.engine)
    with delay_signals():
        from model_utils import load_checkpoint, predict_each
        from network.devices import find_device, keep_freed_memory
    keep_freed_memory()
    device = find_device(gpu, console.launch)
    if gpu and device.type == "cpu":
        console.print_message("warning: PyTorch finds no accelerator here; the CPU does the work")
    model, info = load_checkpoint(path, device)
    precision = str(model.precision).removeprefix("torch.")
    engine = f"PyTorch {versions()['torch']}, {precision}, {device.type}"
    return Network(partial(predict_each, model, batch_size=batch_size), info, engine)


def export_network(args: argparse.Namespace, console: Console) -> None:
    """Write a network into an ONNX file or, with a web page, into a folder."""
    as_app = not is_onnx_name(args.export)
    if as_app:
        require("onnxruntime", "--export APP")
    if is_exported(args.checkpoint):
        content = Path(args.checkpoint).read_bytes()
    else:
        for package in ("onnx", "onnxscript"):
            require(package, "--export", "onnx onnxscript")
        with delay_signals():
            from model_utils import export_bytes
        content = export_bytes(args.checkpoint, args.float32, console.progress)
    if not as_app:
        with write_alone(args.export) as file:
            file.write(content)
        console.print_note(f"wrote {args.export}")
        return
    from prediction.app import write_app
    from prediction.looks import choose_pictures

    exported = onnx_file.load_content(content, args.checkpoint)
    answers = make_answers(args, exported.info, console)
    pictures = []
    if args.pictures:
        pictures = choose_pictures(args.pictures, exported, console.progress)
    write_app(args.export, content, answers, console.progress, pictures)
    serve = join_words(["python", "-m", "http.server", "--directory", args.export])
    console.print_note(
        f"wrote the app {args.export}; see it at http://localhost:8000 with: {serve}"
    )


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    sys.exit(main())
