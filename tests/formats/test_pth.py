"""Files of plain data and tensors: read, written, and refused where they are damaged."""

import io
import os
import pickle
import pickletools
import struct
import sys
import zipfile
from collections import OrderedDict
from contextlib import suppress

import pytest
import torch
from archives import STORAGE, hiding, pickled_in, refuse, rezipped, saved, with_pickle
from conftest import ROOT, file_size_limit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from formats.pth import OPCODES, read_archive, state_of, write_archive
from running.errors import InputError, RunError

ENTRIES = {
    "names": ["daisy", "Gänseblume", "\x1b[31m", ""],
    "numbers": [0, 1, -1, 255, 256, 65536, 2**31, -(2**63), 2**70, 0.5, -1e308],
    "others": [None, True, False, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}],
    "keys": {0: "zero", 300: {"deep": [[(), {"er": 1}]]}},
    "tensors": [
        torch.arange(12.0).view(3, 4),
        torch.arange(12.0).view(3, 4).T,
        torch.arange(12)[3:9:2],
        torch.ones(2, 3, dtype=torch.float16),
        torch.arange(5, dtype=torch.uint8),
        torch.tensor(7.0),
        torch.zeros(0),
        torch.zeros(3, 0),
    ],
}


def require_same(ours, theirs) -> None:
    """Assert that values are the same to the last bit."""
    assert type(ours) is (dict if isinstance(theirs, dict) else type(theirs))
    if isinstance(theirs, dict):
        assert [*ours] == [*theirs]
        ours, theirs = [*ours.values()], [*theirs.values()]
    if isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs):
            require_same(one, other)
    elif torch.is_tensor(theirs):
        assert (ours.dtype, ours.shape, ours.stride()) == (
            theirs.dtype,
            theirs.shape,
            theirs.stride(),
        )
        assert ours.numpy().tobytes() == theirs.numpy().tobytes()
    else:
        assert ours == theirs


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.pth"


# --- What is read ---------------------------------------------------------------------


def test_the_networks_of_this_project_are_read_as_pytorch_reads_them():
    paths = sorted(ROOT.glob("assets/*.pth"))
    assert "flowers102.pth" in [path.name for path in paths]
    for path in paths:
        require_same(read_archive(path), torch.load(path, weights_only=True))


def test_plain_data_and_tensors_come_back(path):
    write_archive(path, ENTRIES)
    require_same(read_archive(path), ENTRIES)
    require_same(read_archive(path), torch.load(path, weights_only=True))


def test_ordered_dicts_are_dicts(path):
    entries = OrderedDict(a=torch.ones(2), b=OrderedDict())
    path.write_bytes(saved(entries))
    require_same(read_archive(path), {"a": torch.ones(2), "b": {}})


def test_tensors_that_share_numbers_share_them_again(path):
    whole = torch.arange(6.0)
    write_archive(path, {"whole": whole, "part": whole[2:4], "again": whole})
    entries = read_archive(path)
    entries["whole"][2] = 9
    assert entries["part"].tolist() == [9, 3]
    assert entries["again"][2] == 9


def test_a_state_is_plain_and_on_the_cpu():
    state = state_of(nn.BatchNorm2d(2))
    assert type(state) is dict
    assert {*state} >= {"weight", "running_mean"}
    assert all(value.device.type == "cpu" for value in state.values())


def test_every_opcode_that_is_allowed_is_needed():
    # A key twice as long as a byte counts, and lists and dicts of one and of several items.
    many = {"names": [f"{i}" for i in range(300)] * 2, "one": {"a": [1]}}
    pickles = [*map(pickled_in, (saved({**ENTRIES, **many}), saved(OrderedDict(a=1))))]
    used = {opcode.name for each in pickles for opcode, _, _ in pickletools.genops(each)}
    assert used == OPCODES


# --- What is written ------------------------------------------------------------------


def test_a_full_disk_leaves_the_earlier_file(path):
    write_archive(path, {"a": 1})
    with file_size_limit(10_000), pytest.raises(RunError, match="a.pth cannot be written: File"):
        write_archive(path, {"a": torch.ones(100_000)})
    assert read_archive(path) == {"a": 1}
    assert os.listdir(path.parent) == ["a.pth"]


def test_ctrl_c_half_way_is_ctrl_c(path, monkeypatch):
    class Stops(io.BytesIO):
        def write(self, content):
            raise KeyboardInterrupt

    real = torch.save
    monkeypatch.setattr(torch, "save", lambda entries, _: real(entries, Stops()))
    with pytest.raises(KeyboardInterrupt):
        write_archive(path, {"a": torch.ones(100_000)})
    assert os.listdir(path.parent) == []


# --- Damaged and strange files --------------------------------------------------------


def test_what_is_no_archive_is_one_sentence(path):
    with pytest.raises(InputError, match="a.pth: no such checkpoint"):
        read_archive(path)
    whole = saved(ENTRIES)
    for content in (b"", b"<!doctype html>", whole[:-1000], pickle.dumps(ENTRIES), b"PK\x05\x06"):
        refuse(path, content)
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_archive(path.parent)


def test_pipes_and_devices_are_not_opened(path):
    os.mkfifo(path)
    for special in (path, "/dev/zero"):
        with pytest.raises(InputError, match="is a pipe or a device, not a file"):
            read_archive(special)


def test_every_flipped_byte_of_numbers_and_names_is_noticed(path):
    whole = saved({"a": torch.arange(3.0), "b": "daisy"})
    numbers, name = whole.index(struct.pack("<f", 2.0)), whole.index(b"daisy")
    for place in (*range(numbers, numbers + 4), *range(name, name + 5)):
        content = bytearray(whole)
        content[place] ^= 1
        refuse(path, content)


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_a_damaged_file_says_nothing_else(path, data):
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


def test_members_that_overlap_are_refused(path):
    whole = bytearray(rezipped(saved(ENTRIES)))
    with zipfile.ZipFile(io.BytesIO(whole)) as parts:
        largest = max(parts.infolist(), key=lambda member: member.file_size)
    # In the directory at the end every member is told to be where the largest is.
    sizes = struct.pack("<III", largest.CRC, largest.file_size, largest.file_size)
    place = whole.find(b"PK\x01\x02")
    while place >= 0:
        whole[place + 16 : place + 28] = sizes
        whole[place + 42 : place + 46] = struct.pack("<I", largest.header_offset)
        place = whole.find(b"PK\x01\x02", place + 4)
    assert "overlap" in str(refuse(path, whole))


def test_compressed_members_are_refused_even_if_they_hide_it(path):
    content = rezipped(saved(torch.zeros(100_000)), zipfile.ZIP_DEFLATED)
    for each in (content, hiding(content)):
        assert "compressed" in str(refuse(path, each))


def test_another_byte_order_is_refused(path):
    other = {"little": b"big", "big": b"little"}[sys.byteorder]
    assert "another kind of machine" in str(refuse(path, rezipped(saved(1), byteorder=other)))


def test_two_pickles_are_refused(path):
    path.write_bytes(saved(1))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("b/data.pkl", pickle.dumps(1, 2))
    refuse(path, path.read_bytes())


def test_a_tensor_of_other_numbers_is_refused(path):
    whole = saved(torch.ones(3))
    for numbers in (b"", bytes(8), bytes(16)):
        assert "another size" in str(refuse(path, rezipped(whole, **{"data/0": numbers})))


# --- Tensors within their numbers -----------------------------------------------------


def tensor(*shape: bytes, storage: bytes = STORAGE) -> bytes:
    """Pickle a tensor of three numbers: offset, size and stride are pickled, too."""
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"".join(shape) + b"tR."


def test_a_tensor_by_hand_is_read(path):
    path.write_bytes(with_pickle(tensor(b"K\x01", b"K\x02\x85", b"K\x01\x85")))
    assert read_archive(path).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (b"K\x02", b"K\x02\x85", b"K\x01\x85"),  # ends beyond
        (b"K\x00", b"K\x02\x85", b"K\x03\x85"),  # strides beyond
        (b"K\x03", b")", b")"),  # starts beyond
        (b"J\xff\xff\xff\xff", b"K\x02\x85", b"K\x01\x85"),  # starts before
        (b"K\x02", b"K\x02\x85", b"J\xff\xff\xff\xff\x85"),  # goes backwards
        (b"K\x00", b"K\x04\x85", b"K\x00\x85"),  # repeats numbers
        (b"K\x00", b"J\xff\xff\xff\x7f\x85", b"K\x00\x85"),
        (b"K\x00", b"(" + b"K\x01" * 9 + b"t", b"(" + b"K\x01" * 9 + b"t"),  # nine dimensions
        (b"K\x00", b"K\x02\x85", b"K\x01K\x01\x86"),  # more strides than sides
        (b"K\x00", b"\x88\x85", b"K\x01\x85"),  # a bool
        (b"G" + bytes(8), b"K\x02\x85", b"K\x01\x85"),  # a real number
        (b"K\x00", b"X\x01\0\0\0a", b"X\x01\0\0\0a"),  # a string
        (b"K\x00", b"}", b"}"),
        (b"K\x00", b"N", b"N"),
    ],
)
def test_a_tensor_outside_of_its_numbers_is_refused(path, offset, size, stride):
    refuse(path, with_pickle(tensor(offset, size, stride)))


@pytest.mark.parametrize(
    "storage",
    [
        STORAGE.replace(b"storage", b"another"),
        STORAGE.replace(b"FloatStorage", b"LongStorage"),  # of another size
        STORAGE.replace(b"ctorch\nFloatStorage\n", b"N"),
        STORAGE.replace(b"X\x01\0\0\x000", b"X\x01\0\0\x001"),  # of which there is none
        STORAGE.replace(b"X\x01\0\0\x000", b")"),  # a tuple for a name
        STORAGE.replace(b"K\x03", b"K\x02"),
        STORAGE.replace(b"K\x03", b"\x88"),
        STORAGE.replace(b"K\x03", b""),
        b"X\x05\0\0\0abcdeQ",
        b"]",
        b"N",
    ],
)
def test_other_numbers_are_refused(path, storage):
    refuse(path, with_pickle(tensor(b"K\x00", b"K\x02\x85", b"K\x01\x85", storage=storage)))


def test_numbers_of_two_kinds_are_refused(path):
    whole = saved([torch.ones(1), torch.ones(2, dtype=torch.float16)])
    one, other = (b"FloatStorage", b"X\x01\0\0\x000"), (b"HalfStorage", b"X\x01\0\0\x001")
    content = pickled_in(whole)
    assert all(part in content for part in (*one, *other))
    assert "two kinds" in str(
        refuse(path, rezipped(whole, data_pkl=content.replace(other[1], one[1])))
    )
