"""What the command line names: photographs, in files, folders and lists, and a checkpoint."""

import os
import sys
import zipfile
from collections.abc import Iterable, Iterator
from io import BufferedIOBase
from typing import cast

import numpy as np

from photographs.folders import find_photographs
from photographs.images import Preprocessing, load_image
from prediction.onnx_runtime import is_exported
from running.errors import FlowersError, ImageError, InputError
from running.files import is_special

PIECE = 2**16  # bytes of standard input that are read at once

STDIN = "-"  # stands among the inputs for the paths on standard input


def is_one_photograph(inputs: list[str]) -> bool:
    """Tell whether these inputs are a single file."""
    return len(inputs) == 1 and inputs != [STDIN] and not os.path.isdir(inputs[0])


def expand(inputs: Iterable[str], separator: bytes) -> Iterator[tuple[str, FlowersError | None]]:
    """Yield the path of every photograph; with an error, where there is none to read.

    Args:
        inputs: files, folders and `STDIN`, whose paths may be folders, too.
        separator: what ends a path on standard input.
    """
    for path in inputs:
        if path == STDIN:
            # A file that is called so has to be there as another path, or this would not end.
            paths = read_paths(cast(BufferedIOBase, sys.stdin.buffer), separator)
            yield from expand((f"./{p}" if p == STDIN else p for p in paths), separator)
        elif not os.path.isdir(path):
            yield path, None
        else:
            try:
                found = find_photographs(path)
            except InputError as error:
                yield path, error
                continue
            if not found:
                yield path, ImageError(f"{path} holds no photographs")
            yield from ((file, None) for file in found)


def read_paths(stream: BufferedIOBase, separator: bytes) -> Iterator[str]:
    """Read paths that a separator stands between, each as soon as it is there; skip empty ones."""
    rest = b""
    while part := stream.read1(PIECE):
        *whole, rest = (rest + part).split(separator)
        yield from (os.fsdecode(path) for path in whole if path)
    if rest:
        yield os.fsdecode(rest)


def read_each(
    item: tuple[str, FlowersError | None], preprocessing: Preprocessing
) -> tuple[str, np.ndarray | FlowersError]:
    """Read a photograph that `expand` found; return its path with its pixels, or with an error.

    The pixels are uint8 (crop, crop, 3), 0..255.
    """
    path, error = item
    if error is None:
        try:
            return path, load_image(path, preprocessing)
        except ImageError as unreadable:
            error = unreadable
    return path, error


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
            f"{path} is a folder; the checkpoint is a file that train.py wrote, such as "
            "checkpoint.pth"
        )
    # torch.save writes an archive; one that was cut off is none.
    if not is_exported(path) and not zipfile.is_zipfile(path):
        raise InputError(f"{path} is damaged or no checkpoint of train.py")
