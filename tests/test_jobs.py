"""Batch jobs that are stopped and go on, that wait for their input, and that sort photographs."""

import csv
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, file_size_limit

import predict
from prediction.inputs import find_shard


@pytest.fixture(scope="module")
def checkpoint(cnn):
    return cnn / "checkpoint.pth"


@pytest.mark.parametrize(
    "options",
    [
        ("--format", "csv"),
        ("--format", "jsonl", "--shard", "2/2"),
        ("--reject", "--top_k", "2"),
        ("--format", "csv", "--promise", "0.5", "--batch_size", "3"),
    ],
)
def test_a_job_that_a_full_disk_stopped_goes_on(
    run_script, drawn, checkpoint, tmp_path, monkeypatch, options
):
    monkeypatch.chdir(tmp_path)
    command = ["predict", drawn / "test", "missing.jpg", drawn / "valid", checkpoint, *options]
    whole = run_script(*command, "--output", "whole")
    size = (tmp_path / "whole").stat().st_size
    for limit, flags in ((size // 2, []), (3 * size // 4, ["--continue"])):
        with file_size_limit(limit):
            stopped = run_script(*command, "--output", "names", *flags)
        assert stopped.code == 1
        assert stopped.err.endswith("--output names --continue\n")
    rest = run_script(*command, "--output", "names", "--continue")
    assert rest.code == whole.code
    assert re.match(r"resumes after \d+ records of names.part\n", rest.err)
    assert rest.err.split("\n", 1)[1] == whole.err.replace("whole", "names")
    assert (tmp_path / "names").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["names", "whole"]


def test_one_file_holds_the_records_of_one_job(
    run_script, drawn, checkpoint, trained, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.json").write_text('{"1": "Klatschmohn"}')
    (tmp_path / "only.txt").write_text("1\n2\n")
    command = ["predict", drawn / "valid", checkpoint, "--output", "names", "--format", "csv"]
    with file_size_limit(2000):
        run_script(*command)
    for change, words in (
        ([*command[:2], trained / "checkpoint.pth", *command[3:]], "checkpoint"),
        ([*command[:-1], "jsonl"], "--format"),
        ([*command, "--top_k", "2"], "--top_k"),
        ([*command, "--category_names", "names.json"], "--category_names"),
        ([*command, "--reject"], "--reject"),
        ([*command, "--promise", "0.5"], "--promise"),
        ([*command, "--only", "only.txt"], "--only"),
        ([*command, "--shard", "1/2"], "--shard"),
        ([*command, "--sort_into", "sorted"], "--sort_into"),
        ([*command, "--gpu"], "--gpu"),
        ([command[0], drawn / "test", *command[2:]], "names.part is of other photographs"),
    ):
        run = run_script(*change, "--continue")
        assert run.code == 2
        assert words in run.err
        assert "go on with" not in run.err
    run = run_script(*command)
    assert run.err.startswith(
        "names.part of a stopped job is begun again, as there is no --continue\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_process_goes_on(photo, checkpoint, tmp_path, number):
    output = tmp_path / "names.csv"
    command = [sys.executable, ROOT / "predict.py", "-", checkpoint, "--format", "csv"]
    command += ["--output", output, "--continue", "--batch_size", "1"]
    part, log = tmp_path / "names.csv.part", tmp_path / "names.csv.part.log"
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(f"{photo}\n".encode() * 7)
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not log.exists() or log.read_bytes().count(b"\n") < 1 + 7:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        process.stdin.close()
        assert process.wait(60) in (-number, 128 + number)
    paths = f"{photo}\n" * 9
    run = subprocess.run(command, input=paths, stderr=subprocess.PIPE, text=True, timeout=60)
    assert run.stderr.startswith(f"resumes after 7 records of {part}\n")
    with open(output, newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"] * 9
    assert rows[:4] * 9 == rows


@pytest.mark.slow
def test_who_waits_gets_an_answer_at_once(drawn, checkpoint, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    exported = tmp_path / "flowers.onnx"
    assert predict.main(["--export", str(exported), str(checkpoint)]) == 0
    paths = [str(path) for path in sorted((drawn / "valid").glob("*/*.jpg"))[:5]]
    for network in (checkpoint, exported):
        for shard in ("1/1", "1/2"):
            with subprocess.Popen(
                [sys.executable, ROOT / "predict.py", "-", network]
                + ["--format", "jsonl", "--shard", shard]
                + (["--batch_size", "1"] if network == checkpoint else []),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as process:
                for path in paths:
                    process.stdin.write(f"{path}\n")
                    process.stdin.flush()
                    if shard == "1/1" or find_shard(path, 2) == 1:  # else another job answers
                        assert path in process.stdout.readline()
                process.stdin.close()
                assert process.stdout.read() == ""


# --- Folders --------------------------------------------------------------------------


def test_photographs_are_sorted(run_script, drawn, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jpg").write_text("no photograph")
    inputs = [drawn / "valid", "bad.jpg", "missing.jpg"]
    command = ["predict", *inputs, checkpoint, "--format", "csv", "--promise", "0.5"]
    run = run_script(*command, "--output", "names.csv", "--sort_into", "sorted")
    assert "sorted: 17 linked, 1 missing\n" in run.err
    with open("names.csv", newline="") as file:
        answers = {row["file"]: row["answer"] for row in csv.DictReader(file)}
    places = {}
    for place in (tmp_path / "sorted").rglob("*.jpg"):
        assert place.is_symlink()
        places[os.readlink(place)] = place.parent.name
    expected = {**answers, str(tmp_path / "bad.jpg"): "unreadable"}
    del expected["bad.jpg"], expected["missing.jpg"]
    assert places == expected
    assert "there already" in run_script(*command, "--sort_into", "sorted").err
    run = run_script(*command, "--sort_into", "copies", "--copy")
    assert "copies: 17 copied, 1 missing\n" in run.err
    assert not any(path.is_symlink() for path in (tmp_path / "copies").rglob("*.jpg"))


def test_a_folder_that_is_read_is_not_sorted_into(run_script, drawn, checkpoint):
    run = run_script(
        "predict", drawn / "valid", checkpoint, "--sort_into", drawn / "valid" / "sorted"
    )
    assert run.code == 2
    assert "which is read; sort into another folder" in run.err
    assert not (drawn / "valid" / "sorted").exists()
