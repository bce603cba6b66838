"""Flags: both spellings of each, and the values that they may have."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def add_flag(parser: argparse._ActionsContainer, name: str, *others: str, **options: Any) -> None:
    """Add --some_flag, which may be typed as --some-flag, too."""
    spellings = [f"--{name}", *(f"--{other}" for other in others)]
    spellings += [each.replace("_", "-") for each in spellings if "_" in each]
    parser.add_argument(*spellings, **options)


def fill_in(argv: Sequence[str], name: str, values: Sequence[str]) -> list[str]:
    """Give a flag its first value where none of its values follows, but perhaps a folder."""
    spellings = {f"--{name}", f"--{name}".replace("_", "-")}
    return [
        f"{word}={values[0]}" if word in spellings and following not in values else word
        for word, following in zip(argv, [*argv[1:], ""])
    ]


@dataclass(frozen=True)
class Number:
    """The range of a flag's number, and the argparse `type` that reads it."""

    kind: type[int] | type[float]
    lowest: float
    highest: float
    above: bool = False  # whether `lowest` itself is too low
    hint: str = ""

    def holds(self, value: Any) -> bool:
        """Whether a value is such a number; neither True nor nan is one."""
        if type(value) is not self.kind or (self.above and value == self.lowest):
            return False
        return bool(self.lowest <= value <= self.highest)

    def __call__(self, text: str) -> float:
        try:
            value = self.kind(text)
        except ValueError:
            kind = "a whole number" if self.kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {kind}") from None
        if self.holds(value):
            return value
        limits = f"from {self.lowest} to {self.highest}"
        if self.above:
            limits = f"above {self.lowest} and at most {self.highest}"
        hint = f"; {self.hint}" if self.hint else ""
        raise argparse.ArgumentTypeError(f"{text} must be {limits}{hint}")


SHARE = Number(float, 0, 1)
WORKERS = Number(int, 1, 1024)
IMAGE_SIZE = Number(int, 32, 1024)  # pixels, the side of a network's square input


def file_name(text: str) -> str:
    """Read a path; an empty one is an unset variable of the shell."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; is a variable of the shell not set?")
    return text


def widths(text: str) -> list[int]:
    """Read the widths of hidden layers, as in 512,256."""
    if not re.fullmatch(r"[1-9]\d{0,5}(,[1-9]\d{0,5}){0,9}", text):
        raise argparse.ArgumentTypeError(f"{text} must be whole numbers above 0, as in 512,256")
    return [int(units) for units in text.split(",")]


def shard(text: str) -> tuple[int, int]:
    """Read I and N from I/N, as in 2/8."""
    parts = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not parts or not 1 <= int(parts[1]) <= int(parts[2]):
        raise argparse.ArgumentTypeError(
            f"{text} must be I/N with I from 1 to N: the second of eight jobs has 2/8"
        )
    return int(parts[1]), int(parts[2])
