"""network/archive.py"""

import math
import os
import pickletools
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from running.errors import InputError
from running.files import atomic_write, is_special

# What torch.save calls the kinds of tensors that are kept here.
STORAGES = {
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch LongStorage": torch.int64,
    "torch ByteStorage": torch.uint8,
}


REBUILD_TENSOR, NEW_DICT = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"


# Bytes of what is no tensor: the names of ten thousand categories fit ten times.
LARGEST_PICKLE = 4_000_000


def read_archive(path: str | os.PathLike) -> Any:
    """Read plain data and tensors from a file of `torch.save`, and believe nothing.

    torch.load would let a file of a kilobyte take gigabytes, and a flipped bit pass for a
    value. Here members are uncompressed, their checksums hold, a tensor lies within its
    member, and nothing is called that a file asks for: see `_interpret`.

    Raises:
        InputError: the file is missing, damaged, or holds anything else.
    """
    if is_special(path):
        raise InputError(f"{path} is a pipe or a device, not a file")
    try:
        size = os.path.getsize(path)
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if sum(member.file_size for member in archive.infolist()) > size:
                raise ValueError("members that overlap or are compressed")
            [pickled] = [
                name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")
            ]
            if members[pickled].file_size > LARGEST_PICKLE:
                raise ValueError("too much that is no tensor")
            folder = pickled.removesuffix("data.pkl")
            if archive.read(folder + "byteorder") != sys.byteorder.encode():
                raise ValueError("numbers of another kind of machine")

            def read_storage(key: str, dtype: torch.dtype, count: int) -> torch.Tensor:
                member = members[f"{folder}data/{key}"]
                if not member.file_size == member.compress_size == count * dtype.itemsize:
                    raise ValueError("a tensor of another size than its numbers")
                content = np.frombuffer(archive.read(member), np.uint8)  # the checksum holds
                # In PyTorch's own memory, whose alignment decides how products are rounded.
                storage = torch.empty(count, dtype=dtype)
                storage.view(torch.uint8).numpy()[:] = content
                return storage

            return _interpret(archive.read(pickled), read_storage)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint") from None
    except MemoryError:
        raise
    except Exception as error:  # a file that is no checkpoint raises almost anything
        raise InputError(f"{path} is damaged or no checkpoint of train.py") from error


def _interpret(
    pickled: bytes, read_storage: Callable[[str, torch.dtype, int], torch.Tensor]
) -> Any:
    """Do what a pickle of plain data and tensors says, and nothing else.

    Args:
        pickled: what torch.save makes of dicts, lists, tuples, strings, numbers and tensors.
        read_storage: takes a tensor's key, dtype and count of numbers.

    Raises:
        Exception: almost any, where it says something else.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    storages: dict[str, torch.Tensor] = {}

    def pop(count: int | None = None) -> list[Any]:
        start = marks.pop() if count is None else len(stack) - count
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, argument, _ in pickletools.genops(pickled):
        match opcode.name:
            case "PROTO":
                pass
            case "BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "MARK":
                marks.append(len(stack))
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(pop(int(opcode.name[-1]))))
            case "TUPLE":
                stack.append(tuple(pop()))
            case "EMPTY_LIST":
                stack.append([])
            case "APPEND" | "APPENDS":
                items = pop(1 if opcode.name == "APPEND" else None)
                stack[-1].extend(items)
            case "EMPTY_DICT":
                stack.append({})
            case "SETITEM" | "SETITEMS":
                items = pop(2 if opcode.name == "SETITEM" else None)
                for key, value in zip(items[::2], items[1::2], strict=True):
                    if type(key) not in (str, int):  # a tuple within tuples may hash for ever
                        raise TypeError("a key that is no name and no number")
                    stack[-1][key] = value
            case "GLOBAL":
                if argument not in (*STORAGES, REBUILD_TENSOR, NEW_DICT):
                    raise ValueError(f"{argument} is not plain data")
                stack.append(argument)
            case "BINPERSID":
                kind, dtype, key, _, count = stack.pop()
                if kind != "storage" or type(count) is not int:
                    raise ValueError("something else than a tensor's numbers")
                if key not in storages:
                    storages[key] = read_storage(key, STORAGES[dtype], count)
                if storages[key].dtype != STORAGES[dtype]:
                    raise ValueError("a tensor of two kinds")
                stack.append(storages[key])
            case "REDUCE":
                function, arguments = pop(2)
                if function == NEW_DICT and arguments == ():
                    stack.append({})
                elif function == REBUILD_TENSOR:
                    stack.append(_view(*arguments[:4]))
                else:
                    raise ValueError("a call")
            case "STOP":
                return stack.pop()
            case name:
                raise ValueError(f"{name} does not stand for plain data")


def _view(
    storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> torch.Tensor:
    """Look at numbers as a tensor, if it lies within them and repeats none."""
    numbers = (offset, *size, *stride)
    if len(size) > 8 or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("an impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > len(storage) or (0 not in size and last >= len(storage)):
        raise ValueError("a tensor outside of its numbers")
    return storage.as_strided(size, stride, offset)


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.cpu() for key, value in model.state_dict().items()}


def write_archive(path: str | os.PathLike, entries: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        try:
            torch.save(entries, file)
        except RuntimeError as error:
            # Half-way through a file PyTorch covers a full disk or Ctrl-C with an error of its own.
            if isinstance(error.__context__, (OSError, KeyboardInterrupt)):
                raise error.__context__ from None
            raise
