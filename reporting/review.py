"""Questions about photographs, which a person answers on a page, one after the other.

The answers are kept in the browser and saved as a table; nothing is sent anywhere. Without its
script the page shows all questions, for those who fill the table by hand.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reporting.page import Item, Page, Picture
from running.environment import spell_command

# Of data_report.csv, in which users accept suggestions about photographs of a data folder.
FIX_COLUMNS = ("file", "split", "category", "kind", "score", "suggestion", "reason", "accept")
MOVE, LEAVE_OUT = "move to ", "leave out"  # suggestions; a category follows the first

SCRIPT = Path(__file__).with_name("review.js")
# Of the short sides of all thumbnails: a page stays below 10 MB, a part of one below 1 MB.
PIXELS, PIXELS_OF_PART = 32_000, 14_000
LARGEST, SMALLEST = 320, 112  # pixels of a thumbnail's short side


class Question(NamedTuple):
    """A question about the first of some photographs."""

    pictures: Sequence[Picture]
    asked: str
    more: str
    yes: str  # what it means, on its button
    no: str

    def item(self) -> Item:
        """Return what is shown of it."""
        return Item(self.pictures, self.asked, self.more)


class Table(NamedTuple):
    """The table that the answers are saved as: they fill its last column."""

    name: str  # of the file
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]  # the first ones are parallel to the questions
    then: str  # what to do once it is saved
    command: str  # that reads it


def add_review(
    page: Page,
    questions: Sequence[Question],
    table: Table,
    names: Sequence[str],
    is_open: bool = True,
) -> None:
    """Add questions and their table; `names` are suggested as answers.

    If it is not `is_open`, it is a part of a page, with smaller thumbnails: all questions are shown
    until a button is pressed.
    """
    count = sum(len(each.pictures) for each in questions)
    pixels = PIXELS if is_open else PIXELS_OF_PART
    side = min(max(pixels // max(count, 1), SMALLEST), LARGEST)
    page.gallery([each.item() for each in questions], side, limited=False)
    known = {
        **table._asdict(),
        "words": [(each.yes, each.no) for each in questions],
        "names": sorted({*names}),
        "isOpen": is_open,
    }
    digest = hashlib.sha256(json.dumps(known).encode(errors="replace")).hexdigest()
    page.script(SCRIPT, {**known, "kept": f"review {digest[:16]}"})


def make_table(folder: str, name: str, rows: Sequence[Sequence[str]]) -> Table:
    """Make the table of suggestions about photographs of a data folder."""
    target = f"{os.path.normpath(folder)}_corrected"
    command = spell_command("train.py", folder, "--apply", name, "--to", target)
    then = f"{move_words(name)} It makes a new folder, and leaves {folder} as it is."
    return Table(name, FIX_COLUMNS, rows, then, command)


def move_words(name: str) -> str:
    """Say where a saved table has to be, so that a command reads it."""
    return f"Then move {name} into {os.getcwd()} and type there, in a terminal, the command below."
