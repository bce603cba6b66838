"""Files of torch.save: plain data and tensors come back, and nothing else is believed."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from contextlib import suppress

import pytest
import torch
from archives import STORAGE, Call, hiding, refuse, rezipped, saved, with_pickle
from conftest import file_size_limit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats.pth import read_archive, write_archive
from running.errors import InputError, RunError

ENTRIES = {
    "names": ["daisy", "Gänseblume", "\x1b[31m", ""],
    "numbers": [0, 1, -1, 255, 65536, 2**31, -(2**63), 2**70, 0.5, -1e308],
    "others": [None, True, False, (), (1,), (1, 2, 3, 4), [(1, 2)] * 2, [], {}],
    "keys": {0: "zero", 300: {"deep": [[(), {"er": 1}]]}},
    "tensors": [
        torch.arange(12.0).view(3, 4).T,
        torch.arange(12)[3:9:2],
        torch.ones(2, 3, dtype=torch.float16),
        torch.arange(5, dtype=torch.uint8),
        torch.tensor(7.0),
        torch.zeros(3, 0),
    ],
}


def require_same(ours, theirs) -> None:
    """Assert that values are the same to the last bit."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, dict):
        assert [*ours] == [*theirs]
        ours, theirs = [*ours.values()], [*theirs.values()]
    if isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs):
            require_same(one, other)
    elif torch.is_tensor(theirs):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.numpy().tobytes() == theirs.numpy().tobytes()
    else:
        assert ours == theirs


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.pth"


# --- What is read and written -----------------------------------------------------------


@pytest.mark.parametrize("as_zip", [True, False])
def test_what_training_scripts_save_is_read(path, as_zip):
    """A state dict with an optimizer's state, whose groups share a tuple, of any PyTorch."""
    model = torch.nn.Linear(2, 2)
    groups = [{"params": [p], "lr": 1.0, "betas": (0.9, 0.999)} for p in model.parameters()]
    optimizer = torch.optim.AdamW(groups)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    states = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    torch.save(states, path, _use_new_zipfile_serialization=as_zip)
    read = read_archive(path, as_weights=True)
    require_same(read["model"], OrderedDict(model.state_dict()))
    assert read["optimizer"]["param_groups"] == optimizer.state_dict()["param_groups"]


def test_a_full_disk_leaves_the_earlier_file(path):
    write_archive(path, {"a": 1})
    with file_size_limit(10_000), pytest.raises(RunError, match="a.pth cannot be written"):
        write_archive(path, {"a": torch.ones(100_000)})
    assert read_archive(path) == {"a": 1}
    assert os.listdir(path.parent) == ["a.pth"]


# --- Damaged files ----------------------------------------------------------------------


def test_what_is_no_archive_is_one_sentence(path):
    with pytest.raises(InputError, match="a.pth: no such file"):
        read_archive(path)
    whole = saved(ENTRIES)
    for content in (b"", b"<!doctype html>", whole[:-1000], pickle.dumps(ENTRIES), b"PK\x05\x06"):
        refuse(path, content)
    os.remove(path)
    os.mkfifo(path)
    for special in (path, "/dev/zero"):
        with pytest.raises(InputError, match="is a pipe or a device, not a file"):
            read_archive(special)


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_a_flipped_bit_never_passes_for_a_value(path, data):
    value = {"a": torch.arange(3.0), "b": ["daisy", 1, 2.5], "c": {"d": torch.ones(2)}}
    whole = saved(value)
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    found = value
    with suppress(InputError):
        found = read_archive(path)
    require_same(found, value)


def with_twins(whole: bytes, name: str) -> bytes:
    """Add a second pickle, which another reader might take."""
    file = io.BytesIO(whole)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(name, pickle.dumps(1, 2))
    return file.getvalue()


@pytest.mark.parametrize("name", ["b/data.pkl", "archive/DATA.PKL", "b/c"])
def test_a_file_that_can_be_read_in_two_ways_is_refused(path, name):
    refuse(path, with_twins(saved(1), name))


def test_members_that_overlap_are_refused(path):
    whole = bytearray(rezipped(saved(ENTRIES)))
    with zipfile.ZipFile(io.BytesIO(whole)) as parts:
        largest = max(parts.infolist(), key=lambda member: member.file_size)
    # In the directory at the end every member is told to be where the largest is.
    place = whole.find(b"PK\x01\x02")
    while place >= 0:
        whole[place + 16 : place + 28] = struct.pack(
            "<III", largest.CRC, largest.file_size, largest.file_size
        )
        whole[place + 42 : place + 46] = struct.pack("<I", largest.header_offset)
        place = whole.find(b"PK\x01\x02", place + 4)
    assert "overlap" in str(refuse(path, bytes(whole)))


def test_compressed_members_are_refused_even_if_they_hide_it(path):
    content = rezipped(saved(torch.zeros(100_000)), zipfile.ZIP_DEFLATED)
    for each in (content, hiding(content)):
        assert "compressed" in str(refuse(path, each))


# --- Pickles that do other things -------------------------------------------------------


def deep(depth: int, value=()) -> tuple:
    """A tuple whose parts are shared: small, and hashing it takes 2 ** depth steps."""
    for _ in range(depth):
        value = (value, value)
    return value


def wide(count: int) -> tuple:
    """A tuple of many references to one of many."""
    return ((tuple(range(count)),) * count,)


def pickled(value) -> bytes:
    return pickle.dumps(value, 2).removeprefix(b"\x80\x02").removesuffix(b".")


def key(value) -> bytes:
    """Pickle a dict of one key, which takes for ever to make."""
    return b"\x80\x02}" + pickled(value) + b"K\x01s."


ENDLESS = {
    "a key": lambda: key(deep(60)),
    "a key of short tuples": lambda: key(deep(60, (1, 2))),
    "a wide key": lambda: key(wide(100_000)),
    "a name of numbers": lambda: (
        b"\x80\x02" + STORAGE.replace(b"X\x01\0\0\x000", pickled(deep(60))) + b"."
    ),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", ENDLESS)
def test_no_small_file_is_hashed_for_ever(path, what):
    refuse(path, with_pickle(ENDLESS[what]()))


@pytest.mark.parametrize("function", [bytearray, torch.FloatStorage])
@pytest.mark.parametrize("as_zip", [True, False])
def test_allocations_that_pytorch_would_permit_are_refused(path, function, as_zip):
    torch.save(Call(function, 10**9), path, _use_new_zipfile_serialization=as_zip)
    refuse(path, path.read_bytes())


# --- Tensors within their numbers -------------------------------------------------------


def test_a_tensor_of_other_numbers_is_refused(path):
    whole = saved(torch.ones(3))
    for numbers in (b"", bytes(8), bytes(16)):
        refuse(path, rezipped(whole, **{"data/0": numbers}))


def tensor(offset: bytes, size: bytes, stride: bytes) -> bytes:
    """Pickle a tensor of three numbers."""
    shape = offset + size + stride + b"\x89ccollections\nOrderedDict\n)R"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + shape + b"tR."


def test_a_tensor_outside_of_its_numbers_is_refused(path):
    path.write_bytes(with_pickle(tensor(b"K\x01", b"K\x02\x85", b"K\x01\x85")))
    assert read_archive(path).tolist() == [1, 1]
    for shape in (
        (b"K\x02", b"K\x02\x85", b"K\x01\x85"),  # ends beyond
        (b"K\x00", b"K\x02\x85", b"K\x03\x85"),  # strides beyond
        (b"K\x03", b")", b")"),  # starts beyond
        (b"J\xff\xff\xff\xff", b"K\x02\x85", b"K\x01\x85"),  # starts before
        (b"K\x02", b"K\x02\x85", b"J\xff\xff\xff\xff\x85"),  # goes backwards
        (b"K\x00", b"K\x04\x85", b"K\x00\x85"),  # repeats numbers
        (b"K\x00", b"J\xff\xff\xff\x7f\x85", b"K\x00\x85"),
        (b"K\x00", b"N", b"N"),
    ):
        refuse(path, with_pickle(tensor(*shape)))
