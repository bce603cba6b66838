"""Archives that would do other things than hold plain data, if they were believed."""

import io
import os
import pickle
import resource
import struct
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from archives import STORAGE, hiding, refuse, rezipped, saved, with_pickle
from hypothesis import given, settings
from hypothesis import strategies as st

import formats.pth
from formats.pth import (
    LARGEST_PICKLE,
    NEW_DICT,
    REBUILD_TENSOR,
    check_pickle,
    read_archive,
)
from running.errors import is_out_of_memory


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.pth"


# --- Pickles that do other things -----------------------------------------------------


class Call:
    """Unpickled without care, it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


EMPTY_DICT_CALL = b"ccollections\nOrderedDict\n)R"
REFUSED = {
    "a call of another function": b"cos\nsystem\nX\x04\0\0\0true\x85R",
    "a call of a storage's class": b"ctorch\nFloatStorage\nK\x09\x85R",
    "a call of what is no function": b"NK\x09\x85R",
    "a call of a tensor": STORAGE + b")R",
    "an object built": EMPTY_DICT_CALL + b"}b",
    "an instance": b"(ios\nsystem\n",
    "an object": b"(cos\nsystem\no",
    "a new object": b"ccollections\nOrderedDict\n)\x81",
    "a new object with names": b"ccollections\nOrderedDict\n)}\x92",
    "an extension": b"\x82\x01",
    "a global from the stack": b"X\x02\0\0\0osX\x06\0\0\0system\x93",
    "a persistent name in text": b"Pabc\n",
    "a duplicate": b"]2",
    "a removal": b"NN0",
    "a text number": b"I1\n",
    "bytes": b"C\x01a",
    "a set": b"\x8f",
    "a frame": b"\x95" + struct.pack("<Q", 1) + b"N",
    "an implicit place in the memo": b"]\x94",
    "a text place in the memo": b"]p0\n",
    "a place far away in the memo": b"]r" + struct.pack("<I", 2**31),
    "a gap in the memo": b"]q\x01",
    "nothing in the memo": b"h\x00",
    "nothing to put into the memo": b"q\x00",
    "a tuple as a key": b"})Ns",
    "None as a key": b"}NNs",
    "a bool as a key": b"}\x88Ns",
    "a real number as a key": b"}G" + bytes(8) + b"Ns",
    "a tensor as a key": b"}" + STORAGE + b"Ns",
    "a global as a key": b"}ctorch\nFloatStorage\nNs",
    "a tuple as one key of several": b"}(K\x01N)Nu",
    "a tuple from the memo as a key": b"})q\x00h\x00Ns",
    "a tuple as a key of a called dict": EMPTY_DICT_CALL + b")Ns",
    "a key without a value": b"}(K\x01u",
    "an item of a list by name": b"]K\x00Ns",
    "an item of a tensor": STORAGE + b"K\x00Ns",
    "an item of a tuple": b")K\x00Ns",
    "an item appended to a dict": b"}Na",
    "items appended to a tuple": b")(Ne",
    "nothing appended to a tuple": b")(e",
    "an item appended to what a mark hides": b"](Na",
    "too little on the stack": b"N\x86",
    "nothing on the stack": b"",
    "no mark": b"Nt",
    "a string of gigabytes": b"X" + struct.pack("<I", 2**32 - 1) + b"x",
    "a string whose length takes eight bytes": b"\x8d" + struct.pack("<q", -1) + b"x",
    "a number of megabytes": b"\x8b" + struct.pack("<i", 1_000_000) + b"\x7f" * 1_000_000,
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_pickle_of_other_things_is_not_unpickled(path, monkeypatch, what):
    monkeypatch.setattr(formats.pth, "_Unpickler", lambda *_: pytest.fail("it is unpickled"))
    refuse(path, with_pickle(b"\x80\x02" + REFUSED[what] + b"."))


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n",  # which nobody calls
        b"ctorch.storage\nFloatStorage\n",
        b"c\\x63ollections\nOrderedDict\n)R",  # pickletools reads the escape, pickle does not
        b"ccollections\nOrderedDict\n]\x85R",  # with arguments
        b"ccollections\nOrderedDict\n}R",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R",
    ],
)
def test_what_the_unpickler_sees_is_believed_no_more(path, content):
    refuse(path, with_pickle(b"\x80\x02" + content + b"."))


def test_no_file_runs_a_command(path, tmp_path):
    marker = tmp_path / "marker"
    evil = Call(os.system, f"touch {marker}")
    old = io.BytesIO()
    torch.save(evil, old, _use_new_zipfile_serialization=False)
    wrapped = saved({"format_version": 4, "state_dict": evil, "run": evil})
    for content in (saved(evil), wrapped, pickle.dumps(evil), old.getvalue()):
        refuse(path, content)
    assert not marker.exists()
    pickle.loads(pickle.dumps(evil))  # which would do it
    assert marker.exists()


def deep(depth: int) -> tuple:
    """A tuple whose parts are shared: small, and hashing it takes 2 ** depth steps."""
    value = ()
    for _ in range(depth):
        value = (value, value)
    return value


def numbers_named(key) -> bytes:
    """Pickle a tensor's numbers whose name is any object."""
    named = pickle.dumps(key, 2).removeprefix(b"\x80\x02").removesuffix(b".")
    return b"\x80\x02" + STORAGE.replace(b"X\x01\0\0\x000", named) + b"."


BOMBS = {
    "an allocation": lambda: saved(Call(torch.FloatStorage, 10**9)),
    "an array of bytes": lambda: saved(Call(bytearray, 3 * 10**9)),
    "a tensor repeated by its strides": lambda: saved(torch.zeros(1).expand(1 << 20, 1 << 20)),
    "compressed zeros": lambda: rezipped(saved(torch.zeros(40_000_000)), zipfile.ZIP_DEFLATED),
    "compressed zeros that hide it": lambda: hiding(
        rezipped(saved(1), zipfile.ZIP_DEFLATED, byteorder=bytes(160_000_000))
    ),
    "a key for ever": lambda: with_pickle(pickle.dumps({deep(20): 1}, 2)),
    "a name of numbers for ever": lambda: with_pickle(numbers_named(deep(40))),
    "a place in the memo": lambda: with_pickle(b"\x80\x02}r" + struct.pack("<I", 2**31) + b"."),
    "an endless pickle": lambda: with_pickle(b"\x80\x02" + b"]" * LARGEST_PICKLE),
}


@contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """Let this process take no more than so many bytes beside those that it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc how much memory it has")
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_takes_no_gigabytes_and_no_minutes(path, bomb):
    content = BOMBS[bomb]()
    with memory_limit(100_000_000):
        assert not is_out_of_memory(refuse(path, content))


def test_what_is_deep_is_read(path):
    """Neither the check nor the unpickler goes down a level for each."""
    path.write_bytes(with_pickle(b"\x80\x02)" + b"\x85" * 100_000 + b"."))
    value, depth = read_archive(path), 0
    while value:
        (value,), depth = value, depth + 1
    assert depth == 100_000


# --- What passes is plain -------------------------------------------------------------

PIECES = [b"X\x01\0\0\0a", b"K\x01", b"N", b"\x88", b"(", b")", b"t", b"\x85", b"\x86", b"R", b"Q"]
PIECES += [b"]", b"a", b"e", b"}", b"s", b"u", b"q\0", b"q\1", b"h\0", b"h\1", EMPTY_DICT_CALL]
PIECES += [f"c{module}\n{name}\n".encode() for module, name in (REBUILD_TENSOR, NEW_DICT)]


class Watched(pickle._Unpickler):
    """Python's own unpickler in Python, which looks at what it fills."""

    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def find_class(self, module, name):
        return {REBUILD_TENSOR: lambda *_: torch.ones(1), NEW_DICT: dict}[module, name]

    def persistent_load(self, pid):
        return torch.ones(1)

    def load_setitem(self):
        *_, target, key, _ = self.stack
        assert type(target) is dict
        assert type(key) in (str, int)
        super().load_setitem()

    def load_setitems(self):
        assert type(self.metastack[-1][-1]) is dict
        assert all(type(key) in (str, int) for key in self.stack[::2])
        assert len(self.stack) % 2 == 0
        super().load_setitems()

    def load_append(self):
        assert type(self.stack[-2]) is list
        super().load_append()

    def load_appends(self):
        assert type(self.metastack[-1][-1]) is list
        super().load_appends()

    dispatch[pickle.SETITEM[0]], dispatch[pickle.SETITEMS[0]] = load_setitem, load_setitems
    dispatch[pickle.APPEND[0]], dispatch[pickle.APPENDS[0]] = load_append, load_appends


def may_go_on(pickled: bytes) -> bool:
    """Tell whether a pickle passes as far as it goes, but for its end."""
    try:
        check_pickle(pickled)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        return "exhausted before seeing STOP" in str(error)
    return True


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PIECES), min_size=5, max_size=80))
def test_what_passes_fills_lists_and_dicts_alone(pieces):
    content = b"\x80\x02"
    for piece in pieces:
        content += piece if may_go_on(content + piece) else b""
    # A call fails, mostly, and there may be nothing at the end.
    with suppress(IndexError, KeyError, TypeError, ValueError, pickle.UnpicklingError):
        Watched(io.BytesIO(content + b".")).load()
