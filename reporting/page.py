"""A page of HTML in one file: text, tables, charts and thumbnails; nothing to fetch."""

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from images.decode import thumbnail
from running.console import printable
from running.errors import ImageError

# Together below 5 MB, with the few other texts, none of which is long.
MAX_GALLERIES = 3_500_000  # bytes of all galleries of a page
MAX_TABLE = 500_000  # bytes
MAX_TEXT = 500  # characters

THUMBNAIL_SIDE = 160  # pixels of the short side

STYLE = Path(__file__).with_name("page.css")


class Item(NamedTuple):
    """One photograph of a gallery, or several side by side, each with its words, and a caption."""

    pictures: Sequence[tuple[str, str]]  # path and words of each
    caption: str
    note: str = ""  # below, in small letters, such as a path


class Page:
    """Collects the parts of a page in their order; `render` returns the file.

    All text is escaped here, and only here. The page stays below 5 MB, with a few tables at most:
    long texts are cut, and long tables and galleries end with the number of missing entries.
    """

    def __init__(self, title: str):
        self.title = _escape(title)
        self.parts: list[str] = []
        self.gallery_bytes = 0
        self.script_element = ""

    def heading(self, text: str, level: int = 2) -> None:
        """Begin a section, or a subsection (level 3)."""
        self.parts.append(f"<h{level}>{_escape(text)}</h{level}>")

    def text(self, *paragraphs: str) -> None:
        """Add paragraphs."""
        self.parts += [f"<p>{_escape(paragraph)}</p>" for paragraph in paragraphs]

    def facts(self, entries: Iterable[tuple[str, Sequence[str]]], large: bool = False) -> None:
        """Add terms, each with its lines; `large` for the most important figures."""
        self.parts.append(f'<dl class="{"large" if large else "facts"}">')
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
                more = f"and {len(rows) - i} more, which would make this page larger than 5 MB"
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

    def gallery(
        self, items: Sequence[Item], side: int = THUMBNAIL_SIDE, limited: bool = True
    ) -> None:
        """Add photographs as thumbnails, as many in a row as there is room for.

        Their short side has at most `side` pixels; if not `limited`, the page may get larger.
        """
        self.parts.append('<div class="gallery">')
        missing = 0
        for i, item in enumerate(items):
            figure = _figure(item, side)
            if limited and self.gallery_bytes + len(figure) > MAX_GALLERIES:
                missing = len(items) - i
                break
            self.gallery_bytes += len(figure)
            self.parts.append(figure.decode())
        self.parts.append("</div>")
        if missing:
            self.text(f"And {missing} more, which would make this page larger than 5 MB.")

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
        body = "\n".join(self.parts)
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


def _escape(text: str) -> str:
    shown = printable(text[:MAX_TEXT])
    return escape(shown if len(text) <= MAX_TEXT else f"{shown} ...")


def _figure(item: Item, side: int) -> bytes:
    images = "".join(_image(path, words, side) for path, words in item.pictures)
    if len(item.pictures) > 1:  # then they can be seen
        images = "".join(
            f'<div class="picture">{_image(path, "", side)}<small>{_escape(words)}</small></div>'
            for path, words in item.pictures
        )
    note = f"<small>{_escape(item.note)}</small>" if item.note else ""
    caption = f"<figcaption>{_escape(item.caption)}{note}</figcaption>"
    return f'<figure><div class="pictures">{images}</div>{caption}</figure>'.encode()


def _image(path: str, words: str, side: int) -> str:
    """Embed a thumbnail; a photograph that has gone since leaves a gap, and the page is whole."""
    try:
        data = base64.b64encode(thumbnail(path, side)).decode()
    except (ImageError, OSError):
        return f'<span class="gone">{_escape(words or path)}: cannot be read any more</span>'
    return f'<img src="data:image/jpeg;base64,{data}" alt="{_escape(words)}">'
