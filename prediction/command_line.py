"""The command line of predict.py: its flags, and what goes together."""

import argparse
import os
import sys
from functools import partial

from formats.onnx_file import is_exported, is_onnx_name
from formats.schema import KEEP
from images.batches import ACCELERATOR_BATCH, EVALUATION_BATCH
from images.folders import is_image_name
from prediction.inputs import STDIN, is_one_photograph
from prediction.records import RECORD_FORMATS
from running.console import Console, Parser
from running.environment import spell_command
from running.flags import SHARE, WORKERS, Number, add_flag, file_name, shard
from running.threads import default_workers

USAGE = """\
%(prog)s INPUT [INPUT ...] CHECKPOINT [flags]
       %(prog)s --info CHECKPOINT
       %(prog)s --export FILE|DIR [INPUT ...] CHECKPOINT"""

EPILOG = """\
exit codes:
  0    every input was answered
  1    some could not be read, or there is too little memory or disk
  2    the command line, the checkpoint or the names file cannot be used
  130  stopped by Ctrl-C
  143  stopped by SIGTERM
"""

STDOUT = "-"  # as the file of --output
PICTURES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")


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
    _add_answers(parser)
    _add_records(parser)
    _add_more(parser)
    return parser


def _add_answers(parser: Parser) -> None:
    """Add the flags that say what is answered."""
    add, default = partial(add_flag, parser.add_argument_group("answers")), "(default: %(default)s)"
    text = f"how many names to print, the most probable first {default}"
    add("top_k", type=Number(int, 1, 10**6), default=5, metavar="K", help=text)
    text = 'JSON file of names, as in {"21": "fire lily"} (default: the checkpoint\'s)'
    add("category_names", type=file_name, metavar="FILE", help=text)
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
    text = 'with --promise: the answer may be a group, a JSON file as in {"21": "lilies"}, where '
    add("group", type=file_name, metavar="FILE", help=text + "no name is safe")


def _add_records(parser: Parser) -> None:
    """Add the flags that say which inputs are read, and where the answers go."""
    add, default = partial(add_flag, parser.add_argument_group("records")), "(default: %(default)s)"
    text = f"how a record is written {default}"
    add("format", choices=RECORD_FORMATS, default="text", help=text)
    text = (
        "write the records into a file, which appears when it is whole (default: -, which is "
        "standard output); until then it is called FILE.part"
    )
    add("output", type=file_name, metavar="FILE", help=text)
    text = "with --output: go on behind the last record of FILE.part, which a stopped job has left"
    add("continue", action="store_true", dest="goes_on", help=text)
    text = "put links to the photographs into a folder for each answer"
    add("sort_into", type=file_name, metavar="DIR", help=text)
    add("copy", action="store_true", help="with --sort_into: copies instead of links")
    text = "the paths on standard input end with NUL, as those of find -print0"
    add("null", action="store_true", help=text)
    text = "name every Nth input, from the Ith on; N such jobs share a list"
    add("shard", type=shard, default="1/1", metavar="I/N", help=text)
    text = "the folder that a photograph is in tells its category: say on standard error how many "
    add("score", action="store_true", help=text + "names are correct")
    text = "with --score: write all figures, and the photographs that were named wrongly, into a "
    text += "page, report.html, and the figures into report.json beside it"
    add("report", type=file_name, metavar="FILE", help=text)


def _add_more(parser: Parser) -> None:
    """Add the flags for one photograph, for the network's file, and for the machine."""
    add = partial(add_flag, parser.add_argument_group("others"))
    text = "draw the one photograph, where its best name is seen and its most probable names: a "
    text += ".png, .jpg, .pdf or .svg"
    add("plot", type=file_name, metavar="FILE", help=text)
    add("info", action="store_true", help="say what a checkpoint knows, and stop")
    text = (
        "write the checkpoint's network into an ONNX file for applications, flowers.onnx, or with "
    )
    text += "a web page that names flowers on a phone into a folder, app, and stop; it is half as "
    text += "large where that changes no name of the photographs"
    add("export", type=file_name, metavar="FILE|DIR", help=text)
    text = f"photographs that are computed at once (default: {EVALUATION_BATCH}, with --gpu "
    text += f"{ACCELERATOR_BATCH})"
    add("batch_size", type=Number(int, 1, 10_000), metavar="N", help=text)
    text = "threads that decode photographs (default: as many as processors)"
    add("workers", type=WORKERS, default=default_workers(), metavar="N", help=text)
    add("gpu", action="store_true", help="use an accelerator where there is one")


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
    alone = "--info" if args.info else "--export" if args.export else None
    if not args.paths or (len(args.paths) == 1 and not alone):
        parser.error(
            f"{alone} takes a checkpoint"
            if alone
            else "an image and a checkpoint are needed, in this order"
        )
    *args.inputs, args.checkpoint = args.paths
    if args.output == STDOUT:
        args.output = None
    if problem := _find_problem(args, alone):
        parser.error(problem)
    args.figures = f"{os.path.splitext(args.report)[0]}.json" if args.report else None
    args.command = spell_command("predict.py", *argv)
    return args


def _find_problem(args: argparse.Namespace, alone: str | None) -> str | None:
    """Say what does not go together; `alone` is a flag that goes with nothing else."""
    more = [args.output, args.plot, args.null, args.score, args.report, args.only, args.group]
    more += [args.sort_into]
    as_file = is_onnx_name(args.export or "")
    if args.info or as_file:  # an app takes these
        more += [args.category_names, args.reject, args.promise]
    as_app = args.export and not os.path.splitext(args.export)[1] and not args.sets
    can_export = as_app or (as_file and not is_exported(args.checkpoint))
    what = "a checkpoint" if args.info else "photographs, a checkpoint"
    plot_type = os.path.splitext(args.plot or "")[1].lower()
    problems = {
        f"{alone} takes {what} and nothing else": alone
        and ((args.inputs and args.info) or any(more) or args.format != "text"),
        "--export turns a checkpoint into a file named .onnx or an app's folder, as in --export "
        "flowers.onnx checkpoint.pth or --export app checkpoint.pth": args.export
        and (args.info or not can_export),
        f"{STDIN} can be read only once": args.inputs.count(STDIN) > 1,
        "--plot takes one photograph": args.plot and not is_one_photograph(args.inputs),
        f"--plot {args.plot} ends in none of {', '.join(PICTURES)}": args.plot
        and plot_type not in PICTURES,
        "--report goes with --score": args.report and not args.score,
        f"--report {args.report} does not end in .html": args.report
        and os.path.splitext(args.report)[1].lower() != ".html",
        f"--null goes with {STDIN} among the inputs": args.null and STDIN not in args.inputs,
        "--keep goes with --reject": args.keep is not None and not args.reject,
        "--sets and --group go with --promise": (args.sets or args.group) and args.promise is None,
        "--sets goes neither with --group nor with --reject": args.sets
        and (args.group or args.reject),
        f"--output {args.output} is what an unfinished file would be called; take another name": (
            args.output and args.output.endswith((".part", ".part.log"))
        ),
        "--continue goes with --output FILE": args.goes_on and not args.output,
        "--continue goes with none of --score and --plot: those are about all photographs": (
            args.goes_on and (args.score or args.plot)
        ),
        "--copy goes with --sort_into": args.copy and not args.sort_into,
    }
    return next((problem for problem, is_there in problems.items() if is_there), None)
