"""Files of torch.save that nobody vouches for: the one way in which they are read, and written."""

import io
import os
import pickletools
import re
import warnings
import zipfile
from collections import deque
from typing import Any, BinaryIO

import torch
from torch import nn

from formats.unknown import (
    LARGEST_PICKLE,
    LEGACY,
    LEGACY_PICKLES,
    TENSOR_GLOBALS,
    describe_unknown_file,
    start_from,
)
from running.console import printable
from running.errors import InputError
from running.files import atomic_write, is_special

# Where checkpoints of other projects keep a state dict; the first is ours, too.
WEIGHTS_ENTRIES = ("state_dict", "model_state_dict", "model")

MOST_OPCODES = 1_000_000  # of a pickle; a state dict of a thousand tensors takes 25,000

SCALARS = {"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE"}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}  # of so many values; TUPLE is of any number


def read_archive(path: str | os.PathLike[str], as_weights: bool = False) -> Any:
    """Read plain data and tensors, on the CPU, from a file of `torch.save`, and run nothing of it.

    `torch.load(weights_only=True)` reads it. What that would permit is refused before: a file of a
    kilobyte that takes gigabytes or hours, and a flipped bit that passes for a value. Raises
    InputError if the file holds anything else; `as_weights` says that it was given to --weights.
    """
    file_name = f"--weights {path}" if as_weights else path
    if is_special(path):
        raise InputError(f"{file_name} is a pipe or a device, not a file")
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            if file.read(len(LEGACY)) == LEGACY:
                _check_pickles(LEGACY + file.read(LARGEST_PICKLE), LEGACY_PICKLES)
            else:
                _check_members(file, size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old pickles, in lines of PyTorch's source
            content = torch.load(path, map_location="cpu", weights_only=True)
        _check_tensors(content, size)
    except FileNotFoundError:
        raise InputError(f"{file_name}: no such file") from None
    except MemoryError:
        raise
    except Exception as error:  # a file that is no checkpoint raises almost anything
        raise InputError(describe_unknown_file(path, as_weights)) from error
    return content


def _check_members(file: BinaryIO, size: int) -> None:
    """Refuse an archive that grows when it is read, is damaged, or can be read in two ways."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        names = {member.filename.casefold() for member in members}  # as PyTorch compares them
        if len(names) < len(members) or len({name.partition("/")[0] for name in names}) > 1:
            raise ValueError("two members of one name, or in two folders")
        if any(
            member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size
            for member in members
        ):
            raise ValueError("compressed members")
        if sum(member.file_size for member in members) > size:
            raise ValueError("members that overlap")
        [pickled] = [each for each in members if each.filename.casefold().endswith("/data.pkl")]
        if pickled.file_size > LARGEST_PICKLE:
            raise ValueError("too much that is no tensor")
        if archive.testzip():  # PyTorch's reader does not look at the checksums
            raise ValueError("damaged members")
        _check_pickles(archive.read(pickled), 1)


def _check_pickles(content: bytes, count: int) -> None:
    """Refuse pickles that ask for more than tensors and dicts, or that may be hashed for ever.

    weights_only permits functions that take any amount of memory, such as bytearray. And a tuple of
    twice the same tuple of twice the same tuple takes 2 ** n steps to hash: of tuples that occur
    several times only those of up to three plain values pass.
    """
    pickles = io.BytesIO(content)
    for _ in range(count):
        last: deque[str] = deque(maxlen=4)  # opcodes that leave something on the stack
        nested: set[int] = set()  # the places in the memo where other tuples are
        argument: Any
        for number, (opcode, argument, _) in enumerate(pickletools.genops(pickles)):
            name = opcode.name
            if name == "GLOBAL" and argument not in TENSOR_GLOBALS:
                raise ValueError(f"{argument} is no part of a tensor")
            if name == "LONG4" or number == MOST_OPCODES:
                raise ValueError("too large a pickle")
            if name in ("BINPUT", "LONG_BINPUT"):
                nested.discard(argument)
                items = [*last][-1 - TUPLES.get(last[-1], 0) : -1]
                if last[-1] == "TUPLE" or not {*items} <= SCALARS:
                    nested.add(argument)
            elif name in ("BINGET", "LONG_BINGET") and argument in nested:
                raise ValueError("a tuple that occurs twice")
            elif name != "PROTO":
                last.append(name)


def _check_tensors(content: Any, size: int) -> None:
    """Refuse tensors that are larger than their numbers, and numbers larger than the file."""
    waiting, seen, stored = [content], set[int](), dict[int, int]()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif torch.is_tensor(value):
            storage = value.untyped_storage()
            stored[storage.data_ptr()] = storage.nbytes()
            if value.device.type != "cpu" or value.nbytes > storage.nbytes():
                raise ValueError("a tensor that is larger than its numbers")
    if sum(stored.values()) > size:
        raise ValueError("more numbers than the file holds")


def describe_content(path: str | os.PathLike[str], content: Any) -> str:
    """Describe in a sentence a file of plain data and tensors that is no checkpoint of train.py."""
    if not isinstance(content, dict) or not content or "format_version" in content:
        return f"{path} is not a checkpoint of train.py"
    is_state, *holds_state = (
        isinstance(state, dict) and state and all(map(torch.is_tensor, state.values()))
        for state in (content, *map(content.get, WEIGHTS_ENTRIES))
    )
    arch = str(content.get("arch"))
    start = start_from(path, arch if re.fullmatch(r"[a-z0-9_]{1,40}", arch) else "NAME")
    if is_state:
        return f"{path} is a state dict of PyTorch, which knows no categories; {start} it"
    entries = ", ".join(printable(str(name)[:30]) for name in [*content][:6])
    if any(holds_state):
        return f"{path} is a checkpoint of another project ({entries}); {start} its weights"
    return f"{path} is a file of another project ({entries}), and holds no weights"


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return a module's state dict as a plain one, on the CPU."""
    return {key: value.cpu() for key, value in module.state_dict().items()}


def write_archive(path: str | os.PathLike[str], entries: dict[str, Any]) -> None:
    """Write plain data and tensors, whole or not at all; raise RunError if that fails."""
    with atomic_write(path) as file:
        try:
            torch.save(entries, file)
        except RuntimeError as error:
            # Half-way through a file PyTorch covers a full disk or Ctrl-C with an error of its own.
            if isinstance(error.__context__, (OSError, KeyboardInterrupt)):
                raise error.__context__ from None
            raise
