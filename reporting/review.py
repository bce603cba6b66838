"""A page on which a person decides about photographs, one after the other, by clicks and keys.

What is decided is kept in the browser and saved as a table; nothing is sent anywhere. Without its
script the page shows all that there is to decide, for those who fill the table by hand.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reporting.page import Item, Page

SCRIPT = Path(__file__).with_name("review.js")
PIXELS = 32_000  # of the short sides of all thumbnails: a page stays below 10 MB
LARGEST, SMALLEST = 320, 112  # pixels of a thumbnail's short side


class Question(NamedTuple):
    """What is asked about a photograph."""

    path: str
    asked: str  # answered by yes, no or a name
    more: str = ""


def add_review(
    page: Page,
    questions: Sequence[Question],
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    table: str,
    names: Sequence[str],
) -> None:
    """Add questions, whose answers fill the last column of a table that is saved as `table`.

    `rows` are parallel to the questions, and `names` are suggested as answers.
    """
    side = min(max(PIXELS // max(len(questions), 1), SMALLEST), LARGEST)
    items = [Item([(each.path, each.asked)], each.asked, each.more) for each in questions]
    page.gallery(items, side, limited=False)
    known = {"columns": columns, "rows": rows, "table": table, "names": sorted({*names})}
    digest = hashlib.sha256(json.dumps(known).encode(errors="replace")).hexdigest()
    page.script(SCRIPT, {**known, "kept": f"review {digest[:16]}"})
