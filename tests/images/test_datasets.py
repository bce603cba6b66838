"""Known data sets, downloaded from a server on this machine, unpacked and divided."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from archives import COUNT, FLOWERS, PHOTOGRAPHS, RUNS, tar_of
from conftest import ROOT, file_size_limit
from file_server import FileServer
from PIL import Image

from images import datasets
from images.datasets import CIFAR10_CATEGORIES, FLOWER_RUNS, KNOWN_DATA_SETS, download
from images.folders import has_train
from running.errors import FlowersError, InputError, RunError


@pytest.fixture
def server(monkeypatch):
    """A server of forty flowers, which `download("flowers", ...)` asks."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(datasets, "FLOWER_RUNS", RUNS)
    with FileServer(FLOWERS) as server:
        publish(monkeypatch, server, FLOWERS)
        yield server


def publish(monkeypatch, server: FileServer, content: bytes) -> None:
    server.content = content
    changes = {"url": server.url("102flowers.tgz"), "photographs": COUNT}
    changes["checksum"] = "md5:" + hashlib.md5(content).hexdigest()
    known = KNOWN_DATA_SETS["flowers"]._replace(**changes)
    monkeypatch.setitem(KNOWN_DATA_SETS, "flowers", known)


def require_flowers(folder: Path) -> None:
    """Assert that the forty photographs are there, each once, byte for byte, by the rule."""
    assert sorted(os.listdir(folder)) == ["102flowers.tgz", "test", "train", "valid"]
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
    assert not [name for name in os.listdir(folder) if name.startswith((".", "t", "v"))]
    return str(caught.value)


def read(name: str, members: dict[str, bytes]) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(tar_of(members)), mode="r|gz") as tar:
        return dict(KNOWN_DATA_SETS[name].read(tar))


def test_oxfords_photographs_have_the_papers_categories_in_all_splits():
    paths = read("flowers", {f"jpg/image_{n:05}.jpg": b"" for n in range(1, 8190)})
    assert len(paths) == 8189
    assert {category for _, category in FLOWER_RUNS} == {*range(103)}
    per_category = Counter(path.split("/")[1] for path in paths)
    each = Counter(path.rsplit("/", 1)[0] for path in paths)
    for category, count in per_category.items():
        assert each[f"valid/{category}"] == each[f"test/{category}"] == (count + 5) // 10
    assert [per_category[category] for category in ("1", "51", "77")] == [40, 258, 251]
    for number, category in ((1, 77), (6734, 1), (6773, 1), (6774, 21), (8189, 62)):
        assert any(path.endswith(f"/{category}/image_{number:05}.jpg") for path in paths)


def test_cifar10_has_its_layout_and_pixels():
    records = np.random.default_rng(0).integers(0, 256, (6, 20, 3073), np.uint8)
    records[:, :, 0] = np.arange(20) % 10
    names = ["test_batch.bin", *(f"data_batch_{i}.bin" for i in range(5, 0, -1)), "readme.html"]
    contents = [*(batch.tobytes() for batch in records[::-1]), b"?"]
    found = read("cifar10", {f"cifar-10-batches-bin/{n}": c for n, c in zip(names, contents)})
    assert [CIFAR10_CATEGORIES[i] for i in (0, 3, 9)] == ["airplane", "cat", "truck"]
    assert Counter(tuple(path.split("/")[:2]) for path in found) == {
        (split, category): count
        for category in CIFAR10_CATEGORIES
        for split, count in (("train", 9), ("valid", 1), ("test", 2))
    }
    for path, content in found.items():
        _, category, file = path.split("/")
        split, number = file.removesuffix(".png").split("_")
        record = (records[5] if split == "test" else records[:5].reshape(-1, 3073))[int(number) - 1]
        assert category == CIFAR10_CATEGORIES[record[0]]
        pixels = np.asarray(Image.open(io.BytesIO(content)))
        assert (pixels.transpose(2, 0, 1).ravel() == record[1:]).all()


def test_an_archive_in_the_folder_is_verified_and_used(server, tmp_path):
    archive = tmp_path / "102flowers.tgz"
    archive.write_bytes(FLOWERS[:-1])
    assert f"{archive} is damaged or another file" in fail(tmp_path)
    assert archive.read_bytes() == FLOWERS[:-1]
    archive.write_bytes(FLOWERS)
    (tmp_path / "roses").mkdir()
    (tmp_path / "roses" / "a.jpg").touch()
    assert "has photographs, but no folder train" in fail(tmp_path)  # they are not mixed
    shutil.rmtree(tmp_path / "roses")
    download("flowers", tmp_path)
    require_flowers(tmp_path)
    assert server.requests == []


def test_a_full_disk_keeps_what_was_downloaded(server, tmp_path, monkeypatch):
    monkeypatch.setattr("running.download.CHUNK", 2**10)
    with file_size_limit(50_000):
        assert f"flowers cannot be written into {tmp_path}: File too" in fail(tmp_path, RunError)
    assert (tmp_path / "102flowers.tgz.part").stat().st_size == 50_000
    download("flowers", tmp_path)
    require_flowers(tmp_path)
    assert server.requests[-1] == ("bytes=50000-", len(FLOWERS) - 50_000)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tar_of(dict(list(PHOTOGRAPHS.items())[:-2])), "lacks 2 files, among them jpg/image_00039"),
        (FLOWERS[:5000], "cannot be unpacked: "),
    ],
)
def test_an_archive_that_is_not_whole_makes_no_data_set(
    server, tmp_path, monkeypatch, content, words
):
    publish(monkeypatch, server, content)
    assert words in fail(tmp_path)
    assert os.listdir(tmp_path) == ["102flowers.tgz"]


KILLED = f"""
import os, signal, sys
from pathlib import Path
from images import datasets
name, moment, folder, checksum = sys.argv[1:]
owner = os if name == "replace" else Path
function, calls = getattr(owner, name), []
def kill(*arguments):
    calls.append(1)
    if len(calls) == int(moment):
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments)
setattr(owner, name, kill)
datasets.FLOWER_RUNS = {RUNS}
datasets.KNOWN_DATA_SETS["flowers"] = datasets.KNOWN_DATA_SETS["flowers"]._replace(
    url="http://127.0.0.1:9/102flowers.tgz", checksum=checksum, photographs={COUNT})
datasets.download("flowers", folder)
"""


@pytest.mark.parametrize(
    ("function", "moment"),
    [("write_bytes", 20), ("rename", 1), *(("replace", moment) for moment in range(1, 5))],
)
def test_after_sigkill_the_same_command_works(server, tmp_path, function, moment):
    """Killed while it unpacks, before the folder appears, and before each of its splits does."""
    (tmp_path / "102flowers.tgz.part").write_bytes(FLOWERS)
    checksum = KNOWN_DATA_SETS["flowers"].checksum
    command = [sys.executable, "-c", KILLED, function, str(moment), tmp_path, checksum]
    assert subprocess.run(command, cwd=ROOT, timeout=60).returncode == -signal.SIGKILL
    assert not has_train(tmp_path)
    download("flowers", tmp_path)
    require_flowers(tmp_path)
    assert server.requests == []


def test_train_py_downloads_only_what_is_not_there_and_names_a_mistake_first(
    run_script, server, tmp_path
):
    folder = tmp_path / "flowers"
    command = ["train", folder, "--download", "flowers"]
    for mistake in (["--arch", "efficentnet"], ["--category_names", "nowhere.json"]):
        run = run_script(*command, *mistake)
        assert run.code == 2
        assert mistake[1] in run.err
    assert server.requests == []
    run = run_script(*command, "--check_data", "files")
    assert run.code == 0
    assert run.out.splitlines()[2].split() == ["train", "32", "2", "16"]
    require_flowers(folder)
    assert "putting flowers" not in run_script(*command, "--check_data", "files").out
    assert len(server.requests) == 1
