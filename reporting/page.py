"""A page of HTML in one file: text, tables, charts and thumbnails; no script, nothing to fetch.

A page is a list of blocks, which are plain data, and `render` makes the file of them. Whatever
they say is escaped here, and only here.
"""

import base64
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple, TypeAlias

from images.decode import thumbnail
from running.console import printable
from running.errors import ImageError

# Bytes: together below 5 million, with the few other texts, none of which is long.
LARGEST_GALLERIES = 3_500_000  # all of a page
LARGEST_TABLE = 500_000
LONGEST_TEXT = 500  # letters

SIDE = 160  # pixels of a thumbnail's short side

STYLE = Path(__file__).with_name("page.css")


# --- Blocks ---------------------------------------------------------------------------


class Heading(NamedTuple):
    """Begins a part of the page, or of a part (level 3)."""

    text: str
    level: int = 2


class Text(NamedTuple):
    """A paragraph."""

    text: str


class Facts(NamedTuple):
    """Terms, each with what there is to say of it; `large` for the figures that count most."""

    entries: Sequence[tuple[str, Sequence[str]]]
    large: bool = False


class Table(NamedTuple):
    """Rows of figures; the first cell of a row says what they are of."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Charts(NamedTuple):
    """Drawings side by side, each as SVG and its caption; see `reporting.charts`."""

    drawings: Sequence[tuple[str, str]]


class Picture(NamedTuple):
    """A photograph, shown as a thumbnail."""

    path: str
    alt: str  # what it shows, for those who do not see it


class Item(NamedTuple):
    """One photograph, or several side by side, above a caption."""

    pictures: Sequence[Picture]
    caption: str
    note: str = ""  # below, in small letters, such as a path


class Gallery(NamedTuple):
    """Items, as many in a row as there is room for."""

    items: Sequence[Item]


Block: TypeAlias = Heading | Text | Facts | Table | Charts | Gallery


# --- The page -------------------------------------------------------------------------


def render(title: str, blocks: Iterable[Block]) -> bytes:
    """Make the file of a page: its title, which is its first heading, and its blocks in order.

    It takes less than 5 MB, with a few tables at most: long tables and galleries end where there
    is no more room, and say how much is missing; long texts are cut.
    """
    room = _Room()
    body = "\n".join(part for block in blocks for part in _render(block, room))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<h1>{_text(title)}</h1>
{body}
</main>
</body>
</html>
""".encode()


class _Room:
    """What is left of the page for galleries, in bytes."""

    def __init__(self) -> None:
        self.left = LARGEST_GALLERIES

    def takes(self, part: str) -> bool:
        """Tell whether there is room for a part of the page, which then has it."""
        size = len(part.encode())
        if size > self.left:
            return False
        self.left -= size
        return True


def _text(text: str) -> str:
    """Escape a text, and cut it where it is too long to be read."""
    shown = printable(text[:LONGEST_TEXT])
    return escape(shown if len(text) <= LONGEST_TEXT else f"{shown} ...")


def _render(block: Block, room: _Room) -> Iterator[str]:
    match block:
        case Heading(text, level):
            yield f"<h{level}>{_text(text)}</h{level}>"
        case Text(text):
            yield f"<p>{_text(text)}</p>"
        case Facts():
            yield from _facts(block)
        case Table():
            yield from _table(block)
        case Charts(drawings):
            yield '<div class="charts">'
            for svg, caption in drawings:
                yield f"<figure>{svg}<figcaption>{_text(caption)}</figcaption></figure>"
            yield "</div>"
        case Gallery(items):
            yield from _gallery(items, room)


def _facts(facts: Facts) -> Iterator[str]:
    yield f'<dl class="{"large" if facts.large else "facts"}">'
    for term, texts in facts.entries:
        said = "".join(f"<dd>{_text(text)}</dd>" for text in texts)
        yield f"<div><dt>{_text(term)}</dt>{said}</div>"
    yield "</dl>"


def _table(table: Table) -> Iterator[str]:
    """Make a table in a box that scrolls, also by the keyboard, where it is too wide."""
    yield f'<div class="box" role="region" aria-label="{_text(table.caption)}" tabindex="0">'
    yield f"<table>\n<caption>{_text(table.caption)}</caption>"
    header = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in table.header)
    yield f"<thead><tr>{header}</tr></thead>\n<tbody>"
    left = LARGEST_TABLE
    for i, (first, *others) in enumerate(table.rows):
        cells = "".join(f"<td>{_text(cell)}</td>" for cell in others)
        row = f'<tr><th scope="row">{_text(first)}</th>{cells}</tr>'
        left -= len(row.encode())
        if left < 0:
            more = f"and {len(table.rows) - i} more, which would make this page larger than 5 MB"
            yield f'<tr><th scope="row" colspan="{len(table.header)}">{more}</th></tr>'
            break
        yield row
    yield "</tbody>\n</table>\n</div>"


def _gallery(items: Sequence[Item], room: _Room) -> Iterator[str]:
    yield '<div class="gallery">'
    missing = 0
    for i, item in enumerate(items):
        figure = _figure(item)
        if not room.takes(figure):
            missing = len(items) - i
            break
        yield figure
    yield "</div>"
    if missing:
        yield f"<p>And {missing} more, which would make this page larger than 5 MB.</p>"


def _figure(item: Item) -> str:
    shown = "".join(map(_thumbnail, item.pictures))
    note = f"<small>{_text(item.note)}</small>" if item.note else ""
    caption = f"<figcaption>{_text(item.caption)}{note}</figcaption>"
    return f'<figure><div class="pictures">{shown}</div>{caption}</figure>'


def _thumbnail(picture: Picture) -> str:
    """Make the element of a picture; one that has gone since costs no more than itself."""
    try:
        data = base64.b64encode(thumbnail(picture.path, SIDE)).decode()
    except (ImageError, OSError):
        return f'<span class="gone">{_text(picture.alt)}: cannot be read any more</span>'
    return f'<img src="data:image/jpeg;base64,{data}" alt="{_text(picture.alt)}">'
