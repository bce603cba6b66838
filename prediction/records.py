"""The record of a photograph, written as text for people, as CSV or as JSON lines."""

import csv
import io
import json
from collections.abc import Callable, Iterable
from typing import NamedTuple

from formats.table import safe_path
from running.console import printable
from running.errors import FlowersError

CSV_COLUMNS = ("file", "answer", "rank", "label", "category", "probability", "error")


class Guess(NamedTuple):
    """One of the most probable names of a photograph."""

    name: str
    category: str
    probability: float  # 0..1


class Record(NamedTuple):
    """The answer to one input."""

    file: str
    guesses: list[Guess]  # the most probable first
    answer: str  # a name, the name of a group, `UNKNOWN` or `REVIEW`
    error: FlowersError | None
    is_named: bool = False  # whether the answer is the name of the first guess


def format_alone(record: Record) -> str:
    """Format the names of a single photograph in aligned columns; raise the record's error."""
    if record.error:
        raise record.error
    width = max(len(guess.name) for guess in record.guesses)
    return ("" if record.is_named else f"{record.answer}\n") + "".join(
        f"{guess.probability:7.2%}  {guess.name:{width}}  {guess.category}\n"
        for guess in record.guesses
    )


def format_text(record: Record) -> str:
    """Format the path on one line, and the names or the error below it."""
    below = f"  {printable(str(record.error))}\n" if record.error else format_alone(record)
    return f"{printable(record.file)}\n{below}"


def format_csv(record: Record) -> str:
    """Format a row of `CSV_COLUMNS` for each name, or one row with the error.

    A path that a spreadsheet would compute gets another spelling.
    """
    file = safe_path(record.file)
    if record.error:
        return csv_row((file, *[""] * (len(CSV_COLUMNS) - 2), str(record.error)))
    return "".join(
        csv_row((file, record.answer, rank, *guess[:2], f"{guess.probability:.6f}", ""))
        for rank, guess in enumerate(record.guesses, start=1)
    )


def csv_row(fields: Iterable[object]) -> str:
    """Format a row of CSV that ends in a line feed, as the other formats do."""
    row = io.StringIO(newline="")
    csv.writer(row).writerow(fields)  # with "\r\n" as its line end it quotes both "\r" and "\n"
    return row.getvalue().removesuffix("\r\n") + "\n"


def format_jsonl(record: Record) -> str:
    """Format a JSON object on one line of ASCII."""
    # Assembled by hand: json.dumps has no fixed number of digits, with which the lines are
    # comparable between machines.
    text = json.dumps
    start = f'{{"file": {text(record.file)}'
    if record.error:
        return f'{start}, "error": {text(str(record.error))}}}\n'
    guesses = [
        f'"label": {text(guess.name)}, "category": {text(guess.category)}, '
        f'"probability": {guess.probability:.6f}'
        for guess in record.guesses
    ]
    top = ", ".join(f"{{{guess}}}" for guess in guesses)
    no_name = f'"label": {text(record.answer)}, "category": null, "probability": null'
    answer = guesses[0] if record.is_named else no_name
    return f'{start}, {answer}, "top": [{top}]}}\n'


RECORD_FORMATS: dict[str, Callable[[Record], str]] = {
    "text": format_text,
    "csv": format_csv,
    "jsonl": format_jsonl,
}
