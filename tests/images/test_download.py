"""Known data sets, from a small archive that a server on this machine holds."""

import hashlib
import os
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from archives import COUNT, FLOWERS, PHOTOGRAPHS, RUNS, tar_of
from conftest import ROOT, file_size_limit
from file_server import FileServer

import images.download
from images import datasets as known_data
from images.datasets import KNOWN_DATA_SETS
from images.download import download
from images.splits import has_train
from running.errors import FlowersError, InputError, RunError
from running.files import lock_folder


@pytest.fixture
def server(monkeypatch):
    """A server of forty flowers, which `download("flowers", ...)` asks."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(known_data, "FLOWER_RUNS", RUNS)
    # Small pieces, so that the first ones are written before a connection breaks off.
    monkeypatch.setattr("running.download.CHUNK", 2**10)
    with FileServer(FLOWERS) as server:
        publish(monkeypatch, server, FLOWERS)
        yield server


def publish(monkeypatch, server: FileServer, content: bytes) -> None:
    """Let these bytes be the known archive, and serve them."""
    server.content = content
    known = KNOWN_DATA_SETS["flowers"]._replace(
        url=server.url("102flowers.tgz"),
        size=len(content),
        md5=hashlib.md5(content).hexdigest(),
        photographs=COUNT,
    )
    monkeypatch.setitem(KNOWN_DATA_SETS, "flowers", known)


def visible(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def require_flowers(folder: Path) -> None:
    """Assert that the forty photographs are there, each once, byte for byte, by the rule."""
    assert visible(folder) == ["102flowers.tgz", "test", "train", "valid"]
    paths = [path.relative_to(folder) for path in folder.rglob("*.jpg")]
    assert Counter(path.parts[:2] for path in paths) == {
        (split, category): count
        for category in ("21", "3")
        for split, count in (("train", 16), ("valid", 2), ("test", 2))
    }
    for path in paths:
        number = int(path.stem.removeprefix("image_"))
        assert path.parts[1] == ("3" if 11 <= number <= 30 else "21")
        assert (folder / path).read_bytes() == PHOTOGRAPHS[f"jpg/{path.name}"]
    assert len({path.name for path in paths}) == COUNT


def fail(folder: Path, kind: type[FlowersError] = InputError) -> str:
    """Return the sentence of a download that fails, and leaves no data set."""
    with pytest.raises(kind) as caught:
        download("flowers", folder)
    assert type(caught.value) is kind
    assert not {"train", "valid", "test"} & {*visible(folder)}
    assert not [name for name in visible(folder) if name.startswith(".")]
    return str(caught.value)


# --- What is downloaded ---------------------------------------------------------------


def test_flowers_are_downloaded_checked_and_divided(server, tmp_path):
    seen = []

    def progress(batches, total, description, unit=" photos", done=0):
        batches = list(batches)
        seen.append((description, unit, done + sum(map(len, batches)), total))
        return iter(batches)

    folder = tmp_path / "new" / "flowers"
    download("flowers", folder, progress)
    require_flowers(folder)
    assert server.requests == [(None, len(FLOWERS))]
    assert seen == [
        ("downloading", "B", len(FLOWERS), len(FLOWERS)),
        ("unpacking", " photos", COUNT, COUNT),
    ]


def test_an_archive_that_lies_there_is_verified_and_used(server, tmp_path):
    archive = tmp_path / "102flowers.tgz"
    archive.write_bytes(FLOWERS[:-1])
    words = f"{archive} is damaged or another file .*move it away, and the same command downloads"
    with pytest.raises(InputError, match=words):
        download("flowers", tmp_path)
    assert visible(tmp_path) == ["102flowers.tgz"]
    assert archive.read_bytes() == FLOWERS[:-1]
    archive.write_bytes(FLOWERS)
    download("flowers", tmp_path)
    require_flowers(tmp_path)
    assert server.requests == []


@pytest.mark.parametrize(
    "make",
    [Path.mkdir, lambda path: path.symlink_to("nowhere"), os.mkfifo],
    ids=["folder", "broken link", "pipe"],
)
def test_what_is_no_archive_is_one_sentence(server, tmp_path, make):
    make(tmp_path / "102flowers.tgz")
    assert "102flowers.tgz is no file" in fail(tmp_path)
    assert visible(tmp_path) == ["102flowers.tgz"]


@pytest.mark.parametrize("place", ["valid/1", "Validation/1", "roses"])
def test_photographs_of_the_users_are_not_mixed_with(server, tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "a.jpg").touch()
    with pytest.raises(InputError, match="has photographs, but no folder train"):
        download("flowers", tmp_path)
    assert server.requests == []


# --- What goes wrong ------------------------------------------------------------------


def test_a_dropped_connection_is_resumed(server, tmp_path):
    third = server.break_off = len(FLOWERS) // 3
    assert f"102flowers.tgz cannot be downloaded (it broke off after {third} of" in fail(tmp_path)
    server.break_off = None
    download("flowers", tmp_path)
    require_flowers(tmp_path)
    assert [wanted for wanted, _ in server.requests] == [None, f"bytes={third}-"]


def test_another_checksum_is_refused_before_unpacking(server, tmp_path, monkeypatch):
    server.content = FLOWERS[:-1] + b"?"
    monkeypatch.setattr(images.download, "_unpack", lambda *_: pytest.fail("unpacked"))
    assert "has another checksum, and was removed" in fail(tmp_path)
    assert visible(tmp_path) == []


def test_a_full_disk_keeps_what_was_downloaded(server, tmp_path):
    with file_size_limit(50_000):
        sentence = fail(tmp_path, RunError)
    assert f"flowers cannot be written into {tmp_path}: File too large; with room" in sentence
    assert (tmp_path / "102flowers.tgz.part").stat().st_size == 50_000
    download("flowers", tmp_path)
    require_flowers(tmp_path)
    assert server.requests[-1] == ("bytes=50000-", len(FLOWERS) - 50_000)


def test_a_full_disk_while_unpacking(server, tmp_path):
    (tmp_path / "102flowers.tgz").write_bytes(FLOWERS)
    with file_size_limit(1000):
        assert "File too large" in fail(tmp_path, RunError)
    assert visible(tmp_path) == ["102flowers.tgz"]


def test_a_hostile_archive_writes_nowhere_else(server, tmp_path, monkeypatch):
    publish(monkeypatch, server, tar_of(PHOTOGRAPHS, tarfile.TarInfo("../evil.jpg")))
    folder = tmp_path / "a" / "flowers"
    assert "'../evil.jpg' in it is a link, a device or a path out" in fail(folder)
    assert visible(folder) == ["102flowers.tgz"]
    assert visible(tmp_path / "a") == ["flowers"]
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tar_of(dict(list(PHOTOGRAPHS.items())[:-2])), "lacks 2 files, among them jpg/image_00039"),
        (FLOWERS[:5000], "cannot be unpacked: "),
        (b"hello" * 999, "cannot be unpacked: "),
    ],
    ids=["lacks files", "cut off", "no archive"],
)
def test_an_archive_that_is_not_whole(server, tmp_path, monkeypatch, content, words):
    publish(monkeypatch, server, content)
    assert words in fail(tmp_path)
    assert visible(tmp_path) == ["102flowers.tgz"]


def test_one_download_at_a_time(server, tmp_path):
    with lock_folder(tmp_path, []):
        with pytest.raises(InputError, match=f"another train.py is at work in {tmp_path}"):
            download("flowers", tmp_path)
    assert server.requests == []


# --- Interruptions --------------------------------------------------------------------


def test_unpacking_that_is_interrupted_starts_again(server, tmp_path, monkeypatch):
    write, written = Path.write_bytes, []

    def interrupt(path, content):
        written.append(path)
        if len(written) == 20:
            raise KeyboardInterrupt
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download("flowers", tmp_path)
    assert visible(tmp_path) == ["102flowers.tgz"]
    download("flowers", tmp_path)
    require_flowers(tmp_path)
    assert len(server.requests) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from images import datasets as known_data
from images.download import download
name, moment, folder, size, md5 = sys.argv[1:]
owner = {"replace": os, "write_bytes": Path}[name]
function, calls = getattr(owner, name), []
def kill(*arguments):
    calls.append(1)
    if len(calls) == int(moment):
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments)
setattr(owner, name, kill)
known_data.FLOWER_RUNS = RUNS
known_data.KNOWN_DATA_SETS["flowers"] = known_data.KNOWN_DATA_SETS["flowers"]._replace(
    url="http://127.0.0.1:9/102flowers.tgz", size=int(size), md5=md5, photographs=COUNT)
download("flowers", folder)
""".replace("RUNS\n", f"{RUNS}\n").replace("COUNT", str(COUNT))


@pytest.mark.parametrize(
    ("function", "moment"),
    [("write_bytes", 20), *(("replace", moment) for moment in range(1, 6))],
)
def test_after_sigkill_the_same_command_starts_cleanly(server, tmp_path, function, moment):
    """Killed while it unpacks, and before each renaming: archive, folder, test, valid, train."""
    (tmp_path / "102flowers.tgz.part").write_bytes(FLOWERS)
    md5 = hashlib.md5(FLOWERS).hexdigest()
    process = subprocess.run(
        [sys.executable, "-c", KILLED, function, str(moment), tmp_path, str(len(FLOWERS)), md5],
        cwd=ROOT,
        timeout=60,
    )
    assert process.returncode == -signal.SIGKILL
    assert not has_train(tmp_path)
    download("flowers", tmp_path)
    require_flowers(tmp_path)
    assert server.requests == []


# --- From the command line ------------------------------------------------------------


def test_train_py_downloads_what_is_not_there(run_script, server, tmp_path):
    folder = tmp_path / "flowers"
    run = run_script("train", folder, "--download", "flowers", "--check_data", "files")
    assert run.code == 0
    assert run.out.splitlines()[2].split() == ["train", "32", "2", "16"]
    assert run.out.startswith(f"putting flowers into {folder}, from 102flowers.tgz if")
    require_flowers(folder)
    assert len(server.requests) == 1
    again = run_script("train", folder, "--download", "flowers", "--check_data", "files")
    assert "putting flowers" not in again.out
    assert len(server.requests) == 1


@pytest.mark.slow
def test_train_py_trains_on_what_it_has_downloaded(run_script, server, tmp_path):
    folder = tmp_path / "flowers"
    small = ["--arch", "cnn", "--image_size", 32, "--epochs", 1, "--save_dir", folder / "run"]
    run = run_script("train", folder, "--download", "flowers", *small)
    assert run.code == 0
    assert "32 train, 4 valid, 4 test photographs" in run.out


def test_train_py_says_in_one_sentence_what_went_wrong(run_script, server, tmp_path):
    server.status = 404
    run = run_script("train", tmp_path, "--download", "flowers", "--check_data", "files")
    assert run.code == 2
    assert len(run.out.splitlines()) == 1  # what it is about to do
    assert len(run.err.splitlines()) == 1
    assert "cannot be downloaded (HTTP Error 404: Not Found); try" in run.err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--arch", "efficentnet", "did you mean"),
        ("--category_names", "nowhere.json", "nowhere.json"),
        ("--save_dir", "train.py", "train.py cannot be written to"),
    ],
)
def test_what_is_mistyped_need_not_wait(
    run_script, server, tmp_path, monkeypatch, option, value, words
):
    monkeypatch.chdir(ROOT)
    run = run_script("train", tmp_path / "flowers", "--download", "flowers", option, value)
    assert run.code == 2
    assert words in run.err
    assert server.requests == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--demo", "--download", "flowers"], "leave --download out"),
        (["--download", "flowers"], "DATA_DIR is missing"),
        (["x", "--download", "roses"], "invalid choice: 'roses'"),
    ],
)
def test_mistakes_of_the_command_line(run_script, arguments, words):
    run = run_script("train", *arguments)
    assert run.code == 2
    assert words in run.err.splitlines()[-1]
