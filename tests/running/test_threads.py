"""Threads: results in the order of the items, few ahead of their turn, and how many there are."""

import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT

from running.threads import _quota, map_ahead


def wait_until(is_true):
    for _ in range(1000):
        if is_true():
            return
        time.sleep(0.01)
    raise AssertionError


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("ahead", [1, 3, 100])
def test_results_come_in_the_order_of_the_items(workers, ahead):
    def late(i):
        time.sleep(0.001 * (i % 3))
        return i * i

    assert [*map_ahead(late, range(20), workers, ahead)] == [i * i for i in range(20)]
    assert [*map_ahead(late, [], workers, ahead)] == []


def test_no_more_items_are_taken_than_may_be_ahead():
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    results = map_ahead(str, items(), 2, 5)
    assert taken == []
    for i in range(20):
        assert next(results) == str(i)
        wait_until(lambda least=i + 2: taken[-1] >= least)
    time.sleep(0.05)
    assert 22 <= len(taken) <= 24
    results.close()


def test_an_error_comes_in_its_turn_and_ends_the_rest():
    done = []

    def work(i):
        if i == 2:
            raise ValueError("the third")
        done.append(i)
        return i

    results = map_ahead(work, range(10**9), 1, 4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert max(done) < 10
    assert [*results] == []


def test_a_result_does_not_wait_for_the_next_item():
    is_asked_further = threading.Event()

    def items():
        yield 1
        assert is_asked_further.wait(10)
        yield 2

    results = map_ahead(str, items(), 2, 5)
    assert next(results) == "1"
    is_asked_further.set()
    assert [*results] == ["2"]


def test_an_early_end_stops_the_thread_and_closes_the_items():
    closed = []

    def items():
        try:
            yield from range(10**9)
        finally:
            closed.append(threading.current_thread())

    results = map_ahead(str, items(), 2, 5)
    assert next(results) == "0"
    results.close()
    wait_until(lambda: closed)
    wait_until(lambda: not closed[0].is_alive())


WAITS_ON_A_PIPE = """
import os
from running.threads import map_ahead

def lines():
    while part := os.read(0, 100):
        yield part

results = map_ahead(bytes.upper, lines(), 2, 5)
print(next(results).decode(), flush=True)
results.close()
"""


def test_python_exits_although_an_item_is_still_waited_for():
    with subprocess.Popen(
        [sys.executable, "-c", WAITS_ON_A_PIPE],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdin.write(b"a")
        process.stdin.flush()
        assert process.stdout.read() == b"A\n"
        assert process.wait(60) == 0  # while its standard input is still open


@pytest.mark.parametrize(
    ("line", "files", "processors"),
    [
        ("0::/", {"cpu.max": "200000 100000\n"}, 2),  # a container's own group
        ("0::/pod/app", {"pod/app/cpu.max": "max 100000", "pod/cpu.max": "150000 100000"}, 1.5),
        ("0::/pod/app", {"pod/app/cpu.max": "max 100000"}, 1000),
        (
            "4:cpu,cpuacct:/a",
            {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "1e5"},
            1000,
        ),
        ("4:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"}, 0.5),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 1000),
        ("damaged", {}, 1000),
    ],
)
def test_the_quota_of_a_container_is_known(tmp_path, line, files, processors):
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in {"proc/self/cgroup": f"9:pids:/\n{line}\n", **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _quota(tmp_path) == processors
