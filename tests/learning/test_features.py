"""features.bin: a cache in a run's folder that may save time and never changes a result."""

import errno
import shutil

import pytest

from formats.pth import read_archive
from images.drawn import draw_data


@pytest.fixture
def data(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / "data")


@pytest.fixture
def head_alone(data, cnn):
    """The arguments of a run that trains the head alone, on the body of a checkpoint."""
    options = ["--arch", "cnn", "--image_size", 32, "--epochs", 0]
    return ["train", data, *options, "--weights", cnn / "checkpoint.pth", "--save_dir"]


@pytest.fixture
def ran(run_script, head_alone, tmp_path):
    assert run_script(*head_alone, tmp_path / "run").code == 0
    return tmp_path / "run"


def head_of(folder) -> list:
    return read_archive(folder / "checkpoint.pth")["state_dict"]["head.weight"].tolist()


def test_a_damaged_file_costs_its_own_photographs_only(run_script, data, ran, head_alone, tmp_path):
    whole = (ran / "features.bin").read_bytes()
    row = (len(whole) - 64) // 80  # of 80 photographs
    draw_data(tmp_path / "more", train=2, valid=0, test=0, kinds=4)
    for path in (tmp_path / "more" / "train").glob("*/*"):  # other files than those of `drawn`
        shutil.copy(path, data / "train" / path.parent.name / f"more {path.name}")
        with open(data / "train" / path.parent.name / f"more {path.name}", "ab") as file:
            file.write(b"another")
    assert run_script(*head_alone, tmp_path / "scratch").code == 0
    flipped = bytearray(whole)
    flipped[64 + 3 * row + 20] ^= 1
    for content, missing in (
        (whole, 8),
        (whole[:-5], 9),  # the last row of a killed run
        (whole + b"half a row", 8),
        (bytes(flipped), 9),
        (bytes([whole[0], *whole[1:40], whole[40] ^ 1, *whole[41:]]), 88),  # another network's
        (b"?" * 1000, 88),
        (b"", 88),
    ):
        folder = tmp_path / f"{missing} of {len(content)}"
        shutil.copytree(ran, folder, dirs_exist_ok=True)
        (folder / "features.bin").write_bytes(content)
        run = run_script("train", data, "--update", "--save_dir", folder)
        assert run.code == 0
        assert f"features: those of {missing} of 88 photographs have to be computed\n" in run.out
        assert head_of(folder) == head_of(tmp_path / "scratch")


def test_another_body_and_stale_photographs_leave_the_file(
    run_script, data, ran, head_alone, tmp_path
):
    size = (ran / "features.bin").stat().st_size
    for path in data.glob("*/*/*"):
        if path.name > "drawn_00002.jpg":
            path.unlink()
    assert run_script("train", data, "--update", "--save_dir", ran).code == 0
    assert (ran / "features.bin").stat().st_size < size / 2
    other = [*head_alone[:-1], "--image_size", 48, "--save_dir"]
    for folder in (ran, tmp_path / "fresh"):
        assert run_script(*other, folder).code == 0
    assert head_of(ran) == head_of(tmp_path / "fresh")


def test_a_full_disk_leaves_the_result_as_it_is(run_script, ran, head_alone, tmp_path, monkeypatch):
    def fill_the_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("learning.features.FeatureCache.append", fill_the_disk)
    run = run_script(*head_alone, tmp_path / "full")
    assert run.code == 0
    assert run.err.count("features are no longer kept for an --update") == 1
    assert head_of(tmp_path / "full") == head_of(ran)
