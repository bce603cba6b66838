"""What the command line names: photographs, in files, folders and lists, and a checkpoint."""

import codecs
import os
import select
import sys
import zipfile
from collections.abc import Iterable, Iterator
from io import BufferedIOBase
from typing import cast

import numpy as np

from formats.onnx_file import is_exported
from formats.unknown import describe_unknown_file
from images.decode import Preprocessing, load_image
from images.folders import find_photographs
from running.errors import FlowersError, ImageError, InputError
from running.files import is_same_file, is_special
from running.threads import PAUSE, is_pause

PIECE = 2**16  # bytes of standard input that are read at once

STDIN = "-"  # stands among the inputs for the paths on standard input


def is_one_photograph(inputs: list[str]) -> bool:
    """Tell whether these inputs are a single file."""
    return len(inputs) == 1 and inputs != [STDIN] and not os.path.isdir(inputs[0])


def name_inputs(inputs: list[str]) -> str:
    """Say in a few words where photographs are from."""
    if len(inputs) > 1:
        return f"{len(inputs)} inputs"
    return "standard input" if inputs == [STDIN] else inputs[0]


def expand(inputs: Iterable[str], separator: bytes) -> Iterator[tuple[str, FlowersError | None]]:
    """Yield the path of every photograph; with an error, where there is none to read.

    Where a list on standard input is idle, a `PAUSE` is yielded.

    Args:
        inputs: files, folders and `STDIN`, whose paths may be folders, too.
        separator: what ends a path on standard input.

    Raises:
        InputError: standard input is closed, or no list of paths.
    """
    for path in inputs:
        if path == STDIN:
            # A file that is called - has to be there as another path, or this would not end.
            paths = read_paths(open_stdin(), separator)
            yield from expand((f"./{p}" if p == STDIN else p for p in paths), separator)
        elif is_pause(path):
            yield PAUSE
        elif not os.path.isdir(path):
            yield path, None
        else:
            errors: list[InputError] = []
            found = find_photographs(path, errors.append)
            yield from ((path, error) for error in errors)
            if not found and not errors:
                yield path, ImageError(f"{path} holds no photographs")
            yield from ((file, None) for file in found)


def choose(
    paths: Iterable[tuple[str, FlowersError | None]],
    shard: tuple[int, int],
    targets: Iterable[str | None],
) -> Iterator[tuple[str, FlowersError | None]]:
    """Pass on what one of several jobs names; no input may be a file that is to be written.

    Args:
        paths: see `expand`.
        shard: the first input of the job, counted from 1, and how many further each next one is.
        targets: the files that are to be written.

    Raises:
        InputError: one is among the photographs.
    """
    (first, step), number = shard, 0
    existing = [target for target in targets if target and os.path.exists(target)]
    for item in paths:
        if is_pause(item):
            yield item
            continue
        number += 1
        for target in existing:
            if is_same_file(item[0], target):
                raise InputError(
                    f"{target} is among the photographs; give another name to write to"
                )
        if number % step == first % step:
            yield item


def open_stdin() -> BufferedIOBase:
    """Return standard input in bytes.

    Raises:
        InputError: it is closed.
    """
    if sys.stdin is None:
        raise InputError("standard input is closed")
    return cast(BufferedIOBase, sys.stdin.buffer)


def read_paths(stream: BufferedIOBase, separator: bytes) -> Iterator[str]:
    """Read the paths of a list, each as soon as it is there; skip empty ones.

    A carriage return at the end of a line and the byte order mark of a list that was made on
    Windows are left out, unless a file is called so. Before the next path has to be waited for, a
    `PAUSE` is yielded.

    Raises:
        InputError: it is no list of paths that end with the separator.
    """
    rest, count = b"", 0
    while True:
        if _is_idle(stream):
            yield PAUSE
            select.select([stream], [], [])  # as what does not block would seem to have ended
        part = stream.read1(PIECE)
        if not part:
            break
        if separator == b"\n" and b"\0" in part:
            raise InputError(
                "the list on standard input is in UTF-16; save it as UTF-8"
                if not count and part.startswith((b"\xff\xfe", b"\xfe\xff"))
                else "the paths on standard input are separated by NUL, not by lines: add --null"
            )
        *whole, rest = (rest + part).split(separator)
        for line in whole:
            if path := _clean(line, separator, first=not count):
                count += 1
                yield path
    if separator == b"\0" and b"\n" in rest and not count:
        raise InputError("the paths on standard input stand on lines, without NUL: drop --null")
    if path := _clean(rest, separator, first=not count):
        yield path


def _is_idle(stream: BufferedIOBase) -> bool:
    """Tell whether a stream whose buffer is empty has nothing to read yet."""
    try:
        return not select.select([stream], [], [], 0)[0]
    except (OSError, ValueError):  # no file of the system, or a pipe of Windows: nobody can tell
        return False


def _clean(line: bytes, separator: bytes, first: bool) -> str:
    """Take a path of a list as it is, or as it was meant."""
    marked = first and line.startswith(codecs.BOM_UTF8)
    if separator == b"\n" and (marked or line.endswith(b"\r")) and not os.path.lexists(line):
        line = line.removesuffix(b"\r")
        if marked:
            line = line.removeprefix(codecs.BOM_UTF8)
    return os.fsdecode(line)


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
        raise InputError(describe_unknown_file(path))
