"""running/console.py"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NoReturn

from tqdm import tqdm

from running.errors import RunError
from train import FIRST, let_the_first_speak


def printable(text: str) -> str:
    """Escape what could upset a terminal: control characters, line ends, undecodable bytes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Parser(argparse.ArgumentParser):
    """A parser whose messages leave the terminal alone, whatever was typed."""

    def error(self, message: str) -> NoReturn:
        if not FIRST:
            let_the_first_speak()
            sys.exit(2)
        super().error(printable(message))


def tell(*lines: str) -> None:
    """Print results on stdout.

    Raises:
        RunError: nobody reads them, or the disk is full that they go to.
    """
    if not FIRST:
        return
    try:
        print(*map(printable, lines), sep="\n", flush=True)
    except OSError as error:
        with suppress(OSError, AttributeError):  # or Python would try once more at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise RunError(f"standard output cannot be written: {error.strerror}") from error


def say(*lines: str, everybody: bool = False) -> None:
    """Tell the user, on stderr, what is no result; of several processes the first one does."""
    if not lines or not (FIRST or everybody):
        return
    with suppress(OSError):
        print(*map(printable, lines), sep="\n", file=sys.stderr, flush=True)


def with_bar(
    batches: Iterable, total: int, description: str, unit: str = " photos", done: int = 0
) -> Iterator:
    """Show progress in photographs or bytes ("B") while the batches pass, on a terminal only."""
    with tqdm(
        total=total,
        desc=description,
        unit=unit,
        unit_scale=unit == "B",
        initial=done,
        leave=False,
        disable=None if FIRST else True,
    ) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))
