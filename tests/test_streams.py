"""Standard streams that are closed, and Python without the script's folder: real processes."""

import subprocess
import sys

import pytest
from conftest import ROOT

CASES = [
    ("predict.py <photo> <checkpoint> >&-", 1, "predict.py: standard output is closed\n"),
    ("predict.py - <checkpoint> <&-", 2, "predict.py: standard input is closed\n"),
    ("predict.py <photo> nowhere.pth 2>&-", 2, ""),
    ("train.py <data> --check_data files >&-", 1, "train.py: standard output is closed\n"),
    ("train.py nowhere 0>&- 1>&- 2>&-", 1, ""),
]


@pytest.mark.parametrize(("command", "code", "message"), CASES, ids=[row[0] for row in CASES])
def test_a_closed_stream_is_one_sentence(drawn, photo, checkpoint, command, code, message):
    for word, path in (("<data>", drawn), ("<photo>", photo), ("<checkpoint>", checkpoint)):
        command = command.replace(word, str(path))
    run = subprocess.run(  # -I: Python does not look for modules beside the script
        f"{sys.executable} -I {ROOT}/{command}", shell=True, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (code, "", message)
