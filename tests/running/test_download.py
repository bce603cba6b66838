"""Downloads that break off, go on, are something else, or never come."""

import hashlib
import os
import socket

import numpy as np
import pytest
from conftest import file_size_limit
from file_server import FileServer

import running.download
from running.download import Checksum, Remote, fetch, verify
from running.errors import InputError

CONTENT = np.random.default_rng(0).bytes(30_000)
MD5 = Checksum("md5", hashlib.md5(CONTENT).hexdigest())
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    """Serve CONTENT."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    # Small pieces, so that the first ones are written before a connection breaks off.
    monkeypatch.setattr(running.download, "CHUNK", 2**10)
    with FileServer(CONTENT) as server:
        yield server


@pytest.fixture(params=["size known", "size unknown"])
def remote(server, request):
    """Describe the file on the server."""
    size = len(CONTENT) if request.param == "size known" else None
    return Remote(server.url("a.bin"), MD5, size)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.bin"


@pytest.fixture
def part(tmp_path):
    return tmp_path / "a.bin.part"


def require_whole(path) -> None:
    """Assert that the file is there, and nothing beside it."""
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == [path.name]


def test_a_file_comes_whole_and_is_counted(server, remote, path):
    seen = []

    def progress(batches, total, description, unit=" photos", done=0):
        batches = list(batches)
        seen.append((description, unit, done + sum(map(len, batches)), total))
        return iter(batches)

    fetch(remote, path, progress)
    require_whole(path)
    assert server.requests == [(None, len(CONTENT))]
    assert seen == [("downloading", "B", len(CONTENT), len(CONTENT))]
    path.rename(path.with_name("a.bin.part")).write_bytes(CONTENT[:100])
    fetch(remote, path, progress)
    assert seen[1] == seen[0]  # what was there before is counted, too


def test_a_dropped_connection_is_resumed(server, remote, path, part):
    third = server.break_off = len(CONTENT) // 3
    for goes in (1, 2):
        with pytest.raises(InputError) as caught:
            fetch(remote, path)
        assert str(caught.value) == (
            f"{remote.url} cannot be downloaded (it broke off after {goes * third} of "
            f"{len(CONTENT)} bytes); try the same command again, which goes on behind what was "
            f"downloaded, or put a.bin into {path.parent} by hand"
        )
        assert part.read_bytes() == CONTENT[: goes * third]
    server.break_off = None
    fetch(remote, path)
    require_whole(path)
    ranges = [wanted for wanted, _ in server.requests]
    assert ranges == [None, f"bytes={third}-", f"bytes={2 * third}-"]
    assert sum(sent for _, sent in server.requests) == len(CONTENT)  # nothing twice


def test_without_ranges_it_starts_anew(server, remote, path, part):
    server.ranges = False
    part.write_bytes(b"?" * 1000)
    fetch(remote, path)
    require_whole(path)
    assert server.requests == [("bytes=1000-", len(CONTENT))]


@pytest.mark.parametrize(
    "content_range",
    [
        f"bytes 999-{len(CONTENT) - 1}/{len(CONTENT)}",
        f"bytes 1000-{len(CONTENT) - 2}/{len(CONTENT)}",
        f"bytes 1000-{len(CONTENT) - 1}/*",
        "nonsense",
    ],
)
def test_an_answer_of_other_bytes_is_not_appended(server, remote, path, part, content_range):
    server.content_range = content_range
    part.write_bytes(CONTENT[:1000])
    fetch(remote, path)
    require_whole(path)
    assert [wanted for wanted, _ in server.requests] == ["bytes=1000-", None]


@pytest.mark.parametrize("change", [-500, 500])
def test_a_file_of_another_size_is_refused(server, path, part, change):
    """It ends before what is here (416), or is longer."""
    remote = Remote(server.url("a.bin"), MD5, len(CONTENT))
    server.content = CONTENT[:change] if change < 0 else CONTENT + b"?" * change
    part.write_bytes(b"?" * (len(CONTENT) - 100))
    with pytest.raises(InputError, match=f"{len(CONTENT) + change} bytes instead of"):
        fetch(remote, path)
    assert [wanted for wanted, _ in server.requests] == [f"bytes={len(CONTENT) - 100}-", None]


def test_a_part_that_is_longer_than_the_file_starts_anew(server, remote, path, part):
    part.write_bytes(b"?" * (len(CONTENT) + 1))
    fetch(remote, path)
    require_whole(path)
    assert server.requests[-1] == (None, len(CONTENT))


def test_a_whole_part_is_not_downloaded_again(server, path, part):
    part.write_bytes(CONTENT)
    fetch(Remote(server.url("a.bin"), MD5, len(CONTENT)), path)
    require_whole(path)
    assert server.requests == []


def test_a_whole_part_of_a_file_of_unknown_size_is_no_trap(server, path, part):
    part.write_bytes(CONTENT)
    fetch(Remote(server.url("a.bin"), MD5, None), path)
    require_whole(path)


def test_another_checksum_is_refused_and_nothing_is_left_to_go_on_from(server, remote, path):
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(InputError, match="has another checksum, and was removed"):
        fetch(remote, path)
    assert os.listdir(path.parent) == []  # or every later attempt would end here
    server.content = CONTENT
    fetch(remote, path)
    require_whole(path)


def test_a_part_of_another_file_is_found_out(server, remote, path, part):
    part.write_bytes(b"?" * 1000)
    with pytest.raises(InputError, match="has another checksum"):
        fetch(remote, path)
    assert os.listdir(path.parent) == []


def test_a_server_need_not_tell_the_length(server, remote, path):
    server.tells_length = False
    fetch(remote, path)
    require_whole(path)
    path.unlink()
    server.break_off = 5000
    with pytest.raises(InputError, match="it broke off after 5000 of|another checksum"):
        fetch(remote, path)
    assert not path.exists()


def test_the_first_digits_of_a_checksum_are_verified(server, path):
    right, wrong = (Checksum("sha256", digits) for digits in (SHA256[:8], "01234567"))
    fetch(Remote(server.url("a.bin"), right, None), path)
    require_whole(path)
    other = Remote(server.url("a.bin"), wrong, None)
    with pytest.raises(InputError) as caught:
        verify(path, other)
    assert str(caught.value) == (
        f"{path} is damaged or another file (its sha256 is {SHA256[:8]}, not 01234567); move it "
        f"away, and the same command downloads {other.url}"
    )
    require_whole(path)


@pytest.mark.parametrize(
    "make",
    [os.mkdir, lambda path: os.symlink("nowhere", path), os.mkfifo, lambda path: None],
    ids=["folder", "broken link", "pipe", "nothing"],
)
def test_what_is_no_file_is_one_sentence(path, make):
    make(path)
    with pytest.raises(InputError, match=r"a\.bin is no file, where http://x/a would be put"):
        verify(path, Remote("http://x/a", MD5, None))


def test_404_and_nobody_there(server, remote, path):
    server.status = 404
    with pytest.raises(InputError, match=r"\(HTTP Error 404: Not Found\); try"):
        fetch(remote, path)
    server.close()
    with pytest.raises(InputError, match="Connection refused"):
        fetch(remote, path)
    assert os.listdir(path.parent) == []


def test_a_status_without_a_file_is_refused(server, path):
    server.status = 203
    for size, words in ((None, r"\(status 203, 5 bytes\)"), (9, "status 203, 5 bytes instead")):
        with pytest.raises(InputError, match=words):
            fetch(Remote(server.url("a.bin"), MD5, size), path)


def test_an_unknown_host_is_one_sentence(remote, path, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(InputError, match="Name or service not known"):
        fetch(remote, path)


def test_a_silent_server_is_not_waited_for(server, remote, path, part, monkeypatch):
    monkeypatch.setattr(running.download, "PATIENCE", 0.2)
    server.break_off, server.hangs = 2000, True
    with pytest.raises(InputError, match="timed out"):
        fetch(remote, path)
    # What came goes on, but for what was still in the socket's buffer.
    assert 0 < part.stat().st_size <= 2000
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes calls and says nothing
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/a.bin"
        with pytest.raises(InputError, match="timed out"):
            fetch(remote._replace(url=url), path)


def test_nothing_global_is_changed(remote, path, monkeypatch):
    monkeypatch.setattr(socket, "setdefaulttimeout", lambda _: pytest.fail("of all sockets"))
    fetch(remote, path)


def test_a_full_disk_keeps_what_was_downloaded(server, remote, path, part):
    with file_size_limit(10_000), pytest.raises(OSError, match="File too large"):
        fetch(remote, path)
    assert part.stat().st_size == 10_000
    fetch(remote, path)
    require_whole(path)
    assert server.requests[-1] == ("bytes=10000-", len(CONTENT) - 10_000)
