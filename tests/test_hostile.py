"""Files that nobody vouches for: damaged, huge, endless, or made to do harm."""

import functools
import io
import os
import pickle
import resource
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from archives import Call, rezipped, saved
from conftest import save_small
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from formats.pth import read_archive
from images.decode import ORIENTATION
from images.folders import find_photographs
from network.checkpoint import FORMAT_VERSION

FEW = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MANY = settings(FEW, max_examples=500)


def with_examples(check, examples):
    """Make a test of a function that takes some fixtures and hypothesis's `data`."""
    return examples(given(st.data())(check))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small checkpoint."""
    path = tmp_path_factory.mktemp("small") / "checkpoint.pth"
    save_small(path, ["1", "2", "rose"], ["daisy", "poppy", "rose"])
    return path


@st.composite
def damaged(draw, whole: bytes) -> bytes:
    """Flip bits of a file, cut it off, or take out, repeat or overwrite a piece of it."""
    if draw(st.booleans()):
        content = bytearray(whole)
        for _ in range(draw(st.integers(1, 8))):
            content[draw(st.integers(0, len(whole) - 1))] ^= 1 << draw(st.integers(0, 7))
        return bytes(content)
    start, end = sorted(draw(st.integers(0, len(whole))) for _ in range(2))
    piece = whole[start:end]
    return draw(
        st.sampled_from(
            [
                whole[:start],
                whole[:start] + whole[end:],
                whole[:end] + piece + whole[end:],
                whole[:start] + bytes(len(piece)) + whole[end:],
            ]
        )
    )


# --- Checkpoints ----------------------------------------------------------------------


def check_a_damaged_checkpoint(small, photo, tmp_path, run_script, data):
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(data.draw(damaged(small.read_bytes())))
    run = run_script("predict", photo, path)
    event(f"exit code {run.code}")  # pytest --hypothesis-show-statistics
    if run.code == 0:  # what was damaged says nothing
        assert run.out == run_script("predict", photo, small).out
    else:
        assert run.code == 2
        assert run.out == ""
        assert run.err.count("\n") == 1
        assert str(path) in run.err


test_a_damaged_checkpoint_names_nothing_or_the_same = with_examples(check_a_damaged_checkpoint, FEW)
test_a_damaged_checkpoint_names_nothing_or_the_same_often = pytest.mark.slow(
    with_examples(check_a_damaged_checkpoint, MANY)
)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(
        [
            0,
            1,
            -1,
            10**9,
            "cnn",
            "resnet18",
            "\x1b[31m",
            "x" * 1000,
            1e308,
            torch.ones(3),
            torch.ones(2, 2),
            torch.full((3, 3), torch.nan),
            torch.zeros(0),
            torch.ones(1, dtype=torch.int64),
        ]
    ),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(value, path=()):
    """List the places in nested dicts and lists."""
    items = (
        value.items()
        if isinstance(value, dict)
        else (enumerate(value) if isinstance(value, list) else ())
    )
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def check_a_checkpoint_of_other_parts(small, photo, tmp_path, run_script, data):
    entries = read_archive(small)
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from([*places(entries)]))
        parent = entries
        for key in way:
            parent = parent[key]
        what = data.draw(st.sampled_from(["remove", "swap", "replace", "replace"]))
        if what == "remove":
            del parent[last]
        elif what == "swap":
            other = data.draw(
                st.sampled_from([*range(len(parent))] if isinstance(parent, list) else [*parent])
            )
            parent[last], parent[other] = parent[other], parent[last]
        else:
            parent[last] = data.draw(VALUES)
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(saved(entries))
    run = run_script("predict", photo, path)
    event(f"exit code {run.code}")  # pytest --hypothesis-show-statistics
    assert run.code in (0, 2)
    assert "\x1b" not in run.out + run.err
    if run.code == 2:
        assert run.out == ""
        assert run.err.count("\n") == 1
    assert run_script("predict", path, "--info").code == run.code


test_a_checkpoint_of_other_parts_is_one_sentence = with_examples(
    check_a_checkpoint_of_other_parts, FEW
)
test_a_checkpoint_of_other_parts_is_one_sentence_often = pytest.mark.slow(
    with_examples(check_a_checkpoint_of_other_parts, MANY)
)


def _deep(depth: int):
    value = ()
    for _ in range(depth):
        value = (value, value)
    return value


def _with(small, **entries) -> bytes:
    return saved({**read_archive(small), **entries})


def _pickled(small, content: bytes) -> bytes:
    return rezipped(small.read_bytes(), data_pkl=content)


@contextmanager
def takes_little_memory(limit: int = 300_000) -> Iterator[None]:
    """See that the block takes no more than so many KiB at a time."""

    def status(key: str) -> int:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(f"{key}:"))

    try:  # Linux can forget the highest mark, which what made the file may have left
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        before = status("VmRSS")
        yield
        taken = status("VmHWM") - before
    except OSError:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        yield
        taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert taken < limit


BOMBS = {
    "an allocation": lambda small: saved(Call(torch.FloatStorage, 10**9)),
    "an array of bytes": lambda small: saved(Call(bytearray, 3 * 10**9)),
    "a tensor repeated by its strides": lambda small: _with(
        small, figures={"x": torch.zeros(1).expand(1 << 20, 1 << 20)}
    ),
    "compressed zeros": lambda small: rezipped(
        saved(torch.zeros(75_000_000)), zipfile.ZIP_DEFLATED
    ),
    "a name for ever": lambda small: _with(small, names=["x", "y", _deep(60)]),
    "a string of gigabytes": lambda small: _pickled(
        small, b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"x."
    ),
    "an endless pickle": lambda small: _pickled(small, b"\x80\x02" + b"]" * 5_000_000),
    "a wide layer": lambda small: _with(
        small, head={"in_features": 10**9, "hidden_units": [10**9], "depths": []}
    ),
    "many layers": lambda small: _with(
        small, head={"in_features": 2048, "hidden_units": [1] * 1000, "depths": []}
    ),
    "huge pictures": lambda small: _with(
        small,
        preprocessing={
            "resize": 10**6,
            "crop": 10**6,
            "mean": [0.0] * 3,
            "std": [1.0] * 3,
            "interpolation": "bicubic",
        },
    ),
    "half a million categories": lambda small: _with(
        small, categories=["x"] * 500_000, names=["x"] * 500_000
    ),
    "an endless number": lambda small: _pickled(
        small, b"\x80\x02\x8b" + struct.pack("<i", 3_000_000) + b"\x7f" * 3_000_000 + b"."
    ),
}


LARGE = {"compressed zeros", "half a million categories"}  # which take seconds to make


@pytest.mark.parametrize(
    "bomb",
    [pytest.param(name, marks=pytest.mark.slow if name in LARGE else []) for name in BOMBS],
)
def test_a_small_file_takes_no_gigabytes_and_no_minutes(small, photo, tmp_path, run_script, bomb):
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(BOMBS[bomb](small))
    with takes_little_memory():
        run = run_script("predict", photo, path)
    assert run.code == 2
    assert run.out == ""
    assert run.err.count("\n") == 1


def test_no_file_runs_a_command(small, drawn, photo, trained, tmp_path, run_script):
    marker = tmp_path / "marker"
    evil = Call(os.system, f"touch {marker}")
    buffer = io.BytesIO()
    torch.save(evil, buffer, _use_new_zipfile_serialization=False)
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    (run_folder / "checkpoint.pth").write_bytes((trained / "checkpoint.pth").read_bytes())
    for content in (
        saved(evil),
        saved({"format_version": FORMAT_VERSION, "state_dict": evil, "run": evil}),
        pickle.dumps(evil),
        buffer.getvalue(),
    ):
        path = tmp_path / "evil.pth"
        path.write_bytes(content)
        (tmp_path / "evil.jpg").write_bytes(content)
        (run_folder / "last.pth").write_bytes(content)
        note = run_folder / ".activations.0.filled.tmp"
        note.write_bytes(content)
        for code, arguments in [
            (2, ["predict", photo, path]),
            (2, ["predict", path, "--info"]),
            (1, ["predict", tmp_path / "evil.jpg", small]),
            (2, ["predict", photo, small, "--category_names", path]),
            (2, ["train", drawn, "--weights", path, "--save_dir", tmp_path]),
            (2, ["train", drawn, "--category_names", path, "--save_dir", tmp_path]),
            (2, ["train", drawn, "--resume", "--save_dir", run_folder]),
        ]:
            run = run_script(*arguments)
            assert run.code == code
            assert run.out == ""
            assert "Traceback" not in run.err
    assert not marker.exists()
    pickle.loads(pickle.dumps(evil))  # this would do it
    assert marker.exists()


# --- Photographs ----------------------------------------------------------------------


@functools.cache
def photographs() -> dict[str, bytes]:
    """The same picture in every format, by its name, and one that is turned."""
    image = Image.linear_gradient("L").resize((50, 40)).convert("RGB")
    image.putpixel((3, 3), (255, 0, 0))
    made = {}
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        buffer = io.BytesIO()
        try:
            image.save(buffer, kind)
        except (KeyError, OSError):  # AVIF is new in Pillow
            continue
        made[kind] = buffer.getvalue()
    buffer = io.BytesIO()
    exif = image.getexif()
    exif[ORIENTATION] = 6
    image.save(buffer, "JPEG", exif=exif, progressive=True)
    return {**made, "turned": buffer.getvalue()}


def check_a_damaged_photograph(small, tmp_path, run_script, data):
    whole = photographs()
    path = tmp_path / "a.jpg"
    path.write_bytes(data.draw(damaged(whole[data.draw(st.sampled_from([*whole]))])))
    run = run_script("predict", path, small)
    event(f"exit code {run.code}")  # pytest --hypothesis-show-statistics
    if run.code == 0:
        assert run.out.count("%") == 3
        assert run.err == ""
    else:
        assert run.code == 1
        assert run.out == ""
        assert run.err.startswith("predict.py: ")
        assert run.err.count("\n") == 1
        assert "\x1b" not in run.err


test_a_damaged_photograph_is_named_or_one_sentence = with_examples(check_a_damaged_photograph, FEW)
test_a_damaged_photograph_is_named_or_one_sentence_often = pytest.mark.slow(
    with_examples(check_a_damaged_photograph, MANY)
)


def png(width: int, height: int) -> bytes:
    """Claim a size, and give nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(50_000, 50_000), (12_000, 12_000), (2**31 - 1, 1), (1, 10**8)])
def test_a_decompression_bomb_is_one_sentence(small, tmp_path, run_script, size):
    (tmp_path / "a.png").write_bytes(png(*size))
    with takes_little_memory():
        run = run_script("predict", tmp_path / "a.png", small)
    assert run.code == 1
    assert "a.png cannot be read: " in run.err


def test_pipes_and_devices_keep_nobody_waiting(
    small, drawn, photo, checkpoint, tmp_path, run_script
):
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    os.mkfifo(run_folder / "last.pth")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    cases = [
        (1, ["predict", pipe, small]),
        (1, ["predict", tmp_path / "zero.jpg", small]),
        (2, ["predict", photo, photo.parent / ".." / ".." / "pipe"]),
        (2, ["predict", photo, small, "--category_names", pipe]),
        (2, ["train", drawn, "--category_names", pipe, "--save_dir", tmp_path]),
        (2, ["train", drawn, "--weights", pipe, "--save_dir", tmp_path]),
        (2, ["train", drawn, "--resume", "--save_dir", run_folder]),
    ]
    os.mkfifo(drawn / "pipe")
    runs = []
    try:
        worker = threading.Thread(
            target=lambda: runs.extend(run_script(*arguments) for _, arguments in cases),
            daemon=True,
        )
        worker.start()
        worker.join(60)
    finally:
        (drawn / "pipe").unlink()
    assert [run.code for run in runs] == [code for code, _ in cases]
    assert all(run.out == "" for run in runs)
    assert all("Traceback" not in run.err for run in runs)
    # In a folder they are no photographs.
    assert find_photographs(tmp_path) == []


def test_terminal_escapes_are_not_passed_on(small, photo, tmp_path, run_script):
    odd = tmp_path / "\x1b[31mred\x07.jpg"
    for content in (b"hello", photo.read_bytes()):
        odd.write_bytes(content)
        for arguments in (
            [odd, photo, small],
            [photo, small, "--category_names", odd],
            [odd, small, "--no_such\x1b[31m"],
            [photo, odd.with_suffix(".pth")],
        ):
            run = run_script("predict", *arguments)
            assert not {"\x1b", "\x07"} & {*run.out, *run.err}


def test_names_files_are_small(small, photo, tmp_path, run_script):
    names = tmp_path / "names.json"
    names.write_text("[" * 100_000)
    assert run_script("predict", photo, small, "--category_names", names).code == 2
    with open(names, "wb") as file:
        file.truncate(10**12)  # of which the disk holds nothing
    assert run_script("predict", photo, small, "--category_names", names).code == 2
