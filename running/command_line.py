"""The command line of train.py: its flags, and what goes together."""

import argparse
from collections.abc import Sequence
from functools import partial

from running.console import Console, Parser
from running.flags import SHARE, WORKERS, add_flag, file_name, fill_in
from running.run_folder import DEMO_FOLDER
from running.settings import Settings
from running.threads import default_workers

CHECKS = ("pictures", "files")  # for --check_data

USAGE = """\
%(prog)s DATA_DIR [flags]
       %(prog)s DATA_DIR --check_data
       %(prog)s DATA_DIR --label
       %(prog)s --demo"""

EPILOG = """\
exit codes:
  0    done
  1    too many photographs went missing during the run, the run failed (disk, numbers, memory), or
       --check_data found something wrong with the files
  2    the command line, data folder, names file, weights or --save_dir cannot be used
  3    the network is less accurate than --min_accuracy wants
  130  stopped by Ctrl-C
  143  stopped by SIGTERM
"""


def build_parser(console: Console, data_sets: Sequence[str]) -> Parser:
    """Make the parser of train.py; `Settings` has the flags that decide the result."""
    parser = Parser(
        console,
        usage=USAGE,
        epilog=EPILOG,
        description="Train a network to name flowers from a folder of photographs.",
    )
    add = partial(add_flag, parser)
    switch = partial(add, action="store_true")
    text = "photographs as DATA_DIR/{train,valid,test}/<category>/*.jpg; missing valid or test "
    text += "photographs are split off from the others"
    parser.add_argument("data_dir", nargs="?", type=file_name, metavar="DATA_DIR", help=text)
    switch("demo", help=f"draw a small data set into SAVE_DIR/{DEMO_FOLDER} and train on it")
    text = "put this data set into DATA_DIR first, where that has no train yet: Oxford 102 Flowers "
    add("download", choices=data_sets, help=text + "(345 MB) or CIFAR-10 (170 MB)")
    text = "continue from SAVE_DIR/last.pth, with the settings of that run; a higher --epochs "
    switch("resume", help=text + "extends it")
    text = "start from the finished run in SAVE_DIR, whose photographs have changed: fit its head "
    switch("update", help=text + "again; only --epochs lets the layers before it learn again")
    text = "say what is wrong with the photographs, and stop: wrong labels, near duplicates and "
    text += "outliers, too, which takes a minute or two; or what is wrong with their files alone"
    add("check_data", nargs="?", choices=CHECKS, help=text)
    text = "make the new data folder --to with what is accepted in a data_report.csv, or named in "
    text += "a labels.csv, and stop"
    add("apply", type=file_name, metavar="FILE", help=text)
    add("to", type=file_name, metavar="DIR", help="with --apply: the new folder, made of links")
    text = "ask for the names of photographs that are in no category's folder, on a page in a "
    text += "browser, whole groups at once; DATA_DIR/labels.csv keeps the answers"
    switch("label", help=text)
    Settings.add_flags(parser)
    text = "folder for checkpoint.pth and the run's other files (default: this folder)"
    add("save_dir", type=file_name, default=".", metavar="DIR", help=text)
    text = 'JSON file of names, as in {"21": "fire lily"} (default: cat_to_name.json of DATA_DIR; '
    text += "for Oxford's 102 categories this project's own; else the folders' names)"
    add("category_names", type=file_name, metavar="FILE", help=text)
    text = "exit with code 3 if the accuracy on test (or else on valid) is below this, as in "
    add("min_accuracy", type=SHARE, metavar="SHARE", help=text + "0.95")
    text = "do not keep what the head sees of photographs in SAVE_DIR/features.bin, where --update "
    switch("no_cache", help=text + "finds it, and remove what is there")
    switch("gpu", help="use an accelerator where there is one")
    text = "threads that decode photographs (default: as many as processors)"
    workers = default_workers(console.launch.local_world_size)
    add("workers", type=WORKERS, default=workers, metavar="N", help=text)
    return parser


def parse_args(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; what does not go together ends with exit code 2."""
    args = parser.parse_args(fill_in(argv, "check_data", CHECKS))
    lists, typed = args.arch == "help", Settings.typed(args)
    alone = ("resume", "demo", "download", "check_data", "apply", "label")
    typed_for_training = {name: name in typed for name in ("epochs", "lr", "minutes", "tune")}
    typed_for_training |= {"min_accuracy": args.min_accuracy is not None, "resume": args.resume}
    whats = ("apply", "check_data", "label")
    trains_nothing = next((name for name in whats if getattr(args, name)), "")
    clashes = [
        (bool(args.apply) != bool(args.to), "--apply FILE and --to DIR go together"),
        *(
            (args.update and getattr(args, name), f"--update and --{name} do not go together")
            for name in alone
        ),
        *(
            (
                args.update and name != "epochs",
                f"--update takes the settings of the run: leave --{name} out",
            )
            for name in typed
        ),
        *(
            (
                trains_nothing and typed_for_training[name],
                f"--{trains_nothing} trains nothing: leave --{name} out",
            )
            for name in typed_for_training
        ),
        *(
            (args.label and getattr(args, name), f"--label and --{name} do not go together")
            for name in ("demo", "download", "check_data", "apply")
        ),
        (
            args.demo and args.data_dir is not None and not lists,
            "--demo draws its own photographs: leave DATA_DIR out",
        ),
        (
            not args.demo and args.data_dir is None and not lists,
            "DATA_DIR is missing: the folder of photographs (or try --demo)",
        ),
        (
            args.demo and args.download and not lists,
            "--demo draws its own photographs: leave --download out",
        ),
    ]
    for is_wrong, sentence in clashes:
        if is_wrong:
            parser.error(sentence)
    return args
