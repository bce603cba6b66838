"""A page of HTML in one file: text, tables, charts and thumbnails; nothing to fetch."""

import base64
import json
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from images.decode import small_jpeg, thumbnail
from running.console import printable
from running.errors import ImageError

# Together below 1.5 MB, with the few other texts, none of which is long.
MAX_GALLERIES = 1_000_000  # bytes of all galleries of a page
MAX_TABLE = 300_000  # bytes
MAX_TEXT = 500  # characters

THUMBNAIL_SIDE = 256  # pixels of the short side; a phone shows them half as large

STYLE = Path(__file__).with_name("page.css")


class Picture(NamedTuple):
    """A photograph with its words; it is shown as it is, or as other pixels, (H, W, 3)."""

    path: str
    words: str
    pixels: np.ndarray | None = None


class Item(NamedTuple):
    """One picture of a gallery, or several side by side, and a caption."""

    pictures: Sequence[Picture]
    caption: str
    note: str = ""  # below, in small letters, such as a path


class Page:
    """Collects the parts of a page in their order; `render` returns the file.

    All text is escaped here, and only here. Long texts are cut, and long tables and galleries end
    with the number of missing entries, so that a page with one table stays below 1.5 MB. Links to
    photographs are relative to `folder`, in which it will lie.
    """

    def __init__(self, title: str, folder: str | os.PathLike[str] = "."):
        self.title, self.folder = _escape(title), os.fspath(folder)
        self.parts: list[str] = []
        self.sections: list[str] = []
        self.contents_at: int | None = None
        self.gallery_bytes = 0
        self.script_element = ""

    def heading(self, text: str, level: int = 2) -> None:
        """Begin a section, or a subsection (level 3)."""
        anchor = ""
        if level == 2:
            self.sections.append(_escape(text))
            anchor = f' id="section-{len(self.sections)}"'
        self.parts.append(f"<h{level}{anchor}>{_escape(text)}</h{level}>")

    def contents(self) -> None:
        """Add a line with links to all sections."""
        self.contents_at = len(self.parts)

    def text(self, *paragraphs: str) -> None:
        """Add paragraphs."""
        self.parts += [f"<p>{_escape(paragraph)}</p>" for paragraph in paragraphs]

    def command(self, text: str, command: str) -> None:
        """Add what a command does, and the command to type."""
        # Lines are broken between words alone, as people type what they see.
        words = " ".join(f"<span>{_escape(word)}</span>" for word in command.split(" "))
        self.parts.append(f"<p>{_escape(text)}</p>\n<pre><code>{words}</code></pre>")

    def folded(self, summary: str, text: str) -> None:
        """Add a text that is shown on request."""
        details = f"<summary>{_escape(summary)}</summary><p>{_escape(text, MAX_TABLE)}</p>"
        self.parts.append(f"<details>{details}</details>")

    def facts(self, entries: Iterable[tuple[str, Sequence[str]]]) -> None:
        """Add terms, each with its lines."""
        self.parts.append('<dl class="facts">')
        for term, lines in entries:
            details = "".join(f"<dd>{_escape(line)}</dd>" for line in lines)
            self.parts.append(f"<div><dt>{_escape(term)}</dt>{details}</div>")
        self.parts.append("</dl>")

    def table(self, caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table; the first cell of a row is its heading."""
        # A table that is too wide scrolls in its box, also by the keyboard.
        label = f'role="region" aria-label="{_escape(caption)}" tabindex="0"'
        cells = "".join(f'<th scope="col">{_escape(cell)}</th>' for cell in header)
        self.parts += [
            f'<div class="box" {label}>',
            f"<table>\n<caption>{_escape(caption)}</caption>",
            f"<thead><tr>{cells}</tr></thead>\n<tbody>",
        ]
        size = 0
        for i, (first, *others) in enumerate(rows):
            cells = "".join(f"<td>{_escape(cell)}</td>" for cell in others)
            row = f'<tr><th scope="row">{_escape(first)}</th>{cells}</tr>'
            size += len(row.encode())
            if size > MAX_TABLE:
                more = f"and {len(rows) - i} more, which would make this page too large"
                self.parts.append(f'<tr><th scope="row" colspan="{len(header)}">{more}</th></tr>')
                break
            self.parts.append(row)
        self.parts.append("</tbody>\n</table>\n</div>")

    def charts(self, *drawings: tuple[str, str]) -> None:
        """Add drawings side by side, each as SVG (see `reporting.charts`) and its caption."""
        figures = (
            f"<figure>{svg}<figcaption>{_escape(caption)}</figcaption></figure>"
            for svg, caption in drawings
        )
        self.parts += ['<div class="charts">', *figures, "</div>"]

    def text_and_chart(self, paragraphs: Iterable[str], svg: str) -> None:
        """Add paragraphs, and beside them, where there is room, a drawing."""
        self.parts.append('<div class="beside"><div>')
        self.text(*paragraphs)
        self.parts.append(f"</div>{svg}</div>")

    def matrix(self, svg: str, caption: str) -> None:
        """Add a drawing that keeps its size, and scrolls where it is too wide."""
        label = f'role="region" aria-label="{_escape(caption)}" tabindex="0"'
        figcaption = f"<figcaption>{_escape(caption)}</figcaption>"
        box = f'<div class="matrix box" {label}>{svg}</div>'
        self.parts.append(f"<figure>{box}{figcaption}</figure>")

    def gallery(
        self, items: Sequence[Item], side: int = THUMBNAIL_SIDE, limited: bool = True
    ) -> None:
        """Add photographs as thumbnails, as many in a row as there is room for.

        Their short side has at most `side` pixels; if not `limited`, the page may get larger.
        """
        self.parts.append('<div class="gallery">')
        missing = 0
        for i, item in enumerate(items):
            figure = _figure(item, side, self.folder)
            if limited and self.gallery_bytes + len(figure) > MAX_GALLERIES:
                missing = len(items) - i
                break
            self.gallery_bytes += len(figure)
            self.parts.append(figure.decode())
        self.parts.append("</div>")
        if missing:
            self.text(f"And {missing} more, which would make this page too large.")

    def script(self, path: Path, data: Any) -> None:
        """Run a script at the end of the page, which finds `data` as JSON in the element `data`."""
        # Within a script element only "<" could end it.
        text = json.dumps(data).replace("<", "\\u003c")
        source = path.read_text(encoding="utf-8")
        self.script_element = (
            f'<script type="application/json" id="data">{text}</script>\n'
            f"<script>\n{source}</script>\n"
        )

    def render(self) -> bytes:
        """Return the page; its title is also its first heading."""
        parts = [*self.parts]
        if self.contents_at is not None:
            links = "".join(
                f'<a href="#section-{i}">{text}</a> ' for i, text in enumerate(self.sections, 1)
            )
            parts.insert(self.contents_at, f'<nav aria-label="Contents">{links}</nav>')
        body = "\n".join(parts)
        return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{self.title}</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<h1>{self.title}</h1>
{body}
</main>
{self.script_element}</body>
</html>
""".encode()


def _escape(text: str, longest: int = MAX_TEXT) -> str:
    shown = printable(text[:longest])
    return escape(shown if len(text) <= longest else f"{shown} ...")


def _figure(item: Item, side: int, folder: str) -> bytes:
    is_one = len(item.pictures) == 1
    images = "".join(_picture(each, side, folder, is_one) for each in item.pictures)
    note = f"<small>{_escape(item.note)}</small>" if item.note else ""
    caption = f"<figcaption>{_escape(item.caption)}{note}</figcaption>"
    return f'<figure><div class="pictures">{images}</div>{caption}</figure>'.encode()


def _picture(picture: Picture, side: int, folder: str, is_one: bool) -> str:
    """Embed a thumbnail, as a link to its file; the words of one of several are shown.

    A photograph that has gone since leaves a gap, and the page is whole.
    """
    path, words, pixels = picture
    shown = _escape(words)
    try:
        small = thumbnail(path, side) if pixels is None else small_jpeg(pixels, side)
        data = base64.b64encode(small).decode()
    except (ImageError, OSError):
        return f'<span class="gone">{shown}: cannot be read any more</span>'
    image = f'<img src="data:image/jpeg;base64,{data}" alt="{shown if is_one else ""}">'
    more = "" if is_one else f"<small>{shown}</small>"
    return f'<a class="picture" href="{_link(path, folder)}">{image}{more}</a>'


def _link(path: str, folder: str) -> str:
    try:
        place = os.path.relpath(path, folder)
    except ValueError:  # on another drive of Windows
        return Path(path).absolute().as_uri()
    return quote(os.fsencode(Path(place).as_posix()))
