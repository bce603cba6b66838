"""A page is one file that a browser reads as it was meant, whatever stands in it."""

import base64
import io
import re

import numpy as np
import pytest
from pages import Page
from PIL import Image

from reporting import page
from reporting.page import (
    STYLE,
    Charts,
    Facts,
    Gallery,
    Heading,
    Item,
    Picture,
    Table,
    Text,
    render,
)

HOSTILE = "<b>&\"'x.jpg --></style><script>alert(1)</script>"


@pytest.fixture
def photograph(tmp_path):
    Image.new("RGB", (400, 300), "red").save(tmp_path / "red.png")
    return str(tmp_path / "red.png")


def pictures_of(found: Page) -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(base64.b64decode(each["src"].split(",")[1])))
        for each in found.all("img")
    ]


def test_blocks_become_elements_in_their_order(photograph):
    found = Page(
        render(
            "Flowers",
            [
                Heading("First"),
                Text("A sentence."),
                Facts([("Correct", ["90%", "9 of 10"])], large=True),
                Heading("Below", 3),
                Table("Figures", ("name", "number"), [("rose", "3"), ("lily", "4")]),
                Charts([('<svg role="img"><title>a line</title></svg>', "What it shows")]),
                Gallery([Item([Picture(photograph, "a rose")] * 2, "Two roses", "a/red.png")]),
            ],
        )
    )
    assert found.texts("h1", "h2", "h3", "p") == ["Flowers", "First", "A sentence.", "Below"]
    assert [each["tag"] for each in found.all("h1", "h2", "h3")] == ["h1", "h2", "h3"]
    assert found.texts("title") == ["Flowers", "a line"]
    assert found.texts("dt", "dd") == ["Correct", "90%", "9 of 10"]
    assert found.texts("caption") == ["Figures"]
    assert found.rows() == [["name", "number"], ["rose", "3"], ["lily", "4"]]
    assert [each["scope"] for each in found.all("th")] == ["col", "col", "row", "row"]
    assert found.texts("figcaption") == ["What it shows", "Two rosesa/red.png"]
    assert [each["alt"] for each in found.all("img")] == ["a rose"] * 2
    for picture in pictures_of(found):
        assert picture.format == "JPEG"
        assert picture.size == (213, 160)
        assert picture.getpixel((9, 9))[0] > 250 > 9 > picture.getpixel((9, 9))[1]


def test_a_browser_is_told_what_it_needs():
    found = Page(render("a", []))
    assert found.all("html")[0]["lang"] == "en"
    assert {"charset": "utf-8"}.items() <= found.all("meta")[0].items()
    assert found.all("meta")[1]["content"] == "width=device-width, initial-scale=1"
    assert found.source.startswith("<!DOCTYPE html>\n")
    for rule in ("@media (prefers-color-scheme: dark)", "@media print", "overflow-x: auto"):
        assert rule in found.source


def test_what_stands_in_names_is_only_shown(tmp_path):
    (tmp_path / "<b>&\"'x.jpg").write_bytes(b"no photograph")
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    pictures = [Picture(str(tmp_path / "a.png"), HOSTILE)]
    pictures.append(Picture(str(tmp_path / "<b>&\"'x.jpg"), HOSTILE))
    blocks = [
        Heading(HOSTILE),
        Text(HOSTILE),
        Facts([(HOSTILE, [HOSTILE])]),
        Table(HOSTILE, (HOSTILE,), [(HOSTILE, HOSTILE)]),
        Gallery([Item(pictures, HOSTILE, HOSTILE)]),
    ]
    found = Page(render(HOSTILE, blocks))
    assert not found.all("b", "script")
    for tag in ("title", "h1", "h2", "p", "dt", "dd", "caption", "th", "td", "small"):
        assert found.texts(tag)[0] == HOSTILE, tag
    assert found.all("img")[0]["alt"] == HOSTILE
    assert found.texts("span") == [f"{HOSTILE}: cannot be read any more"]


def test_odd_letters_and_undecodable_names_can_be_written():
    found = Page(render("Blüte 花\n\x1b\udcff", []))
    assert found.texts("h1") == ["Blüte 花\\n\\x1b\\udcff"]


def test_a_photograph_that_has_gone_costs_its_thumbnail(photograph, tmp_path):
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "folder.jpg").mkdir()
    names = ("gone.jpg", "damaged.jpg", "folder.jpg")
    pictures = [Picture(str(tmp_path / name), name) for name in names]
    items = [Item([picture], picture.alt) for picture in (*pictures, Picture(photograph, "red"))]
    found = Page(render("a", [Gallery(items)]))
    assert found.texts("figcaption") == [*names, "red"]
    assert found.texts("span") == [f"{name}: cannot be read any more" for name in names]
    assert [each["alt"] for each in found.all("img")] == ["red"]


# --- Size -----------------------------------------------------------------------------


def test_many_large_photographs_stop_in_time(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (160, 320, 3), np.uint8)  # compresses badly
    Image.fromarray(noise).save(tmp_path / "noise.png")
    item = Item([Picture(str(tmp_path / "noise.png"), "noise")] * 2, "noise")
    content = render("a", [Gallery([item] * 200), Gallery([item] * 200)])
    found = Page(content)
    assert len(content) > 3_000_000
    first, second = (
        int(re.fullmatch(r"And (\d+) more, which would make this page larger than 5 MB\.", text)[1])
        for text in found.texts("p")
    )
    assert len(found.all("figure")) == 200 - first
    assert second == 200


def test_a_gallery_that_fits_says_nothing_of_its_size(photograph, monkeypatch):
    block = Gallery([Item([Picture(photograph, "a")], "b")] * 2)
    size = len(page._figure(block.items[0]).encode())
    monkeypatch.setattr(page, "LARGEST_GALLERIES", 2 * size)
    assert Page(render("a", [block])).texts("p") == []
    monkeypatch.setattr(page, "LARGEST_GALLERIES", 2 * size - 1)
    assert Page(render("a", [block])).texts("p")[0].startswith("And 1 more, ")


def test_long_tables_and_texts_are_cut():
    rows = [(f"{i}", "<" * 1000) for i in range(100_000)]
    found = Page(render("x" * 10_000_000, [Table("a", ("b", "c"), rows)]))
    assert found.texts("h1") == ["x" * 500 + " ..."]
    *shown, [last] = found.rows()
    assert last == f"and {100_001 - len(shown)} more, which would make this page larger than 5 MB"
    assert len(shown) > 100


# --- Colours --------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2."""
    levels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in levels]
    return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_told_from_the_paper():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    schemes = [
        dict(re.findall(r"--(\w+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", STYLE.read_text(), re.S)[:2]
    ]
    assert [len(scheme) for scheme in schemes] == [7, 7]
    for scheme in schemes:
        for name in ("ink", "soft", "one", "two"):
            assert contrast(scheme[name], scheme["paper"]) >= 4.5, (name, scheme)
        assert contrast(scheme["soft"], scheme["tile"]) >= 4.5
