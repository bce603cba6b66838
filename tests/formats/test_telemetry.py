"""Nothing is sent anywhere, and nothing is left in the home folder."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

# Run a script, and end with 9 if Python or a library asks it for a socket or an address.
WATCHED = """
import runpy, os, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind"):
        os.write(2, f"{event} {arguments}".encode())
        os._exit(9)
sys.addaudithook(refuse)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("docs/images/drawn.png", "assets/flowers102.onnx"),
        pytest.param(("--export", "OUT", "assets/flowers102.pth"), marks=pytest.mark.slow),
    ],
    ids=["naming", "exporting"],
)
def test_the_home_folder_stays_empty_and_no_socket_is_opened(tmp_path, arguments):
    home, out = tmp_path / "home", tmp_path / "flowers.onnx"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_"))}
    words = [str(out) if word == "OUT" else word for word in arguments]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, "predict.py", *words],
        env={**environment, "HOME": str(home), "USERPROFILE": str(home)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert [*home.rglob("*")] == []
