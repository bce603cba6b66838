"""A sample of a batch that a person checks, so that a promise can rest on it."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from formats.schema import CalibrationSet, Prediction
from formats.table import NO, YES, format_table, read_table, safe_path, safe_text
from images.folders import normalise
from prediction.inputs import Found
from prediction.records import Record
from reporting.metrics import wilson_interval
from reporting.page import Page, Picture
from reporting.review import Question, Table, add_review, move_words
from running.errors import FlowersError, InputError

COLUMNS = ("number", "of", "file", "answer", "category", "probability", "correct")
ANOTHER = -1  # the label of a photograph of which no more is known than that its name was wrong


class Checked(NamedTuple):
    """A photograph that a person has looked at."""

    path: str
    label: int  # the index of its category, or `ANOTHER`


def draw(found: Sequence[Found]) -> Iterator[Found]:
    """Yield the photographs of a batch in a random order, the same each time."""
    order = np.random.default_rng(0).permutation(len(found)).tolist()
    return (found[i] for i in order)


def make_table(records: Sequence[Record], count: int) -> bytes:
    """Make the table of a sample of a batch of `count`; a person fills its last column."""
    return format_table(COLUMNS, _rows(records, count))


def _rows(records: Sequence[Record], count: int) -> list[list[str]]:
    rows = []
    for number, record in enumerate(records, start=1):
        best = record.guesses[0]
        words = safe_text(best.name), safe_text(best.category), f"{best.probability:.1%}"
        rows.append([str(number), str(count), safe_path(record.file), *words, ""])
    return rows


def make_sample_page(
    records: Sequence[Record], count: int, path: str, names: Sequence[str], command: str
) -> bytes:
    """Make the page on which a person checks a sample, and saves the table `path`.

    `command` is what reads that, see `reporting.review.Table`.
    """
    page = Page(f"Are these {len(records)} names correct?", os.path.dirname(path))
    page.text(
        f"A random sample of {count} photographs. Say of each whether the first name is correct. "
        "Where it is not, and you know the right name, give it. If you cannot tell, or the "
        "photograph shows nothing that the network knows, the name counts as wrong."
    )
    questions = []
    for record in records:
        best = record.guesses[0]
        others = ", ".join(f"{guess.name} {guess.probability:.0%}" for guess in record.guesses[1:])
        asked = f"{best.name}? ({best.probability:.0%})"
        place = os.path.join(*Path(record.file).parts[-2:])
        more = f"or {others}; {place}" if others else place
        questions.append(Question([Picture(record.file, asked)], asked, more, "Correct", "Wrong"))
    name = os.path.basename(path)
    table = Table(name, COLUMNS, _rows(records, count), move_words(name), command)
    add_review(page, questions, table, names)
    return page.render()


# --- What a person has said ------------------------------------------------------------


class Answer(NamedTuple):
    """What a person has said of a photograph."""

    of: int  # photographs of the batch
    path: str
    category: str  # of the name that was asked about
    correct: str  # yes, no or another name, in some spelling


def read_answers(path: str) -> list[Answer]:
    """Read the table of a sample, or the first part that is filled, in the order of the draw.

    Raises InputError if it is another file, or an answer is missing.
    """
    rows = [*read_table(path, COLUMNS, "a sample of --check_sample")]
    try:
        rows.sort(key=lambda row: int(row["number"]))
        if [int(row["number"]) for row in rows] != [*range(1, len(rows) + 1)]:
            raise ValueError
        answers = [
            Answer(
                int(row["of"]),
                row["file"],
                row["category"].removeprefix("'"),
                row["correct"].strip(),
            )
            for row in rows
        ]
    except ValueError:
        raise InputError(
            f"{path}: the column number is not 1 to {len(rows)}; rows were added or left out"
        ) from None
    filled = next((i for i, answer in enumerate(answers) if not answer.correct), len(rows))
    later = [i for i, answer in enumerate(answers[filled:], start=filled) if answer.correct]
    if later:
        raise InputError(
            f"{path}: number {filled + 1} has no answer, and number {later[0] + 1} has one; check "
            "the photographs in their order"
        )
    if not filled:
        raise InputError(
            f"{path}: nothing is checked; write y, n or the right name into the column correct"
        )
    return answers[:filled]


def label_answers(
    path: str, answers: Sequence[Answer], categories: Sequence[str], names: Sequence[str]
) -> list[Checked]:
    """Find the category of each photograph; raise InputError for an answer that is none.

    What is a category or a name of the network is that, though it may look like a yes.
    """
    known = {_spell(word): i for words in (categories, names) for i, word in enumerate(words)}
    checked = []
    for number, (_, file, category, correct) in enumerate(answers, start=1):
        label = known.get(_spell(correct))
        if label is None and correct.lower() in YES:
            label = known.get(_spell(category))
            if label is None:
                raise InputError(f"{path}: this network does not know {category!r}")
        elif label is None and correct.lower() in NO:
            label = ANOTHER
        elif label is None:
            raise InputError(
                f"{path}, number {number}: {correct!r} is neither y, n nor a name of this network"
            )
        checked.append(Checked(file, label))
    return checked


def _spell(word: str) -> str:
    return normalise(word).casefold()


def require_drawn_from(path: str, checked: Sequence[Checked], files: set[str]) -> None:
    """Raise InputError unless the photographs of a sample are among these files."""
    known = {os.path.normpath(file) for file in files}
    if others := [each for each in checked if os.path.normpath(each.path) not in known]:
        raise InputError(
            f"{len(others)} of the {len(checked)} photographs of {path} are not among these, such "
            f"as {others[0].path}: a sample stands for the batch that it was drawn from"
        )


def as_calibration_set(
    path: str, checked: Sequence[Checked], predictions: Sequence[Prediction | FlowersError]
) -> CalibrationSet:
    """Put what is known of a sample where promises look for it.

    Raises InputError if a photograph could not be read.
    """
    found = []
    for prediction in predictions:
        if isinstance(prediction, FlowersError):
            raise InputError(f"{path}: {prediction}")
        found.append(prediction)
    with np.errstate(divide="ignore"):
        logs = np.log(np.array([each.probabilities for each in found], np.float64))
    labels = np.array([each.label for each in checked])
    return CalibrationSet(logs, labels, np.array([each.ood_score for each in found]))


def accuracy_line(sample: CalibrationSet) -> str:
    """Say how many of the batch's names are correct, as far as a sample can tell."""
    right, count = int((sample.log_probabilities.argmax(1) == sample.labels).sum()), len(sample[1])
    low, high = wilson_interval(right, count)
    return (
        f"of {count} checked photographs {right} are named correctly: {right / count:.1%} of the "
        f"batch (95 % interval: {low:.1%} to {high:.1%})"
    )
