"""A person labels a heap with the keyboard, from nothing to a folder of categories."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from browser import Browser, Page, find_browser
from conftest import ROOT

pytestmark = pytest.mark.slow

KINDS = ("1", "2", "3", "4")


def press(page: Page, key: str) -> None:
    """Press a key, as a person does."""
    text = "\r" if key == "Enter" else key
    page.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
    page.call("Input.dispatchKeyEvent", type="keyUp", key=key)


def answer(page: Page, names: list[str]) -> str:
    """Answer the question that is shown, by keys; `names` are the right ones."""
    asked = page.run("return state.questions[0]")
    first, *others = asked["photographs"]
    name = names[first]
    for letter, index in zip("abcdefghijk", others):
        if names[index] != name:
            press(page, letter)
    if name in asked["guesses"]:
        press(page, str(1 + asked["guesses"].index(name)))
    else:
        press(page, "n")
        page.call("Input.insertText", text=name)
        press(page, "Enter")
    page.wait(f"!isBusy && state.questions[0]?.photographs[0] !== {first}")
    return name


class Labelling:
    """train.py --label at work."""

    def __init__(self, heap: Path, save_dir: Path):
        command = [sys.executable, "-u", ROOT / "train.py", heap, "--label", "--save_dir", save_dir]
        self.process = subprocess.Popen(
            [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        found = re.match(r"open (\S+) in", self.process.stdout.readline())
        assert found, self.process.communicate()
        self.url = found[1]

    def __enter__(self) -> "Labelling":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def heap(drawn, tmp_path) -> Path:
    folder = tmp_path / "heap"
    folder.mkdir()
    for category in KINDS:
        for path in sorted((drawn / "train" / category).iterdir()):
            shutil.copy(path, folder / f"{path.stem}_of_{category}.jpg")
    return folder


def read(heap: Path) -> dict[str, str]:
    with open(heap / "labels.csv", encoding="utf-8-sig", newline="") as file:
        return {row["file"]: row["name"] for row in csv.DictReader(file)}


def test_a_heap_becomes_a_folder_of_categories(heap, tmp_path, run_script):
    if not find_browser():
        pytest.skip("there is no Chromium")
    files = sorted(os.listdir(heap))
    names = [f"kind {Path(file).stem[-1]}" for file in files]
    right = dict(zip(files, names))
    with Browser(find_browser()) as browser:
        with Labelling(heap, tmp_path / "run") as work:
            page = browser.open(work.url, 1280, 800)
            page.wait("!isBusy")
            for _ in range(5):
                answer(page, names)
            known = read(heap)
            assert len(known) >= 5 and known.items() <= right.items()
            open_ones = page.run("return state.questions.length")
            press(page, "z")
            page.wait(f"!isBusy && state.questions.length === {open_ones + 1}")
            assert len(read(heap)) < len(known)
            press(page, "s")
            page.wait("!isBusy")
            assert "" in read(heap).values()
            kept = read(heap)
        # Killed: all that was answered is there, and it goes on from it.
        assert read(heap) == kept
        with Labelling(heap, tmp_path / "run") as work:
            page = browser.open(work.url, 360, 740)
            page.wait("!isBusy")
            assert page.run("return document.documentElement.scrollWidth") == 360
            while page.run("return state.questions.length"):
                answer(page, names)
            given = read(heap)
            assert {file: given[file] or right[file] for file in files} == right
            page.run("finish.click()")
            out, err = work.process.communicate(timeout=60)
            assert (work.process.returncode, "next: python train.py" in out) == (0, True), err
        assert browser.open("about:blank").complaints() == []
    target = tmp_path / "labelled"
    run = run_script("train", heap, "--apply", heap / "labels.csv", "--to", target)
    assert run.code == 0 and "4 categories" in run.out
    made = {path.name: path.parent.name for path in target.glob("*/*")}
    assert made == {file: name for file, name in given.items() if name}


def test_only_who_knows_the_address_is_answered(heap, tmp_path):
    with Labelling(heap, tmp_path / "run") as work:
        for path in ("../", "../state", "photo/999", "photo/x", "labels.csv"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(urllib.parse.urljoin(work.url, path))
        of_no_question = {"first": 0, "name": "a name", "away": [], "alone": False}
        for body in (json.dumps(of_no_question), "", "{", "7", '{"first": 0}'):
            request = urllib.request.Request(work.url + "answer", body.encode())
            with pytest.raises(urllib.error.HTTPError, match="409"):
                urllib.request.urlopen(request)
        assert not (heap / "labels.csv").exists()
