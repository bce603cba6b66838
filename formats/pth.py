"""Files of PyTorch that are not believed: reading plain data and tensors, and writing them.

A file of `torch.save` is a ZIP archive of a pickle and of the numbers of tensors.
"""

import io
import math
import os
import pickle
import pickletools
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from formats.unknown import describe_unknown_file
from running.errors import InputError
from running.files import atomic_write, is_special

# Bytes of what is no tensor: the names of ten thousand categories fit ten times.
LARGEST_PICKLE = 4_000_000

# What torch.save calls the kinds of tensors that are kept here.
STORAGES = {
    ("torch", "FloatStorage"): torch.float32,
    ("torch", "HalfStorage"): torch.float16,
    ("torch", "LongStorage"): torch.int64,
    ("torch", "ByteStorage"): torch.uint8,
}
REBUILD_TENSOR = ("torch._utils", "_rebuild_tensor_v2")
NEW_DICT = ("collections", "OrderedDict")

# All that torch.save writes for dicts, lists, tuples, strings, numbers and tensors.
PUSH_VALUE = {"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
PUSH_VALUE |= {"NONE", "NEWTRUE", "NEWFALSE", "GLOBAL"}
BUILD = {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "EMPTY_DICT"}
FILL = {"APPEND", "APPENDS", "SETITEM", "SETITEMS"}
PUT, GET = {"BINPUT", "LONG_BINPUT"}, {"BINGET", "LONG_BINGET"}
OPCODES = PUSH_VALUE | BUILD | FILL | PUT | GET | {"PROTO", "MARK", "BINPERSID", "REDUCE", "STOP"}

# What lies on an unpickler's stack: pickletools' pyint and the like, or a global's module and name.
Kind = pickletools.StackObject | tuple[str, ...]

ReadStorage = Callable[[str, torch.dtype, int], torch.Tensor]


def read_archive(path: str | os.PathLike[str]) -> Any:
    """Read plain data and tensors from a file of `torch.save`, and believe nothing.

    torch.load would let a file of a kilobyte take gigabytes, and a flipped bit pass for a
    value. Here members are uncompressed, their checksums hold, a tensor lies within its
    member, and nothing is called that a file asks for: see `check_pickle`.

    Raises:
        InputError: the file is missing, damaged, or holds anything else.
    """
    if is_special(path):
        raise InputError(f"{path} is a pipe or a device, not a file")
    try:
        size = os.path.getsize(path)
        with zipfile.ZipFile(path) as archive:
            return _read_members(archive, size)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint") from None
    except MemoryError:
        raise
    except Exception as error:  # a file that is no checkpoint raises almost anything
        raise InputError(describe_unknown_file(path)) from error


def _read_members(archive: zipfile.ZipFile, size: int) -> Any:
    """Read an archive that takes so many bytes.

    Raises:
        Exception: almost any, where it is damaged or something else.
    """
    members = {member.filename: member for member in archive.infolist()}
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise ValueError("compressed members")
    if sum(member.file_size for member in archive.infolist()) > size:
        raise ValueError("members that overlap")
    [pickled] = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if members[pickled].file_size > LARGEST_PICKLE:
        raise ValueError("too much that is no tensor")
    folder = pickled.removesuffix("data.pkl")
    if archive.read(folder + "byteorder") != sys.byteorder.encode():
        raise ValueError("numbers of another kind of machine")

    def read_storage(key: str, dtype: torch.dtype, count: int) -> torch.Tensor:
        member = members[f"{folder}data/{key}"]
        if member.file_size != count * dtype.itemsize:
            raise ValueError("a tensor of another size than its numbers")
        content = np.frombuffer(archive.read(member), np.uint8)  # the checksum holds
        # In PyTorch's own memory, whose alignment decides how products are rounded.
        storage = torch.empty(count, dtype=dtype)
        storage.view(torch.uint8).numpy()[:] = content
        return storage

    content = archive.read(pickled)
    check_pickle(content)
    return _Unpickler(content, read_storage).load()


def check_pickle(pickled: bytes) -> None:
    """See that a pickle makes plain data and tensors, before anything is made of it.

    Nothing is made here either: of what lies on the unpickler's stack only the kind is
    followed, by pickletools' table of what each opcode takes and leaves. What is refused:

    - opcodes that plain data does not need, such as those that make objects;
    - calls of anything but `REBUILD_TENSOR` and `NEW_DICT`;
    - items of what is no list and no dict that the pickle itself has made;
    - keys that are not strings or integers: a tuple within tuples may hash for ever;
    - places in the memo that leave a gap: the unpickler would make room for it.

    Raises:
        Exception: almost any, where it makes something else.
    """
    stack: list[Kind] = []
    marks: list[int] = []
    memo: dict[int, Kind] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(pickled):
        name = opcode.name
        if name not in OPCODES:
            raise ValueError(f"{name} does not stand for plain data")
        taken = _take(stack, marks, opcode.stack_before) if opcode.stack_before else []
        if name in ("SETITEM", "SETITEMS"):
            keys = taken[1::2]
            if len(taken) % 2 == 0 or not {*keys} <= {pickletools.pyunicode, pickletools.pyint}:
                raise TypeError("a key that is no name and no number")
        if name in PUT:
            if argument > len(memo):
                raise ValueError("a gap in the memo")
            memo[argument] = stack[-1]
        elif name in GET:
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(tuple(argument.split(" ")))
        elif name == "REDUCE":
            if taken[0] not in (REBUILD_TENSOR, NEW_DICT):
                raise ValueError("a call")
            stack.append(pickletools.pydict if taken[0] == NEW_DICT else pickletools.anyobject)
        elif name == "MARK":
            marks.append(len(stack))
        else:
            stack += opcode.stack_after


def _take(stack: list[Kind], marks: list[int], wanted: list[Any]) -> list[Kind]:
    """Take what an opcode wants from the stack; what a mark has collected comes last."""
    collected: list[Kind] = []
    if pickletools.markobject in wanted:
        start = marks.pop()
        collected, stack[start:] = stack[start:], []
        wanted = wanted[: wanted.index(pickletools.markobject)]
    start = len(stack) - len(wanted)
    if start < (marks[-1] if marks else 0):
        raise ValueError("more is taken than there is")
    taken, stack[start:] = stack[start:], []
    if any(expected not in (pickletools.anyobject, kind) for kind, expected in zip(taken, wanted)):
        raise TypeError("another kind of object")
    return taken + collected


class _Unpickler(pickle.Unpickler):
    """Makes plain data and tensors of a pickle that `check_pickle` has passed."""

    def __init__(self, pickled: bytes, read_storage: ReadStorage):
        super().__init__(io.BytesIO(pickled))
        self.read_storage = read_storage
        self.storages: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands here for a global; nothing of the file's is ever imported."""
        if (module, name) == REBUILD_TENSOR:
            return as_tensor
        if (module, name) == NEW_DICT:
            return _new_dict
        return STORAGES[module, name]

    def persistent_load(self, pid: Any) -> torch.Tensor:
        """Read the numbers of a tensor, once where several share them."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or type(key) is not str or type(count) is not int:
            raise ValueError("something else than a tensor's numbers")
        if key not in self.storages:
            self.storages[key] = self.read_storage(key, dtype, count)
        if self.storages[key].dtype != dtype:
            raise ValueError("a tensor of two kinds")
        return self.storages[key]


def _new_dict() -> dict[Any, Any]:
    return {}


def as_tensor(
    storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> torch.Tensor:
    """Look at numbers as a tensor, if it lies within them and repeats none."""
    numbers = (offset, *size, *stride)
    if len(size) > 8 or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("an impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > len(storage) or (0 not in size and last >= len(storage)):
        raise ValueError("a tensor outside of its numbers")
    return storage.as_strided(size, stride, offset)


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return a module's state dict as a plain one, on the CPU."""
    return {key: value.cpu() for key, value in module.state_dict().items()}


def write_archive(path: str | os.PathLike[str], entries: dict[str, Any]) -> None:
    """Write plain data and tensors, whole or not at all, for `read_archive`.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    with atomic_write(path) as file:
        try:
            torch.save(entries, file)
        except RuntimeError as error:
            # Half-way through a file PyTorch covers a full disk or Ctrl-C with an error of its own.
            if isinstance(error.__context__, (OSError, KeyboardInterrupt)):
                raise error.__context__ from None
            raise
