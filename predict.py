"""Name the flower on a photograph.

    python predict.py image.jpg checkpoint.pth --top_k 5
"""

import argparse
import os
import sys
import warnings
import zipfile

import data_utils
from data_utils import FlowersError, InputError

# torch and what imports it come in `run`, so that --help and mistakes need not wait.

EPILOG = """\
exit codes:
  0    done
  1    the image is missing or cannot be read, or there is too little memory
  2    the command line, the checkpoint or the names file cannot be used
  130  stopped by Ctrl-C
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; exits with 2 where it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="predict.py", description="Name the flower on a photograph.",
        usage="%(prog)s IMAGE CHECKPOINT [--top_k K] [--category_names FILE] [--gpu]",
        epilog=EPILOG, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", metavar="IMAGE CHECKPOINT",
                        help="a photograph, and the checkpoint.pth that train.py wrote")
    parser.add_argument("--top_k", "--top-k", type=int, default=5, metavar="K",
                        help="how many names to print, the most probable first "
                             "(default: %(default)s)")
    parser.add_argument("--category_names", "--category-names", metavar="FILE",
                        help='JSON file of names, as in {"21": "fire lily"} (default: the '
                             "checkpoint's)")
    parser.add_argument("--gpu", action="store_true", help="use an accelerator where there is one")
    args = parser.parse_intermixed_args(argv)

    if args.top_k < 1:
        parser.error(f"--top_k {args.top_k}: the lowest value is 1")
    if args.paths and data_utils.is_image_name(args.paths[-1]):
        parser.error(f"{args.paths[-1]} is an image; the checkpoint comes last")
    if len(args.paths) != 2:
        parser.error("two files are needed, an image and a checkpoint, in this order")
    args.image, args.checkpoint = args.paths
    return args


def main(argv: list[str] | None = None) -> int:
    """Name the flower as the command line says and return the exit code."""
    args = parse_args(argv)
    data_utils.share_processors()
    # Pillow warns of odd files with lines of its own source; unreadable ones raise anyway.
    warnings.filterwarnings("ignore", module="PIL")
    try:
        print(*run(args.image, args.checkpoint, args.top_k, args.category_names, args.gpu),
              sep="\n")
    except FlowersError as error:
        print(f"predict.py: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except (MemoryError, RuntimeError) as error:
        if not data_utils.is_out_of_memory(error):
            raise
        print("predict.py: out of memory", file=sys.stderr)
        return 1
    return 0


def run(image: str, checkpoint: str, top_k: int, names_file: str | None, gpu: bool) -> list[str]:
    """Name one photograph; return a line for each of the `top_k` most probable flowers."""
    # What can be wrong is found before torch is imported.
    check_checkpoint_file(checkpoint)
    new_names = data_utils.load_names(names_file) if names_file else None
    data_utils.open_image(image).close()
    import model_utils

    device = model_utils.find_device(gpu)
    if gpu and device.type == "cpu":
        warn("PyTorch finds no accelerator here; the CPU does the work")
    model, info = model_utils.load_checkpoint(checkpoint, device)
    categories, names = info["categories"], info["names"]
    if new_names is not None:
        names = [new_names.get(category, category) for category in categories]
        if new_names.keys() != set(categories):
            known = len(new_names.keys() & set(categories))
            warn(f"{names_file} names {known} of the {len(categories)} categories of {checkpoint}, "
                 f"and {len(new_names) - known} others")
    batches = data_utils.load_batches([image], info["preprocessing"])
    probabilities, indices = model_utils.predict(model, batches)[0].topk(
        min(top_k, len(categories)))
    return format_lines(probabilities.tolist(), [names[i] for i in indices],
                        [categories[i] for i in indices])


def warn(sentence: str) -> None:
    print(f"predict.py: warning: {sentence}", file=sys.stderr)


def check_checkpoint_file(path: str) -> None:
    """See that a file could be a checkpoint, without reading more than its directory.

    Raises:
        InputError: it cannot be one.
    """
    if not os.path.exists(path):
        raise InputError(f"{path}: no such checkpoint")
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; the checkpoint is a file that train.py wrote, "
                         "such as checkpoint.pth")
    if not zipfile.is_zipfile(path):  # as torch.save writes; one that was cut off is none
        raise InputError(f"{path} is damaged or no checkpoint of train.py")


def format_lines(probabilities: list[float], names: list[str],
                 categories: list[str]) -> list[str]:
    """Align probability, name and category in columns."""
    width = max(map(len, names))
    return [f"{probability:7.2%}  {name:{width}}  {category}"
            for probability, name, category in zip(probabilities, names, categories)]


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal cannot show
    sys.exit(main())
