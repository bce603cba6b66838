"""The inputs of the command line: photographs in files, folders and lists, and a checkpoint."""

import codecs
import hashlib
import os
import select
import sys
import zipfile
from collections.abc import Iterable, Iterator
from io import BufferedReader, RawIOBase
from typing import TypeAlias, cast

import numpy as np

from formats.onnx_file import is_exported
from formats.schema import Prediction
from formats.unknown import describe_unknown_file
from images.decode import Preprocessing, load_image
from images.folders import find_photographs
from running.errors import FlowersError, ImageError, InputError
from running.files import is_same_file, is_special

STDIN = "-"  # the input that stands for the paths on standard input
PIECE = 2**16  # bytes of standard input that are read at once

# A photograph on its way through the program: its path, with nothing, then with its pixels, then
# with its prediction; or with the error that has come in between.
Found: TypeAlias = tuple[str, FlowersError | None]
Pixels: TypeAlias = tuple[str, np.ndarray | FlowersError]
Predicted: TypeAlias = tuple[str, Prediction | FlowersError]


def is_one_photograph(inputs: list[str]) -> bool:
    """Return whether the inputs are a single file."""
    return len(inputs) == 1 and inputs != [STDIN] and not os.path.isdir(inputs[0])


def expand(
    inputs: Iterable[str], separator: bytes, passed_over: list[str] | None = None
) -> Iterator[Found]:
    """Yield the path of every photograph in the inputs: files, folders and `STDIN`.

    `separator` ends a path on standard input. Files in folders that might be photographs, but in no
    format that is read, are added to `passed_over`. Raises InputError if standard input is closed
    or holds no list.
    """
    for path in inputs:
        if path == STDIN:
            # Another spelling for a file that is called -, or this would not end.
            paths = read_paths(open_stdin(), separator)
            paths = (f"./{p}" if p == STDIN else p for p in paths)
            yield from expand(paths, separator, passed_over)
        elif not os.path.isdir(path):
            yield path, None
        else:
            unreadable: list[str] = []
            found = find_photographs(path, unreadable, passed_over)
            yield from ((path, InputError(sentence)) for sentence in unreadable)
            if not found and not unreadable:
                yield path, ImageError(f"{path} holds no photographs")
            yield from ((file, None) for file in found)


def choose(
    found: Iterable[Found], shard: tuple[int, int], targets: Iterable[str | None]
) -> Iterator[Found]:
    """Yield the photographs of a shard, I of N; none may be a file to be written."""
    number, count = shard
    existing = [target for target in targets if target and os.path.exists(target)]
    for path, error in found:
        if same := [target for target in existing if is_same_file(path, target)]:
            words = "is among the photographs; give another name to write to"
            raise InputError(f"{same[0]} {words}")
        if find_shard(path, count) == number:
            yield path, error


def find_shard(path: str, count: int) -> int:
    """Return which of `count` shards names a photograph, from 1 on: its path alone decides.

    So photographs that come or go between two jobs move no other one to another job.
    """
    digest = hashlib.blake2b(os.fsencode(path), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count + 1


def open_stdin() -> RawIOBase:
    """Return standard input in bytes, without a buffer; a closed one is an InputError."""
    if sys.stdin is None:
        raise InputError("standard input is closed")
    # A thread that waits in a buffer holds its lock, without which Python cannot end.
    return cast(RawIOBase, cast(BufferedReader, sys.stdin.buffer).raw)


def read_paths(stream: RawIOBase, separator: bytes) -> Iterator[str]:
    """Yield the paths of a list as soon as each has arrived, without empty ones.

    On lists of lines, what Windows adds is ignored, unless there is such a file: a carriage return
    at the end of a path, and the byte order mark before the first one. Raises InputError if the
    paths do not end with the separator.
    """
    rest, mark = b"", codecs.BOM_UTF8
    while (part := stream.read(PIECE)) != b"":
        if part is None:  # a non-blocking pipe that is empty
            select.select([stream], [], [])
            continue
        if separator == b"\n" and b"\0" in part:
            words = "separated by NUL (add --null) or in UTF-16 (save the list as UTF-8)"
            raise InputError(f"the paths on standard input are {words}")
        *whole, rest = (rest + part).split(separator)
        for line in whole:
            if path := _clean(line, separator, mark):
                mark = b""
                yield path
    if separator == b"\0" and b"\n" in rest and mark:
        raise InputError("the paths on standard input stand on lines, without NUL: drop --null")
    if path := _clean(rest, separator, mark):
        yield path


def _clean(line: bytes, separator: bytes, mark: bytes) -> str:
    if separator == b"\n" and not os.path.lexists(line):
        line = line.removesuffix(b"\r").removeprefix(mark)
    return os.fsdecode(line)


def read_each(item: Found, preprocessing: Preprocessing) -> Pixels:
    """Return a path with its pixels, uint8 (crop, crop, 3), or with the error."""
    path, error = item
    try:
        return path, error or load_image(path, preprocessing)
    except ImageError as unreadable:
        return path, unreadable


def check_checkpoint_file(path: str) -> None:
    """Check that a file could be a checkpoint, without reading more than its directory."""
    if not os.path.exists(path):
        raise InputError(f"{path}: no such checkpoint")
    if is_special(path) or os.path.isdir(path):
        what = "a folder" if os.path.isdir(path) else "a pipe or a device"
        raise InputError(f"{path} is {what}; the checkpoint is a file, such as checkpoint.pth")
    # torch.save writes a zip archive, whose directory is at its end.
    if not is_exported(path) and not zipfile.is_zipfile(path):
        raise InputError(describe_unknown_file(path))
