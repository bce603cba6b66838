"""Files: written whole or not at all, and by one process at a time."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest
from conftest import ROOT

from running.errors import InputError, RunError
from running.files import (
    atomic_write,
    find_target,
    lock_folder,
    prepare_folder,
    reserve,
    take_turns,
    write_alone,
)


def names_in(folder) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(28, "No space left"), RunError), (ValueError(), ValueError)],
)
def test_a_file_that_fails_half_way_leaves_the_earlier_one(tmp_path, error, raised):
    path = tmp_path / "a.txt"
    path.write_text("earlier")
    with pytest.raises(raised):
        with atomic_write(path) as file:
            file.write(b"half")
            raise error
    assert path.read_text() == "earlier"
    assert names_in(tmp_path) == ["a.txt"]
    with atomic_write(path) as file:
        file.write(b"later")
    assert path.read_text() == "later"
    assert names_in(tmp_path) == ["a.txt"]


def test_the_file_that_a_link_leads_to_is_replaced(tmp_path):
    (tmp_path / "target.txt").write_text("earlier")
    (tmp_path / "link.txt").symlink_to("target.txt")
    with write_alone(tmp_path / "link.txt") as file:
        file.write(b"later")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "target.txt").read_text() == "later"
    (tmp_path / "to_new.txt").symlink_to("new.txt")
    assert find_target(tmp_path / "to_new.txt", ["missing"]) == tmp_path / "new.txt"


def test_nothing_is_written_over_pipes_streams_folders_or_what_is_read(tmp_path):
    (tmp_path / "read").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to_pipe").symlink_to("pipe")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "to_read").symlink_to("read")
    (tmp_path / "hard").hardlink_to(tmp_path / "read")
    with open(tmp_path / "log", "w") as file:  # as the shell redirects standard output
        (tmp_path / "to_stream").symlink_to(f"/dev/fd/{file.fileno()}")
        paths = [path for path in tmp_path.iterdir() if path.name != "log"]
        for path in [*paths, "/dev/null", "/dev/stdout", f"/proc/self/fd/{file.fileno()}"]:
            with pytest.raises(InputError) as caught:
                find_target(path, [tmp_path / "read"])
            assert str(path) in str(caught.value)


def test_a_folder_is_made_and_its_files_can_be_written(tmp_path):
    folder = tmp_path / "a" / "b"
    prepare_folder(folder, ["checkpoint.pth"])
    assert names_in(folder) == []
    (folder / "checkpoint.pth").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "file").touch()
    for place, name in [(folder, "checkpoint.pth"), (folder, "pipe"), (folder / "file", "a")]:
        with pytest.raises(InputError):
            prepare_folder(place, [name])


# --- Locks ----------------------------------------------------------------------------


HOLDER = """
import sys
from running.files import lock_folder
with lock_folder(sys.argv[1], []):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_of_a_killed_run_ends_with_it(tmp_path):
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
    inside, most = [], []

    def work():
        for _ in range(20):
            with take_turns(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1] * 80


def test_where_there_are_no_locks_nobody_is_kept_out_and_no_file_of_another_run_goes(
    tmp_path, monkeypatch
):
    half = tmp_path / ".last.pth.123.tmp"
    half.touch()
    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", lambda *_: os.close(-1))  # raises OSError
        with lock_folder(tmp_path, ["last.pth"]):
            assert half.exists()
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with lock_folder(tmp_path, ["last.pth"]), lock_folder(tmp_path, ["last.pth"]):
        assert half.exists()
    with take_turns(tmp_path / "a"), take_turns(tmp_path / "a"):
        pass


def test_a_file_is_written_where_folders_cannot_be_synced(tmp_path, monkeypatch):
    sync = os.fsync

    def only_files(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(handle)

    monkeypatch.setattr("os.fsync", only_files)
    with atomic_write(tmp_path / "a") as file:
        file.write(b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_room_is_reserved_where_the_system_has_no_call_for_it(tmp_path, monkeypatch):
    monkeypatch.delattr("os.posix_fallocate", raising=False)
    with open(tmp_path / "a", "w+b") as file:
        reserve(file, 1000)
    assert (tmp_path / "a").stat().st_size == 1000
