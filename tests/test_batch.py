"""predict.py for many inputs: records in order, names that survive, shards, scores."""

import csv
import io
import json
import math
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, history_of
from pages import Page

ODD_NAMES = [
    b"with space.jpg",
    b'it\'s "quoted", with comma.jpg',
    b"line\nbreak.jpg",
    b"carriage\rreturn.jpg",
    b"-dash.jpg",
    b"no utf-8 \xff\xfe.jpg",
    "Blüte.jpg".encode(),
    b"\x1b[31mred.jpg",
    b" .jpg",
    b"back\\slash.jpg",
]


@pytest.fixture(scope="module")
def checkpoint(cnn):
    return cnn / "checkpoint.pth"


@pytest.fixture
def odd(tmp_path, photo):
    """A folder of photographs with odd names."""
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in ODD_NAMES:
        shutil.copy(photo, os.path.join(os.fsencode(folder), name))
    return folder


@pytest.fixture
def mixed(tmp_path, drawn, photo):
    """Twelve photographs and three files that cannot be read, in this order."""
    (tmp_path / "cut.jpg").write_bytes(photo.read_bytes()[:-1000])
    (tmp_path / "text.jpg").write_text("no photograph")
    paths = sorted((drawn / "train").glob("*/*.jpg"))[:12]
    for place, bad in ((1, "cut.jpg"), (5, "missing.jpg"), (6, "text.jpg")):
        paths.insert(place, tmp_path / bad)
    return paths


def read_jsonl(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def read_csv(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


# --- Records --------------------------------------------------------------------------


def test_every_input_gets_its_record_in_order(run_script, mixed, checkpoint):
    run = run_script("predict", *mixed, checkpoint, "--format", "jsonl", "--batch_size", 2)
    records = read_jsonl(run.out)
    assert run.code == 1
    assert run.err == "predict.py: 3 of 15 could not be named\n"
    assert [record["file"] for record in records] == [str(path) for path in mixed]
    assert [i for i, record in enumerate(records) if "error" in record] == [1, 5, 6]
    assert "cannot be read" in records[1]["error"]
    assert "no such file" in records[5]["error"]
    for record in records:
        if "error" not in record:
            assert record.keys() == {"file", "label", "category", "probability", "top"}
            assert {key: record[key] for key in record["top"][0]} == record["top"][0]
            assert len(record["top"]) == 4
            assert sum(guess["probability"] for guess in record["top"]) == pytest.approx(
                1, abs=1e-5
            )


@pytest.mark.slow
def test_a_photograph_has_the_same_record_alone_and_in_any_company(run_script, mixed, checkpoint):
    many = [
        run_script(
            "predict",
            *mixed,
            checkpoint,
            "--format",
            "jsonl",
            "--batch_size",
            size,
            "--workers",
            size,
        ).out
        for size in (1, 3, 64)
    ]
    assert many[0] == many[1] == many[2]
    alone = "".join(
        run_script("predict", path, checkpoint, "--format", "jsonl").out for path in mixed
    )
    assert alone == many[0]


def test_folders_that_have_gone_and_files_that_are_not_read_are_told(
    run_script, mixed, checkpoint, tmp_path
):
    folder = tmp_path / "photographs"
    folder.mkdir()
    shutil.copy(mixed[0], folder / "a.jpg")
    (folder / "b.CR2").touch()
    run = run_script("predict", folder, checkpoint, "--format", "jsonl")
    assert (run.code, len(read_jsonl(run.out))) == (0, 1)
    assert f"skipped 1 file in a format that is not read here, such as {folder}/b.CR2" in run.err
    (folder / "77").symlink_to("/nowhere")
    run = run_script("predict", folder, checkpoint, "--format", "jsonl")
    gone, named = read_jsonl(run.out)
    assert run.code == 1
    assert gone["error"].startswith(f"{folder}/77 cannot be read: ")
    assert named["file"] == f"{folder}/a.jpg"


@pytest.mark.parametrize(
    ("word", "flags"),
    [
        ("unknown", ["--reject"]),
        ("Review", ["--promise", 0.5]),
        ("unreadable", ["--sort_into", "s"]),
    ],
)
def test_a_category_that_is_called_as_an_answer_is_refused_where_it_could_be_one(
    run_script, mixed, checkpoint, tmp_path, monkeypatch, word, flags
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.json").write_text(json.dumps({"1": word}))
    command = ["predict", mixed[0], checkpoint, "--category_names", "names.json"]
    assert run_script(*command).code == 0
    run = run_script(*command, *flags)
    assert run.code == 2
    assert f"a category is called {word.lower()}" in run.err


def test_a_spreadsheet_computes_no_path(run_script, photo, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(photo, "=1+1.jpg")
    rows = read_csv(run_script("predict", "=1+1.jpg", checkpoint, "--format", "csv").out)
    assert {row["file"] for row in rows} == {"./=1+1.jpg"}
    [record] = read_jsonl(run_script("predict", "=1+1.jpg", checkpoint, "--format", "jsonl").out)
    assert record["file"] == "=1+1.jpg"


def test_odd_names_do_not_reach_a_terminal_raw(run_script, odd, checkpoint):
    (odd / "\x1b]0;title\x07.jpg").write_text("no photograph")
    run = run_script("predict", odd, checkpoint)
    assert run.code == 1
    assert "\\x1b[31mred.jpg" in run.out
    assert "line\\nbreak.jpg" in run.out
    missing = run_script("predict", odd / "\x1b[2J.jpg", checkpoint)
    for text in (run.out, run.err, missing.err):
        assert all(line.isprintable() for line in text.split("\n"))


# --- Output ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_closed_pipe_is_quiet(drawn, checkpoint):
    run = subprocess.run(
        f"{sys.executable} predict.py {drawn}/train {checkpoint} --batch_size 1 | head -n 1",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stdout.count("\n") == 1
    assert run.stderr == ""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
def test_a_full_disk_is_a_sentence(photo, checkpoint):
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, ROOT / "predict.py", photo, checkpoint],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    assert run.returncode == 1
    assert run.stderr == "predict.py: standard output cannot be written: No space left on device\n"


# --- Score, info, plot ----------------------------------------------------------------


def test_a_labelled_folder_scores_itself(run_script, drawn, cnn, checkpoint):
    run = run_script("predict", drawn / "valid", checkpoint, "--format", "csv", "--score")
    correct = sum(
        row["rank"] == "1" and row["category"] == row["file"].split(os.sep)[-2]
        for row in read_csv(run.out)
    )
    assert correct / 16 == float(history_of(cnn)[-1]["valid_accuracy"])
    assert f"predict.py: accuracy: {correct / 16:.2%} ({correct} of 16)" in run.err
    test = run_script("predict", drawn / "test", checkpoint, "--score").err
    report = json.loads((cnn / "report.json").read_text())["top1"]
    assert f"accuracy: {report['share']:.2%} ({report['right']} of 16)" in test


def test_a_labelled_folder_gets_a_report(run_script, drawn, cnn, checkpoint, tmp_path):
    folder, page = drawn / "test", tmp_path / "new" / "the page.html"
    run = run_script("predict", folder, checkpoint, "--score", "--report", page)
    assert run.code == 0
    figures = page.with_suffix(".json")
    assert run.err.endswith(f"wrote {page} and {figures}\n")
    assert sorted(page.parent.iterdir()) == [page, figures]
    report, of_run = (json.loads(p.read_text()) for p in (figures, cnn / "report.json"))
    assert report["network"].pop("engine").startswith("PyTorch ")
    for key in ("photographs", "top1", "top5", "hardest", "confused", "categories", "network"):
        assert report[key] == of_run[key], key
    for row, other in zip(report["misnamed"], of_run["misnamed"], strict=True):
        assert row == {**other, "probability": pytest.approx(other["probability"], abs=1e-4)}
    (calibration,) = report["calibration"].values()
    for key, value in of_run["calibration"]["test"].items():
        assert calibration[key] == pytest.approx(value, abs=1e-3), key
    assert report["split"] == str(folder)
    assert report["command"].startswith("python predict.py ")
    assert report["versions"] == of_run["versions"]
    found = Page(page.read_bytes())
    of_100 = math.floor(1000 * report["top1"]["share"]) / 10
    assert found.texts("h1") == [f"{of_100:g} of 100 photographs are named correctly"]
    assert of_run["command"] in found.texts("dd")


def test_a_report_replaces_nothing_that_is_read(
    run_script, photo, checkpoint, tmp_path, monkeypatch
):
    names = tmp_path / "names.json"
    names.write_text('{"2": "Mohn"}')
    options = ["--score", "--category_names", names, "--report", tmp_path / "names.html"]
    run = run_script("predict", photo, checkpoint, *options)
    assert run.code == 2
    assert f"{names} is what this command reads" in run.err
    shutil.copy(photo, tmp_path / "photo.html")  # in a list it counts by its content
    monkeypatch.setattr(
        "sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(b"photo.html\n")))
    )
    monkeypatch.chdir(tmp_path)
    run = run_script("predict", "-", checkpoint, "--score", "--report", "photo.html")
    assert run.code == 2
    assert "photo.html is among the photographs" in run.err
    assert (tmp_path / "photo.html").read_bytes() == photo.read_bytes()
