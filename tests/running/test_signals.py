"""Ctrl-C and SIGTERM: the first ends a block in order, the second at once; imports are whole."""

import signal
import subprocess
import sys
import threading

import pytest
from conftest import ROOT

from running.signals import NUMBERS, Stopped, delay_signals, stoppable


@pytest.fixture(autouse=True)
def handlers():
    """Handlers are for a whole process; they must be as before."""
    before = [signal.getsignal(number) for number in NUMBERS]
    yield
    after = [signal.getsignal(number) for number in NUMBERS]
    for number, handler in zip(NUMBERS, before):
        signal.signal(number, handler)
    assert after == before


@pytest.mark.parametrize(
    ("number", "name", "code"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)]
)
def test_the_first_signal_ends_the_block_in_order(number, name, code):
    done = []
    with pytest.raises(Stopped, match=name) as caught, stoppable():
        try:
            signal.raise_signal(number)
            done.append("went on")
        finally:
            done.append("cleared up")
    assert done == ["cleared up"]
    assert caught.value.exit_code == code
    assert isinstance(caught.value, KeyboardInterrupt)  # no `except Exception` keeps it


def test_the_second_signal_exits_at_once():
    script = """
import time
from running.signals import stoppable
with stoppable():
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        print("stopping", flush=True)
        time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    alarm = threading.Timer(60, process.kill)  # a line that never comes would be waited for
    alarm.start()
    try:
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "stopping\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(50) == 130
    finally:
        alarm.cancel()
        process.kill()
        process.communicate(timeout=10)


@pytest.mark.parametrize("error", [None, ImportError])
def test_a_signal_during_imports_comes_after_them(error):
    done = []
    with pytest.raises(Stopped, match="SIGTERM"), stoppable():
        with delay_signals():
            signal.raise_signal(signal.SIGTERM)
            done.append("imported")
            if error:
                raise error
        done.append("went on")
    assert done == ["imported"]
