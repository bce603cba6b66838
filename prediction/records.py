"""What is said of each photograph, as text for people, CSV or JSON lines."""

import csv
import io
import json
from collections.abc import Callable, Iterable
from typing import NamedTuple

from running.console import printable
from running.errors import FlowersError

# Answers that are no name: where nothing that was learned is to be seen, and where a name would not
# be safe enough for a promise.
UNKNOWN, REVIEW = "unknown", "review"

CSV_HEADER = ("file", "answer", "rank", "label", "category", "probability", "error")


class Guess(NamedTuple):
    """One of the names that a photograph might have."""

    name: str
    category: str
    probability: float  # 0..1


class Record(NamedTuple):
    """What is to be said of an input."""

    file: str
    guesses: list[Guess]  # the most probable first
    answer: str  # a name, the name of a group, `UNKNOWN` or `REVIEW`
    error: FlowersError | None
    is_named: bool = False  # whether the answer is the name of the first guess


def format_alone(record: Record) -> str:
    """Write the names of the one photograph, aligned in columns.

    Raises:
        FlowersError: the record's error, which is all that there is to say.
    """
    if record.error:
        raise record.error
    width = max(len(guess.name) for guess in record.guesses)
    return ("" if record.is_named else f"{record.answer}\n") + "".join(
        f"{guess.probability:7.2%}  {guess.name:{width}}  {guess.category}\n"
        for guess in record.guesses
    )


def format_text(record: Record) -> str:
    """Write a photograph's path on a line, and below it its names or what is wrong with it."""
    below = f"  {printable(str(record.error))}\n" if record.error else format_alone(record)
    return f"{printable(record.file)}\n{below}"


def format_csv(record: Record) -> str:
    """Write a row of `CSV_HEADER` for each name, or one with the error."""
    if record.error:
        return csv_row((record.file, "", "", "", "", "", str(record.error)))
    start = record.file, record.answer
    return "".join(
        csv_row((*start, rank, guess.name, guess.category, f"{guess.probability:.6f}", ""))
        for rank, guess in enumerate(record.guesses, start=1)
    )


def csv_row(fields: Iterable[object]) -> str:
    """Write a row of CSV, with a line end as the other formats have it."""
    row = io.StringIO(newline="")
    csv.writer(row).writerow(fields)  # its own line end makes it quote both "\r" and "\n"
    return row.getvalue().removesuffix("\r\n") + "\n"


def format_jsonl(record: Record) -> str:
    """Write a JSON object on one line of ASCII.

    json.dumps cannot write numbers with six fixed digits, which keep lines comparable between
    machines; so the numbers are formatted by hand, and it writes the texts alone.
    """
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
