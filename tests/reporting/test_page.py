"""A page is one file that a browser reads as it was meant, whatever stands in it."""

import base64
import io
import re
import shutil

import numpy as np
import pytest
from pages import Page as Parsed
from PIL import Image

from reporting import page
from reporting.page import STYLE, Item, Page, Picture

HOSTILE = "<b>&\"'x.jpg --></style><script>alert(1)</script>"


@pytest.fixture
def photograph(tmp_path):
    Image.new("RGB", (400, 300), "red").save(tmp_path / "red.png")
    return str(tmp_path / "red.png")


def parse(written: Page) -> Parsed:
    return Parsed(written.render())


def test_parts_become_elements_in_their_order(photograph):
    written = Page("Flowers")
    written.heading("First")
    written.text("A sentence.")
    written.facts([("Correct", ["90%", "9 of 10"])])
    written.heading("Below", 3)
    written.table("Figures", ("name", "number"), [("rose", "3"), ("lily", "4")])
    written.charts(('<svg role="img"><title>a line</title></svg>', "What it shows"))
    written.gallery([Item([Picture(photograph, "a rose")] * 2, "Two roses", "a/red.png")])
    written.command("Do it:", "python a.py")
    written.folded("More", "and more")
    found = parse(written)
    assert found.source.startswith("<!DOCTYPE html>\n")
    assert found.all("html")[0]["lang"] == "en"
    assert {"charset": "utf-8"}.items() <= found.all("meta")[0].items()
    shown = found.texts("h1", "h2", "h3", "p")
    assert shown == ["Flowers", "First", "A sentence.", "Below", "Do it:", "and more"]
    assert found.texts("code", "summary") == ["python a.py", "More"]
    assert [each["tag"] for each in found.all("h1", "h2", "h3")] == ["h1", "h2", "h3"]
    assert found.texts("title") == ["Flowers", "a line"]
    assert found.texts("dt", "dd") == ["Correct", "90%", "9 of 10"]
    assert found.texts("caption") == ["Figures"]
    assert found.rows() == [["name", "number"], ["rose", "3"], ["lily", "4"]]
    assert [each["scope"] for each in found.all("th")] == ["col", "col", "row", "row"]
    assert found.texts("figcaption") == ["What it shows", "Two rosesa/red.png"]
    assert found.texts("small") == ["a rose", "a rose", "a/red.png"]
    for each in found.all("img"):
        assert each["alt"] == ""  # as its words stand below
        picture = Image.open(io.BytesIO(base64.b64decode(each["src"].split(",")[1])))
        assert (picture.format, picture.size) == ("JPEG", (341, 256))
        assert picture.getpixel((9, 9))[0] > 250 > 9 > picture.getpixel((9, 9))[1]


def test_contents_lead_to_the_sections_and_thumbnails_to_the_files(photograph, tmp_path):
    written = Page("Flowers", tmp_path / "runs")
    written.contents()
    for name in ("First", "Second"):
        written.heading(name)
    written.heading("Below", 3)
    odd = tmp_path / "a b#1?.png"
    shutil.copy(photograph, odd)
    written.gallery(
        [Item([Picture(photograph, "red")], "red"), Item([Picture(str(odd), "odd")], "odd")]
    )
    links = [each["href"] for each in parse(written).all("a")]
    assert links == ["#section-1", "#section-2", "../red.png", "../a%20b%231%3F.png"]
    assert [each.get("id") for each in parse(written).all("h2")] == ["section-1", "section-2"]
    assert parse(written).texts("nav") == ["First Second "]


def test_names_cannot_inject_html(photograph):
    written = Page(HOSTILE)
    written.heading(HOSTILE)
    written.text(HOSTILE)
    written.facts([(HOSTILE, [HOSTILE])])
    written.table(HOSTILE, (HOSTILE,), [(HOSTILE, HOSTILE)])
    written.gallery(
        [Item([Picture(photograph, HOSTILE), Picture("gone.jpg", HOSTILE)], HOSTILE, HOSTILE)]
    )
    found = parse(written)
    assert not found.all("b", "script")
    for tag in ("title", "h1", "h2", "p", "dt", "dd", "caption", "th", "td", "small"):
        assert found.texts(tag)[0] == HOSTILE, tag
    assert found.texts("span") == [f"{HOSTILE}: cannot be read any more"]
    written.gallery(
        [Item([Picture(photograph, HOSTILE)], HOSTILE), Item([Picture("gone.jpg", HOSTILE)], "")]
    )
    found = parse(written)
    assert found.all("img")[1]["alt"] == HOSTILE
    assert found.texts("span")[1] == f"{HOSTILE}: cannot be read any more"
    assert parse(Page("Blüte 花\n\x1b\udcff")).texts("h1") == ["Blüte 花\\n\\x1b\\udcff"]


def test_a_missing_photograph_costs_only_its_thumbnail(photograph, tmp_path):
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "folder.jpg").mkdir()
    names = ("gone.jpg", "damaged.jpg", "folder.jpg")
    pictures = [Picture(str(tmp_path / name), name) for name in names]
    pictures.append(Picture(photograph, "red"))
    written = Page("a")
    written.gallery([Item([picture], picture[1]) for picture in pictures])
    found = parse(written)
    assert found.texts("figcaption") == [*names, "red"]
    assert found.texts("span") == [f"{name}: cannot be read any more" for name in names]
    assert [each["alt"] for each in found.all("img")] == ["red"]


# --- Size -----------------------------------------------------------------------------


def test_galleries_stop_before_the_page_is_too_large(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (160, 320, 3), np.uint8)  # compresses badly
    Image.fromarray(noise).save(tmp_path / "noise.png")
    item = Item([Picture(str(tmp_path / "noise.png"), "noise")] * 2, "noise")
    written = Page("a")
    written.gallery([item] * 200)
    written.gallery([item] * 200)
    assert page.MAX_GALLERIES - 200_000 < len(written.render()) < 1_500_000
    found = parse(written)
    first, second = (
        int(re.fullmatch(r"And (\d+) more, which would make this page too large\.", text)[1])
        for text in found.texts("p")
    )
    assert len(found.all("figure")) == 200 - first
    assert second == 200


def test_long_tables_and_texts_are_cut():
    written = Page("x" * 10_000_000)
    written.table("a", ("b", "c"), [(f"{i}", "<" * 1000) for i in range(100_000)])
    found = parse(written)
    assert found.texts("h1") == ["x" * 500 + " ..."]
    *shown, [last] = found.rows()
    assert last == f"and {100_001 - len(shown)} more, which would make this page too large"
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
