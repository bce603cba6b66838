"""What is said of each photograph, as text for people, CSV or JSON lines."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import numpy as np

from prediction.info import Prediction
from running.console import printable
from running.errors import FlowersError, RunError
from running.files import write_alone

UNKNOWN = "unknown"  # the answer where nothing that was learned is to be seen

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
    known: bool  # whether it looks like something that the network learned
    error: FlowersError | None


def make_record(
    file: str,
    result: Prediction | FlowersError,
    categories: list[str],
    names: list[str],
    top_k: int,
    lowest: float,
) -> Record:
    """Say of a prediction, or error, what is to be said.

    Args:
        file: path of the photograph.
        result: the prediction of probabilities (C,), or why there is none.
        categories: of the network's outputs, as are the names.
        names: parallel to the categories.
        top_k: how many guesses, at most; above 0.
        lowest: what is less familiar, -1..1, is unknown.
    """
    if isinstance(result, FlowersError):
        return Record(file, [], False, result)
    best = np.argsort(-result.probabilities, kind="stable")[:top_k].tolist()
    guesses = [Guess(names[i], categories[i], result.probabilities[i].item()) for i in best]
    return Record(file, guesses, result.familiarity >= lowest, None)


def format_alone(record: Record) -> str:
    """Write the names of the one photograph, aligned in columns.

    Raises:
        FlowersError: the record's error, which is all that there is to say.
    """
    if record.error:
        raise record.error
    width = max(len(guess.name) for guess in record.guesses)
    return ("" if record.known else f"{UNKNOWN}\n") + "".join(
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
    answer = record.guesses[0].name if record.known else UNKNOWN
    return "".join(
        csv_row(
            (record.file, answer, rank, guess.name, guess.category, f"{guess.probability:.6f}", "")
        )
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
    unknown = f'"label": {text(UNKNOWN)}, "category": null, "probability": null'
    answer = guesses[0] if record.known else unknown
    return f'{start}, {answer}, "top": [{top}]}}\n'


RECORD_FORMATS: dict[str, Callable[[Record], str]] = {
    "text": format_text,
    "csv": format_csv,
    "jsonl": format_jsonl,
}


@contextmanager
def open_output(path: str | None, format_name: str) -> Iterator[Callable[[str], None]]:
    """Open the file or standard output; yield a function that writes and flushes a record.

    Raises:
        InputError: the file cannot be written there, or another process is writing it.
        RunError: the disk is full; the function raises it, too.
    """
    # Records carry file names as they are, whatever bytes those are of.
    encoding, errors = "utf-8", "surrogateescape"
    if not path and format_name == "text":  # names that the terminal cannot show
        encoding, errors = sys.stdout.encoding or encoding, "backslashreplace"
    with write_alone(path) if path else nullcontext(sys.stdout.buffer) as file:

        def write(text: str) -> None:
            try:
                file.write(text.encode(encoding, errors))
                file.flush()
            except OSError as error:
                raise RunError(
                    f"{path or 'standard output'} cannot be written: {error.strerror}"
                ) from error

        yield write
