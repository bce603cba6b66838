"""The pages on which a person decides about photographs, in Chromium by the keyboard alone.

    python benchmarks/review.py flowers/train CHECKPOINT runs/review [--number 100]
    python benchmarks/review.py flowers/train CHECKPOINT runs/review --axe axe.min.js

The folder holds a folder for each category, so that a script can play the person. A sample of it is
checked: y where the first name is the folder's, else t, the right name and Enter where the network
knows it, or n. Then twelve of its categories are copied, 30 photographs each, ten under a wrong
label and six twice; the data check is answered, saved and applied. Pictures of the pages at two
widths, light and dark, come into the last folder; axe-core, where it is, looks for violations.
"""

import csv
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from browser import Browser, Page, find_browser
from common import ROOT, machine, make_parser, run
from PIL import Image, ImageOps

KEYS = {"y": "KeyY", "n": "KeyN", "t": "KeyT", "z": "KeyZ", "s": "KeyS"}
SIZES = ((360, 740), (1280, 800))
CATEGORIES, EACH, WRONG, COPIES = 12, 30, 10, 6
STATUS = "return document.querySelector('.status').textContent"


def press(page: Page, key: str) -> None:
    """Press a key, as a person does."""
    text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
    for kind in ("keyDown", "keyUp"):
        more = text if kind == "keyDown" else {}
        page.call("Input.dispatchKeyEvent", type=kind, key=key, code=KEYS.get(key, key), **more)


def look(browser: Browser, file: Path, axe: str | None) -> None:
    """Take pictures of a page; nothing of it is out of reach, and axe-core finds nothing wrong."""
    for width, height in SIZES:
        for dark in (False, True):
            page = browser.open(file.as_uri(), width, height, dark)
            wide = page.run("return document.documentElement.scrollWidth")
            assert wide <= width, f"{wide} pixels are wider than {width}"
            page.shoot(file.with_name(f"{file.stem}-{width}-{'dark' if dark else 'light'}.png"))
            if axe:
                page.call("Runtime.evaluate", expression=Path(axe).read_text())
                found = page.run(
                    "return (await axe.run()).violations.map(v => v.id + ': ' + v.help)"
                )
                assert not found, (file.name, width, dark, found)


def answer_all(
    browser: Browser,
    file: Path,
    rows: Sequence[Sequence[str]],
    answer: Callable[[Page, Sequence[str]], None],
) -> Path:
    """Answer all questions of a page, the third one first by mistake; return what is saved."""
    downloads = file.parent / "downloads"
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
    page = browser.open(file.as_uri(), 1280, 800)
    started = time.perf_counter()
    for number, row in enumerate(rows, start=1):
        status = page.run(STATUS)
        assert status.startswith(f"{number} of {len(rows)}"), status
        if number == 3:
            press(page, "y")
            press(page, "z")
            assert page.run(STATUS) == status.partition(";")[0]  # without the answer before
        answer(page, row)
    seconds = time.perf_counter() - started
    page.shoot(file.with_name(f"{file.stem}-done.png"))
    page.go(file.as_uri())  # what is answered is still there
    status = page.run(STATUS)
    assert f"{len(rows)} answered" in status, status
    saved = downloads / file.with_suffix(".csv").name
    saved.unlink(missing_ok=True)
    press(page, "s")
    while not saved.exists():
        time.sleep(0.1)
    print(f"{file.name}: {len(rows)} questions answered by the keyboard in {seconds:.1f} s")
    complaints = page.complaints()
    assert not complaints, complaints
    return saved


def read_rows(table: Path) -> list[list[str]]:
    """Read a table without its first line."""
    with open(table, encoding="utf-8-sig", newline="") as lines:
        return [*csv.reader(lines)][1:]


# --- A sample -------------------------------------------------------------------------


def check_sample(
    browser: Browser, photographs: str, checkpoint: str, number: int, folder: Path, axe: str | None
) -> None:
    """Draw a sample, check it, and let promises rest on it."""
    table, predict = folder / "sample.csv", ROOT / "predict.py"
    drawn = run(predict, photographs, checkpoint, "--check_sample", number, "--output", table)
    size = (folder / "sample.html").stat().st_size / 1e6
    print(f"drawn in {drawn.seconds:.1f} s; the page has {size:.2f} MB")
    names = json.loads((ROOT / "cat_to_name.json").read_text())

    def answer(page: Page, row: Sequence[str]) -> None:
        category = Path(row[2]).parent.name
        if category == row[4]:
            press(page, "y")
        elif category in names:
            press(page, "t")
            page.call("Input.insertText", text=names[category])
            press(page, "Enter")
        else:
            press(page, "n")

    look(browser, folder / "sample.html", axe)
    saved = answer_all(browser, folder / "sample.html", read_rows(table), answer)
    for promise in (0.95, 0.9, 0.8, 0.7, 0.6, 0.5):
        flags = ["--checked", saved, "--promise", promise, "--score", "--output", folder / "names"]
        try:
            print(run(predict, photographs, checkpoint, *flags).err)
            break
        except SystemExit as error:  # this promise cannot be kept
            print(error)


# --- The data check -------------------------------------------------------------------


def plant(source: Path, target: Path) -> tuple[dict[str, str], set[str]]:
    """Copy photographs, some under a wrong label and some twice.

    Returns the right categories of the first, and the photographs of the others, by name.
    """
    rng = np.random.default_rng(0)
    folders = sorted(path for path in source.iterdir() if len([*path.iterdir()]) >= EACH)
    chosen = [
        path
        for folder in folders[:: len(folders) // CATEGORIES][:CATEGORIES]
        for path in sorted(folder.iterdir())[:EACH]
    ]
    categories = [*dict.fromkeys(path.parent.name for path in chosen)]
    strange = rng.permutation(len(chosen))[: WRONG + COPIES].tolist()
    wrong, copied = {}, set()
    for i, path in enumerate(chosen):
        category = path.parent.name
        if i in strange[:WRONG]:
            wrong[path.name] = category
            others = [each for each in categories if each != category]
            category = others[rng.integers(len(others))]
        place = target / category / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        if i in strange[WRONG:]:
            copied.add(path.stem)
            with Image.open(path) as image:
                half = image.resize((image.width // 2, image.height // 2))
                ImageOps.mirror(half).save(place.with_stem(f"{path.stem}_copy"), quality=60)
    shutil.copyfile(ROOT / "cat_to_name.json", target / "cat_to_name.json")
    return wrong, copied


def mend_folder(browser: Browser, photographs: str, folder: Path, axe: str | None) -> None:
    """Check a folder with wrong labels and copies, answer, apply, and look at what comes of it."""
    planted, mended = folder / "planted", folder / "mended"
    shutil.rmtree(planted, ignore_errors=True)
    shutil.rmtree(mended, ignore_errors=True)
    wrong, copied = plant(Path(photographs), planted)
    names = json.loads((ROOT / "cat_to_name.json").read_text())
    train = ROOT / "train.py"
    for file in folder.glob("data_report*"):
        file.unlink()
    checked = run(train, planted, "--check_data", "pictures", "--save_dir", folder)
    page = folder / "data_report.html"
    print(f"checked in {checked.seconds:.1f} s; the page has {page.stat().st_size / 1e6:.2f} MB")
    print(checked.out)

    def answer(page: Page, row: Sequence[str]) -> None:
        file = Path(row[0])
        is_copy = row[3] == "near duplicate" and file.stem.removesuffix("_copy") in copied
        right = wrong.get(file.name)
        if is_copy or row[5] == f"move to {right}":
            press(page, "y")
        elif right:
            press(page, "t")
            page.call("Input.insertText", text=names[right])
            press(page, "Enter")
        else:
            press(page, "n")

    look(browser, page, axe)
    saved = answer_all(browser, page, read_rows(folder / "data_report.csv"), answer)
    print(run(train, planted, "--apply", saved, "--to", mended).out)
    places = {name: Path(path).name for path, _, names in os.walk(mended) for name in names}
    back = sum(places.get(name) == category for name, category in wrong.items())
    twice = sum({f"{stem}.jpg", f"{stem}_copy.jpg"} <= places.keys() for stem in copied)
    print(f"{back} of {len(wrong)} labels mended; {twice} of {len(copied)} copies left")


def main() -> None:
    parser = make_parser(__doc__, "photographs", "checkpoint", "folder")
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--axe", type=os.path.abspath, help="axe.min.js of axe-core")
    args = parser.parse_args()
    program = find_browser()
    assert program, "there is no Chromium"
    folder = Path(args.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("sample*"):
        file.unlink()
    print(machine())
    with Browser(program) as browser:
        check_sample(browser, args.photographs, args.checkpoint, args.number, folder, args.axe)
        mend_folder(browser, args.photographs, folder, args.axe)


if __name__ == "__main__":
    main()
