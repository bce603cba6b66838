"""Standard streams that are closed, and Python without the script's folder: real processes."""

import subprocess
import sys

import pytest
from conftest import ROOT

CASES = [
    ("predict.py <photo> <checkpoint> >&-", 1, "predict.py: standard output is closed\n"),
    ("predict.py --info <checkpoint> >&-", 1, "predict.py: standard output is closed\n"),
    ("predict.py - <checkpoint> <&-", 2, "predict.py: standard input is closed\n"),
    ("predict.py <photo> nowhere.pth 2>&-", 2, ""),
    ("train.py <data> --check_data files >&-", 1, "train.py: standard output is closed\n"),
    ("train.py nowhere 2>&-", 2, ""),
    ("train.py nowhere 0>&- 1>&- 2>&-", 1, ""),
]


@pytest.mark.parametrize(("command", "code", "message"), CASES, ids=[row[0] for row in CASES])
def test_a_closed_stream_is_one_sentence(drawn, photo, checkpoint, command, code, message):
    for word, path in (("<data>", drawn), ("<photo>", photo), ("<checkpoint>", checkpoint)):
        command = command.replace(word, str(path))
    run = subprocess.run(
        f"{sys.executable} {ROOT}/{command}", shell=True, capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stdout, run.stderr) == (code, "", message)


@pytest.mark.parametrize("script", ["train.py", "predict.py"])
def test_the_scripts_find_their_rooms_where_python_does_not_look_there(script):
    command = [sys.executable, "-I", ROOT / script, "--help"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0
    assert run.stdout.startswith(f"usage: {script}")
