"""prediction/inputs.py"""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from photographs.folders import find_photographs
from photographs.images import load_image
from running.errors import FlowersError, ImageError, InputError


def is_one_photograph(inputs: list[str]) -> bool:
    return len(inputs) == 1 and inputs != ["-"] and not os.path.isdir(inputs[0])


def expand(inputs: Iterable[str], separator: bytes) -> Iterator[tuple[str, FlowersError | None]]:
    """Yield the path of every photograph; with an error, where there is none to read."""
    for path in inputs:
        if path == "-":
            yield from expand(
                (f"./{p}" if p == "-" else p for p in read_paths(sys.stdin.buffer, separator)),
                separator,
            )
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


def read_paths(stream: BinaryIO, separator: bytes) -> Iterator[str]:
    """Read paths that a separator stands between; empty ones are none."""
    rest = b""
    while part := stream.read1(2**16):
        *whole, rest = (rest + part).split(separator)
        yield from (os.fsdecode(path) for path in whole if path)
    if rest:
        yield os.fsdecode(rest)


def read(path: str, error: FlowersError | None, preprocessing):
    """Read a photograph; return its path with its pixels, or with what is wrong with it."""
    if error is None:
        try:
            return path, load_image(path, preprocessing)
        except ImageError as unreadable:
            error = unreadable
    return path, error
