"""From the command line to photographs: order, folders, lists; and what cannot be a checkpoint."""

import io
import os
import sys
import threading

import pytest

from prediction.inputs import check_checkpoint_file, choose, expand
from running.errors import ImageError, InputError


@pytest.fixture
def stdin(monkeypatch):
    """Put bytes on standard input."""

    def put(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))

    return put


def test_a_folder_without_photographs_is_an_input_with_an_error(tmp_path):
    [(path, error)] = expand([str(tmp_path)], b"\n")
    assert path == str(tmp_path)
    assert isinstance(error, ImageError)
    assert "holds no photographs" in str(error)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a.jpg\r\n\r\nb.jpg\r\n", ["a.jpg", "b.jpg"]),
        (b"\xef\xbb\xbfa.jpg\r\nb.jpg", ["a.jpg", "b.jpg"]),
        (b"a.jpg\n\xef\xbb\xbfb.jpg", ["a.jpg", "\ufeffb.jpg"]),
        (b"there\r\nb.jpg", ["there\r", "b.jpg"]),
    ],
)
def test_lists_that_were_made_on_windows(stdin, tmp_path, monkeypatch, content, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there\r").touch()  # a file that is called so
    stdin(content)
    assert [path for path, _ in expand(["-"], b"\n")] == expected


@pytest.mark.parametrize(
    ("content", "separator", "words"),
    [
        (b"a.jpg\0b.jpg\0", b"\n", "add --null"),
        (b"a.jpg\nb.jpg\n", b"\0", "stand on lines, without NUL: drop --null"),
        ("a.jpg\r\n".encode("utf-16"), b"\n", "in UTF-16"),
    ],
)
def test_lists_of_another_kind_are_refused(stdin, content, separator, words):
    stdin(content)
    with pytest.raises(InputError, match=words):
        [*expand(["-"], separator)]


@pytest.mark.parametrize("blocks", [True, False])
def test_a_list_that_is_not_there_yet_is_waited_for(monkeypatch, blocks):
    reader, writer = os.pipe()
    os.set_blocking(reader, blocks)
    with open(reader, "rb") as stream, open(writer, "wb", 0) as list_:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        paths = expand(["-"], b"\n")
        list_.write(b"a.jpg\nb.j")
        assert next(paths) == ("a.jpg", None)
        threading.Timer(0.05, list_.write, [b"pg\nc.jpg\n"]).start()
        assert [next(paths), next(paths)] == [("b.jpg", None), ("c.jpg", None)]
        threading.Timer(0.05, list_.close).start()
        assert [*paths] == []


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no such checkpoint"),
        ("folder", "is a folder; the checkpoint is a file"),
        ("pipe", "is a pipe or a device"),
        ("text", "damaged or no checkpoint"),
    ],
)
def test_what_cannot_be_a_checkpoint(tmp_path, kind, words):
    path = tmp_path / "checkpoint.pth"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "text":
        path.write_text("no archive")
    with pytest.raises(InputError, match=words):
        check_checkpoint_file(str(path))


def test_every_photograph_is_in_one_shard_and_arrivals_move_no_other():
    before = [(f"photographs/p{i}.jpg", None) for i in range(400)]
    after = [("photographs/a_new.jpg", None), *before[1:]]
    parts = [[*choose(before, (number, 4), [])] for number in (1, 2, 3, 4)]
    assert sorted(sum(parts, [])) == sorted(before)
    assert all(60 < len(part) < 140 for part in parts)
    for number, part in enumerate(parts, start=1):
        later = [*choose(after, (number, 4), [])]
        assert set(later) - {after[0]} == set(part) - {before[0]}
