"""The command line of predict.py: its flags, and which of them go together."""

import argparse
import os
import sys
from functools import partial

from formats.onnx_file import is_exported, is_onnx_name
from formats.schema import KEEP
from images.decode import ACCELERATOR_BATCH, EVALUATION_BATCH
from images.folders import is_image_name
from prediction.inputs import STDIN, is_one_photograph
from prediction.promise import CONFIDENCE
from prediction.records import RECORD_FORMATS
from running.console import Console, Parser
from running.environment import command_words
from running.flags import SHARE, WORKERS, Number, add_flag, file_name, shard
from running.threads import default_workers

USAGE = """\
%(prog)s INPUT [INPUT ...] CHECKPOINT [flags]
       %(prog)s --info CHECKPOINT
       %(prog)s --export FILE|DIR CHECKPOINT"""

EPILOG = """\
exit codes:
  0    every input was answered
  1    some could not be read, or there is too little memory or disk
  2    the command line, the checkpoint or a names file cannot be used, or a promise cannot be kept
  130  stopped by Ctrl-C
  143  stopped by SIGTERM
"""

TOP_K = 5
SAMPLE_TABLE, SAMPLE_PAGE = "sample.csv", "sample.html"
LARGEST_SAMPLE = 1000  # photographs; all are on the page
STDOUT = "-"  # as the file of --output
PICTURES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")


def build_parser(console: Console) -> Parser:
    """Describe the command line; `parse_args` checks which flags go together."""
    description = "Name the flowers on photographs."
    parser = Parser(console, description=description, usage=USAGE, epilog=EPILOG)
    text = "photographs, folders of them, or - for paths on standard input, one per line; then a "
    text += "checkpoint.pth from train.py, or a file from --export"
    metavar = "INPUT ... CHECKPOINT"
    parser.add_argument("paths", nargs="*", type=file_name, metavar=metavar, help=text)
    default = "(default: %(default)s)"

    add = partial(add_flag, parser.add_argument_group("answers"))
    text = f"how many names to print, the most probable first (default: {TOP_K})"
    add("top_k", type=Number(int, 1, 10**6), metavar="K", help=text)
    text = 'JSON file of names, as in {"21": "fire lily"} (default: the checkpoint\'s)'
    add("category_names", type=file_name, metavar="FILE", help=text)
    text = "answer unknown where a photograph looks like nothing in the training data"
    add("reject", action="store_true", help=text)
    text = "with --reject: the share of the photographs of its categories that keep their names "
    add("keep", type=SHARE, metavar="SHARE", help=f"{text}(default: {KEEP})")
    text = f"give only so many names that, with {CONFIDENCE * 100:.0f}%% confidence, this share of "
    text += "them is correct; the rest get the answer review"
    add("promise", type=Number(float, 0.5, 0.9999), metavar="SHARE", help=text)
    text = "allow only the categories in this file: one category or name per line"
    add("only", type=file_name, metavar="FILE", help=text)
    text = "with --promise: where no name is certain enough the answer may be a group; a JSON file "
    add("group", type=file_name, metavar="FILE", help=text + 'as in {"21": "lilies"}')

    text = "draw N of the photographs at random for a person to check, on a page, "
    text += f"{SAMPLE_PAGE}, or in a table, {SAMPLE_TABLE}; and stop (--output names the table)"
    add("check_sample", type=Number(int, 1, LARGEST_SAMPLE), metavar="N", help=text)
    text = "print the accuracy that a checked table shows; a --promise rests on it, not on valid"
    add("checked", type=file_name, metavar="FILE", help=text)

    add = partial(add_flag, parser.add_argument_group("records"))
    add("format", choices=RECORD_FORMATS, default="text", help=f"format of the records {default}")
    text = "write the records to a file, called FILE.part until it is complete "
    text += "(default: -, standard output)"
    add("output", type=file_name, metavar="FILE", help=text)
    text = "with --output: resume after the last record of FILE.part, left by a stopped job"
    add("continue", action="store_true", dest="resume", help=text)
    text = "put links to the photographs into a folder for each answer"
    add("sort_into", type=file_name, metavar="DIR", help=text)
    add("copy", action="store_true", help="with --sort_into: copies instead of links")
    text = "paths on standard input end with NUL, as from find -print0"
    add("null", action="store_true", help=text)
    text = "name only shard I of N of the photographs; N such jobs share a list"
    add("shard", type=shard, default="1/1", metavar="I/N", help=text)
    text = "print the accuracy on standard error; the folder of a photograph is its category"
    add("score", action="store_true", help=text)
    text = "with --score: write all figures, and the photographs that were named wrongly, into a "
    text += "page, report.html, and the figures into report.json beside it"
    add("report", type=file_name, metavar="FILE", help=text)

    add = partial(add_flag, parser.add_argument_group("others"))
    text = "draw the photograph, an occlusion map of its best name and bars of the most "
    text += "probable names: a .png, .jpg, .pdf or .svg"
    add("plot", type=file_name, metavar="FILE", help=text)
    add("info", action="store_true", help="describe a checkpoint, and stop")
    text = "write the checkpoint's network, with half-precision weights, into an ONNX file for "
    text += "applications, flowers.onnx, or with a web page that names flowers on a phone into a "
    add("export", type=file_name, metavar="FILE|DIR", help=text + "folder, app; and stop")
    text = "with --export DIR: show in the app what each flower looks like, by photographs of this "
    add("pictures", type=file_name, metavar="DIR", help=text + "folder of class folders")
    text = "with --export: float32 weights, in a file twice as large"
    add("float32", action="store_true", help=text)
    text = f"photographs that a checkpoint computes at once (default: {EVALUATION_BATCH}, with "
    text += f"--gpu {ACCELERATOR_BATCH}); 1 answers each path on standard input at once"
    add("batch_size", type=Number(int, 1, 10_000), metavar="N", help=text)
    text = "threads that decode photographs (default: as many as processors)"
    add("workers", type=WORKERS, default=default_workers(), metavar="N", help=text)
    add("gpu", action="store_true", help="use an accelerator where there is one")
    return parser


def parse_args(console: Console, argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; one that makes no sense ends with exit code 2."""
    parser = build_parser(console)
    argv = sys.argv[1:] if argv is None else argv
    end = argv.index("--") if "--" in argv else len(argv)  # paths follow, such as -x.jpg
    args = parser.parse_intermixed_args(argv[:end])
    args.paths += argv[end + 1 :]
    if args.batch_size is None:
        args.batch_size = ACCELERATOR_BATCH if args.gpu else EVALUATION_BATCH
    if args.paths and is_image_name(args.paths[-1]):
        parser.error(f"{args.paths[-1]} is an image; the checkpoint comes last")
    alone = "--info" if args.info else "--export" if args.export else ""
    if len(args.paths) < (1 if alone else 2):
        images = "an image and a checkpoint are needed, in this order"
        parser.error(f"{alone} takes a checkpoint" if alone else images)
    *args.inputs, args.checkpoint = args.paths
    if args.output == STDOUT:
        args.output = None
    for refused, sentence in _combinations(args):
        if refused:
            parser.error(sentence)
    args.page = None
    if args.check_sample:
        args.output = args.output or SAMPLE_TABLE
        args.page = f"{os.path.splitext(args.output)[0]}.html"
    args.top_k = args.top_k or TOP_K
    args.figures = f"{os.path.splitext(args.report)[0]}.json" if args.report else None
    args.words = command_words("predict.py", *argv)
    return args


def _combinations(args: argparse.Namespace) -> list[tuple[object, str]]:
    """List what does not go together: a condition, and the sentence that refuses it."""
    alone = "--info" if args.info else "--export" if args.export else ""
    of_photographs = [args.inputs, args.output, args.plot, args.null, args.score, args.report]
    of_photographs += [args.only, args.group, args.sort_into, args.format != "text"]
    of_photographs += [
        args.check_sample,
        args.checked,
        args.shard != (1, 1),
        args.top_k is not None,
    ]
    of_sample = [args.plot, args.score, args.sort_into, args.format != "text", args.resume]
    of_sample += [args.shard != (1, 1), args.checked, args.group, args.reject, args.promise]
    of_answers = [args.category_names, args.reject, args.promise]  # which an app takes
    exported = is_exported(args.checkpoint)
    as_file, as_app = is_onnx_name(args.export or ""), not _extension(args.export)
    can_export = not args.info and (as_app or (as_file and not exported))
    more = any(of_photographs) or (any(of_answers) and (args.info or as_file))
    no_picture = args.plot and _extension(args.plot) not in PICTURES
    no_page = args.report and _extension(args.report) != ".html"
    part = args.output and args.output.endswith((".part", ".part.log"))
    export = "--export turns a checkpoint into a file named .onnx or an app's folder, as in "
    export += "--export flowers.onnx checkpoint.pth or --export app checkpoint.pth"
    resume = "--continue goes with neither --score nor --plot: those are about all photographs"
    return [
        (alone and more, f"{alone} takes a checkpoint and nothing else"),
        (args.export and not can_export, export),
        (args.float32 and not args.export, "--float32 goes with --export"),
        (args.pictures and not as_app, "--pictures goes with --export DIR"),
        (args.float32 and exported, f"--float32: {args.checkpoint} is exported already"),
        (args.inputs.count(STDIN) > 1, f"{STDIN} can be read only once"),
        (args.plot and not is_one_photograph(args.inputs), "--plot takes one photograph"),
        (no_picture, f"--plot {args.plot} ends in none of {', '.join(PICTURES)}"),
        (args.report and not args.score, "--report goes with --score"),
        (no_page, f"--report {args.report} does not end in .html"),
        (args.null and STDIN not in args.inputs, f"--null goes with {STDIN} among the inputs"),
        (
            args.check_sample and any(of_sample),
            "--check_sample draws photographs, and goes with no other answer or record",
        ),
        (args.keep is not None and not args.reject, "--keep goes with --reject"),
        (args.group and args.promise is None, "--group goes with --promise"),
        (part, f"--output {args.output} is what an unfinished file would be called"),
        (args.resume and not args.output, "--continue goes with --output FILE"),
        (args.resume and (args.score or args.plot), resume),
        (args.copy and not args.sort_into, "--copy goes with --sort_into"),
    ]


def _extension(path: str | None) -> str:
    return os.path.splitext(path or "")[1].lower()
