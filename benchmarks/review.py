"""The page of a sample, checked in Chromium by the keyboard alone, and the promise of its table.

    python benchmarks/review.py FOLDER CHECKPOINT runs/review [--number 100]

FOLDER holds a folder for each category, so that a script can play the person: it presses y where
the first name is the folder's, else t, the right name and Enter where the network knows it, or n.
Pictures of the page at two widths, light and dark, come into the last folder.
"""

import csv
import json
import time
from pathlib import Path

from browser import Browser, Page, find_browser
from common import ROOT, machine, make_parser, run

KEYS = {"y": "KeyY", "n": "KeyN", "t": "KeyT", "z": "KeyZ", "s": "KeyS"}
SIZES = ((360, 740), (1280, 800))


def press(page: Page, key: str) -> None:
    """Press a key, as a person does."""
    text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
    for kind in ("keyDown", "keyUp"):
        more = text if kind == "keyDown" else {}
        page.call("Input.dispatchKeyEvent", type=kind, key=key, code=KEYS.get(key, key), **more)


def answer(page: Page, row: list[str], names: dict[str, str]) -> None:
    """Answer as the folder of a photograph says."""
    category = Path(row[2]).parent.name
    if category == row[4]:
        press(page, "y")
    elif category in names:
        press(page, "t")
        page.call("Input.insertText", text=names[category])
        press(page, "Enter")
    else:
        press(page, "n")


def check(page: Page, rows: list[list[str]], names: dict[str, str]) -> None:
    """Answer all questions; the third one first by mistake."""
    for number, row in enumerate(rows, start=1):
        status = page.run("return document.querySelector('.status').textContent")
        assert status.startswith(f"{number} of {len(rows)}"), status
        if number == 3:
            press(page, "y")
            press(page, "z")
            again = page.run("return document.querySelector('.status').textContent")
            assert again == status, again
        answer(page, row, names)


def main() -> None:
    parser = make_parser(__doc__, "photographs", "checkpoint", "folder")
    parser.add_argument("--number", type=int, default=100)
    args = parser.parse_args()
    program = find_browser()
    assert program, "there is no Chromium"
    folder = Path(args.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    table, page_file = folder / "sample.csv", folder / "sample.html"
    for file in folder.glob("sample*"):
        file.unlink()
    print(machine())
    predict = ROOT / "predict.py"
    drawn = run(
        predict, args.photographs, args.checkpoint, "--check_sample", args.number, "--output", table
    )
    print(f"drawn in {drawn.seconds:.1f} s; the page has {page_file.stat().st_size / 1e6:.2f} MB")
    with open(table, encoding="utf-8-sig", newline="") as lines:
        _, *rows = csv.reader(lines)
    names = json.loads((ROOT / "cat_to_name.json").read_text())

    with Browser(program) as browser:
        for width, height in SIZES:
            for dark in (False, True):
                page = browser.open(page_file.as_uri(), width, height, dark)
                wide = page.run("return document.documentElement.scrollWidth")
                assert wide <= width, f"{wide} pixels are wider than {width}"
                page.shoot(folder / f"sample-{width}-{'dark' if dark else 'light'}.png")
        downloads = folder / "downloads"
        browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        page = browser.open(page_file.as_uri(), 1280, 800)
        started = time.perf_counter()
        check(page, rows, names)
        seconds = time.perf_counter() - started
        page.shoot(folder / "sample-done.png")
        page.go(page_file.as_uri())  # what is decided is still there
        status = page.run("return document.querySelector('.status').textContent")
        assert f"{len(rows)} decided" in status, status
        press(page, "s")
        saved = downloads / "sample.csv"
        while not saved.exists():
            time.sleep(0.1)
        print(f"{len(rows)} photographs checked by the keyboard in {seconds:.1f} s")
        complaints = page.complaints()
        assert not complaints, complaints
    for promise in (0.95, 0.9, 0.8, 0.7, 0.6, 0.5):
        flags = ["--checked", saved, "--promise", promise, "--score", "--output", folder / "names"]
        try:
            print(run(predict, args.photographs, args.checkpoint, *flags).err)
            break
        except SystemExit as error:  # this promise cannot be kept
            print(error)


if __name__ == "__main__":
    main()
