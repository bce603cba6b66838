"""Files: whole or not there, one run a folder, turns, earlier files kept."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from conftest import ROOT, file_size_limit

from running.errors import InputError, RunError
from running.files import (
    atomic_write,
    find_target,
    hold_lock,
    is_special,
    lock_folder,
    prepare_folder,
    take_turns,
    write_alone,
)


def names_in(folder) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_file_that_fails_half_way_leaves_the_earlier_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("earlier")

    def write(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="a.txt cannot be written: No space left"):
        with atomic_write(path) as file:
            write(file)
    assert path.read_text() == "earlier"
    assert names_in(tmp_path) == ["a.txt"]
    with atomic_write(path) as file:
        file.write(b"later")
    assert path.read_text() == "later"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_full_disk_is_noticed_at_the_end_of_the_block(tmp_path):
    with file_size_limit(10), pytest.raises(RunError, match="File too large"):
        with atomic_write(tmp_path / "a.txt") as file:
            file.write(bytes(100))  # which lies in Python's buffer
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_is_no_trouble_with_the_disk_passes(tmp_path, error):
    with pytest.raises(error), atomic_write(tmp_path / "a.txt"):
        raise error
    assert names_in(tmp_path) == []


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(RunError, match="a.txt cannot be written: No such file"):
        with atomic_write(tmp_path / "nowhere" / "a.txt"):
            pytest.fail("nothing is open")


def test_what_a_link_leads_to_is_replaced(tmp_path):
    (tmp_path / "target.txt").write_text("earlier")
    (tmp_path / "link.txt").symlink_to("target.txt")
    with write_alone(tmp_path / "link.txt") as file:
        file.write(b"later")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "target.txt").read_text() == "later"


def test_where_a_file_can_be_written(tmp_path):
    (tmp_path / "there.txt").touch()
    (tmp_path / "link.txt").symlink_to("there.txt")
    (tmp_path / "nowhere.txt").symlink_to("new.txt")
    for name, target in [
        ("there.txt", "there.txt"),
        ("link.txt", "there.txt"),
        ("nowhere.txt", "new.txt"),
        ("a/b.txt", "a/b.txt"),
    ]:
        assert find_target(tmp_path / name, ["missing"]) == tmp_path / target


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("folder", "is a folder, where a file would be written"),
        ("pipe", "is a pipe or a device, where a file would be written"),
        ("link to a pipe", "is a pipe or a device, where a file would be written"),
        ("circle", "is a link that leads back to itself"),
        ("device", "/dev/null is a pipe or a device"),
        ("descriptor", "/dev/stdout is a pipe or a device"),
        ("read", "is what this command reads; give another name to write to"),
        ("link", "is what this command reads; give another name to write to"),
        ("hard link", "is what this command reads; give another name to write to"),
    ],
)
def test_where_no_file_may_be_written(tmp_path, kind, words):
    path = tmp_path / "a"
    (tmp_path / "read").touch()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe")
    elif kind == "circle":
        path.symlink_to("b")
        (tmp_path / "b").symlink_to("a")
    elif kind == "link":
        path.symlink_to("read")
    elif kind == "hard link":
        path.hardlink_to(tmp_path / "read")
    else:
        devices = {"device": "/dev/null", "descriptor": "/dev/stdout"}
        path = devices.get(kind, tmp_path / "read")
    with pytest.raises(InputError, match=words):
        find_target(path, [tmp_path / "read"])


def test_an_open_file_is_no_place_to_write(tmp_path):
    """As /dev/stdout is where a shell has redirected it: what stands there would be lost."""
    with open(tmp_path / "log", "w") as file:
        for path in (f"/dev/fd/{file.fileno()}", f"/proc/self/fd/{file.fileno()}"):
            (tmp_path / "link").unlink(missing_ok=True)
            (tmp_path / "link").symlink_to(path)
            for each in (path, tmp_path / "link"):
                with pytest.raises(InputError, match="is a pipe or a device"):
                    find_target(each)


def test_a_folder_is_made_and_left_as_it_was(tmp_path):
    folder = tmp_path / "a" / "b"
    prepare_folder(folder, ["checkpoint.pth"])
    assert names_in(folder) == []
    (folder / "checkpoint.pth").mkdir()
    with pytest.raises(InputError, match="checkpoint.pth is a folder, where a file would be"):
        prepare_folder(folder, ["history.csv", "checkpoint.pth"])
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match="pipe is a pipe or a device, where a file would be"):
        prepare_folder(folder, ["pipe"])
    (folder / "file").touch()
    with pytest.raises(InputError, match="file cannot be written to: it is not a folder"):
        prepare_folder(folder / "file", [])


# --- Locks ----------------------------------------------------------------------------


def test_one_run_a_folder(tmp_path):
    with lock_folder(tmp_path, []):
        with pytest.raises(InputError, match=f"another train.py is at work in {tmp_path}"):
            with lock_folder(tmp_path, []):
                pytest.fail("two are at work")
        with pytest.raises(InputError), lock_folder(str(tmp_path), []):  # the first one still is
            pytest.fail("two are at work")
    with lock_folder(tmp_path, []):
        pass
    assert names_in(tmp_path) == []


def test_what_a_killed_run_left_half_written_is_removed(tmp_path):
    (tmp_path / ".a.pth.18.tmp").mkdir()
    for name in (
        ".a.pth.18.tmp/file",
        ".a.pth.17.tmp",
        ".b.pth.17.tmp",
        "a.pth",
        ".[ab].pth.17.tmp",
    ):
        (tmp_path / name).touch()
    with lock_folder(tmp_path, ["a.pth", "[ab].pth"]):
        assert names_in(tmp_path) == [".b.pth.17.tmp", ".train.lock", "a.pth"]


def test_a_lock_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(RunError, match="File name too long"):
        with hold_lock(tmp_path / ("a" * 300), "busy", []):
            pytest.fail("nobody is kept out")


HOLDER = """
import sys
from running.files import lock_folder
with lock_folder(sys.argv[1], []):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_that_is_killed_lets_go(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"  # or nothing, where it ended
            with pytest.raises(InputError), lock_folder(tmp_path, []):
                pytest.fail("two are at work")
        finally:
            holder.kill()
        assert holder.wait(30) == -signal.SIGKILL
    with lock_folder(tmp_path, []):
        pass
    assert names_in(tmp_path) == []


def test_turns_are_taken_one_after_the_other(tmp_path):
    inside, most, lock = 0, 0, threading.Lock()

    def work():
        nonlocal inside, most
        for _ in range(20):
            with take_turns(tmp_path / "lock"):
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert (inside, most) == (0, 1)


def test_without_locks_nobody_is_kept_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with lock_folder(tmp_path, []), lock_folder(tmp_path, []):
        pass
    with take_turns(tmp_path / "a"), take_turns(tmp_path / "a"):
        pass


def test_pipes_and_devices_are_special(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    assert is_special(tmp_path / "pipe")
    assert is_special("/dev/zero")
    assert not any(map(is_special, [tmp_path, tmp_path / "file", tmp_path / "nowhere"]))
