"""Downloads that break off, are resumed, are something else, or never come."""

import hashlib
import os
import socket

import numpy as np
import pytest
from conftest import file_size_limit
from file_server import FileServer

import running.download
from running.download import fetch
from running.errors import InputError

CONTENT = np.random.default_rng(0).bytes(30_000)
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    """Serve CONTENT."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    # Small pieces, so that the first ones are written before a connection breaks off.
    monkeypatch.setattr(running.download, "CHUNK", 2**10)
    with FileServer(CONTENT) as server:
        yield server


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.bin"


@pytest.fixture
def part(tmp_path):
    return tmp_path / "a.bin.part"


def get(server, path, progress=running.download.no_progress) -> None:
    """Download the file, and assert that it is there, and nothing beside it."""
    fetch(server.url("a.bin"), path, MD5, progress)
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == [path.name]


def test_a_file_comes_whole_and_all_its_bytes_are_counted(server, path, part):
    seen = []

    def progress(batches, total, description, unit=" photos", done=0):
        batches = list(batches)
        seen.append((description, unit, done + sum(map(len, batches)), total))
        return iter(batches)

    get(server, path, progress)
    get(server, path)  # it is there now
    assert server.requests == [(None, len(CONTENT))]
    path.unlink()
    part.write_bytes(CONTENT[:100])
    get(server, path, progress)
    assert seen == [("downloading", "B", len(CONTENT), len(CONTENT))] * 2


def test_a_dropped_connection_is_resumed(server, path, part):
    third = server.break_off = len(CONTENT) // 3
    for goes in (1, 2):
        with pytest.raises(InputError, match=r"/a\.bin broke off .*same command"):
            fetch(server.url("a.bin"), path, MD5)
        assert part.read_bytes() == CONTENT[: goes * third]
    server.break_off = None
    get(server, path)
    ranges = [wanted for wanted, _ in server.requests]
    assert ranges == [None, f"bytes={third}-", f"bytes={2 * third}-"]
    assert sum(sent for _, sent in server.requests) == len(CONTENT)  # nothing twice


@pytest.mark.parametrize("size", [1000, len(CONTENT), len(CONTENT) + 1])
def test_a_part_of_another_file_does_not_block_the_next_attempt(server, path, part, size):
    part.write_bytes(b"?" * size)
    with pytest.raises(InputError, match="try the same command again"):
        fetch(server.url("a.bin"), path, MD5)
    assert os.listdir(path.parent) == []
    get(server, path)


def test_another_file_is_refused_and_nothing_of_it_is_left(server, path):
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(InputError, match=r"/a\.bin sent was removed, as its md5 differs"):
        fetch(server.url("a.bin"), path, MD5)
    assert os.listdir(path.parent) == []
    server.content = CONTENT
    get(server, path)


def test_404_nobody_there_and_an_unknown_host_are_one_sentence(server, path, monkeypatch):
    server.status = 404
    with pytest.raises(InputError, match=r"a\.bin cannot be downloaded \(HTTP Error 404: Not"):
        fetch(server.url("a.bin"), path, MD5)
    server.close()
    with pytest.raises(InputError, match=r"a\.bin cannot be downloaded"):
        fetch(server.url("a.bin"), path, MD5)

    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(InputError, match="Name or service not known"):
        fetch("http://nowhere/a", path, MD5)
    assert os.listdir(path.parent) == []


def test_a_full_disk_keeps_what_was_downloaded(server, path, part):
    with file_size_limit(10_000), pytest.raises(OSError, match="File too large"):
        fetch(server.url("a.bin"), path, MD5)
    assert part.stat().st_size == 10_000
    get(server, path)
    assert server.requests[-1] == ("bytes=10000-", len(CONTENT) - 10_000)
