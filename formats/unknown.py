"""Files that are no checkpoint of train.py: what they are instead, and what can be done with them.

Nobody vouches for them. Of a pickle only the opcodes are followed, and nothing is made of it.
"""

import io
import os
import pickletools
import re
import shlex
import zipfile
from itertools import islice
from typing import Any, BinaryIO

from formats.onnx_file import FIRST_BYTE
from images.decode import name_placeholder
from running.console import printable

# Where checkpoints of other projects keep a state dict; the first is ours, too.
WEIGHTS_ENTRIES = ("state_dict", "model_state_dict", "model")

# How torch.save began a file before its files were ZIP archives: the pickled number
# 0x1950a86a20f9469cfc6c. Two more pickles come before that of the content.
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
PICKLES_BEFORE = 3

# What is looked at: a state dict of a thousand tensors takes 200 KB and 25,000 opcodes.
LARGEST_PICKLE = 4_000_000
MOST_OPCODES = 200_000

NEW_DICT = ("collections", "OrderedDict")
TENSOR_MODULES = {"torch", "torch._utils", "torch.storage"}
TENSOR = object()  # stands for one

SAVED = 'torch.save({}, "weights.pth") writes what train.py --weights takes'
NOT_READ = f"not read here; in the project it comes from, {SAVED.format('model.state_dict()')}"


def describe_unknown_file(path: str | os.PathLike[str], as_weights: bool = False) -> str:
    """Say in a sentence what a file is that cannot be used.

    Args:
        path: no pipe and no device.
        as_weights: it was given to --weights, where a state dict would have been taken.
    """
    wanted = "file of weights" if as_weights else "checkpoint of train.py"
    damaged = f"{path} is damaged or no {wanted}"
    try:
        with open(path, "rb") as file:
            start = file.read(100)
            file.seek(0)
            if placeholder := name_placeholder(start):
                return f"{path} {placeholder}"
            if start[:1] == FIRST_BYTE:
                return f"{path} is an ONNX file, which only predict.py reads"
            if start[8:10] == b'{"':  # behind the length of what it begins with
                load = f"safetensors.torch.load_file({os.fspath(path)!r})"
                return f"{path} is a safetensors file; {SAVED.format(load)}"
            return _explain_pickled(path, file, as_weights) or damaged
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}" if error.strerror else damaged
    except Exception:  # what is damaged raises almost anything
        return damaged


def _explain_pickled(path: str | os.PathLike[str], file: BinaryIO, as_weights: bool) -> str | None:
    """Say what a file of PyTorch is; None where it is ours, or holds only what is wanted.

    Raises:
        Exception: almost any, where it is damaged or something else.
    """
    if file.read(len(LEGACY)) == LEGACY:
        pickled = io.BytesIO(LEGACY + file.read(LARGEST_PICKLE))
        for _ in range(PICKLES_BEFORE):
            follow_pickle(pickled)
    else:
        with zipfile.ZipFile(file) as archive:
            inner = [name.partition("/")[2] for name in archive.namelist()]
            if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
                load = f"torch.jit.load({os.fspath(path)!r}).state_dict()"
                return f"{path} is a TorchScript archive; {SAVED.format(load)}"
            name = archive.namelist()[inner.index("data.pkl")]
            with archive.open(name) as member:
                pickled = io.BytesIO(member.read(LARGEST_PICKLE))
    content, alien = follow_pickle(pickled)
    if isinstance(content, dict) and "format_version" in content:
        return None
    if alien and not isinstance(content, dict):
        return f"{path} holds a whole Python object ({alien}), which is {NOT_READ}"
    if alien:
        return (
            f"{path} is a file of another project, with {_entries(content)}, and holds a Python "
            f"object ({alien}), which is {NOT_READ}"
        )
    return None if as_weights else _explain_data(path, content)


def _explain_data(path: str | os.PathLike[str], content: Any) -> str:
    """Say what is in a file that holds plain data and tensors."""
    if not isinstance(content, dict) or not content:
        return f"{path} is not a checkpoint of train.py"
    states = [content, *(content.get(entry) for entry in WEIGHTS_ENTRIES)]
    has_state = [
        isinstance(state, dict) and state and all(value is TENSOR for value in state.values())
        for state in states
    ]
    arch = content.get("arch")
    if not isinstance(arch, str) or not re.fullmatch(r"[a-z0-9_]{1,40}", arch):
        arch = "NAME"
    from_it = f"python train.py DATA_DIR --arch {arch} --weights {shlex.quote(os.fspath(path))}"
    from_it += " starts from"
    if has_state[0]:
        return f"{path} is a state dict of PyTorch, which knows no categories; {from_it} it"
    if any(has_state):
        return (
            f"{path} is a checkpoint of another project, with {_entries(content)}; {from_it} its "
            "weights, if they fit that network"
        )
    return (
        f"{path} is not a checkpoint of train.py: it is a file of another project, with "
        f"{_entries(content)}, and holds no state dict that train.py --weights could start from"
    )


def _entries(content: dict[str, Any]) -> str:
    """Name the first entries of a file."""
    shown = ", ".join(printable(name[:30]) for name in islice(content, 6))
    more = f" and {len(content) - 6} more" if len(content) > 6 else ""
    return f"the {'entries' if len(content) > 1 else 'entry'} {shown}{more}"


# --- Pickles --------------------------------------------------------------------------


def follow_pickle(file: BinaryIO) -> tuple[Any, str | None]:
    """Follow the opcodes of a pickle, up to its end, and make nothing of it.

    Returns:
        What it would make: dicts of names to what else is here, strings, and `TENSOR`; None stands
        for everything else. And what it needs first that is neither a tensor's nor plain, if any.

    Raises:
        Exception: almost any, where it is damaged or too long.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    alien = None
    argument: Any
    for opcode, argument, _ in islice(pickletools.genops(file), MOST_OPCODES):
        if opcode.name == "MARK":
            marks.append(len(stack))
        elif opcode.name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        else:
            items = _take(stack, marks, opcode.stack_before)
            if opcode.name == "STOP":
                return items[0], alien
            made = _make(opcode.name, argument, items)
            stack += [made] * len(opcode.stack_after)
            if isinstance(made, tuple) and made != NEW_DICT and made[0] not in TENSOR_MODULES:
                alien = alien or printable(".".join(made)[:80])
    raise ValueError("no end")


def _take(stack: list[Any], marks: list[int], wanted: list[Any]) -> list[Any]:
    """Take what an opcode wants from the stack, with all that lies behind a mark."""
    start = len(stack)
    if pickletools.markobject in wanted:
        start = marks.pop()
        wanted = wanted[: wanted.index(pickletools.markobject)]
    start -= len(wanted)
    if start < 0:
        raise ValueError("more is taken than there is")
    taken, stack[start:] = stack[start:], []
    return taken


def _make(opcode: str, argument: Any, items: list[Any]) -> Any:
    """Say what an opcode makes of its argument and of items of the stack; a global is a tuple."""
    if opcode in ("BINUNICODE", "SHORT_BINUNICODE"):
        return argument
    if opcode == "EMPTY_DICT" or (opcode == "REDUCE" and items[0] == NEW_DICT):
        return {}
    if opcode == "GLOBAL":
        return tuple(argument.split(" ", 1))
    if opcode == "STACK_GLOBAL":
        return tuple(map(str, items))
    if opcode == "REDUCE" and isinstance(items[0], tuple) and items[0][0] in TENSOR_MODULES:
        return TENSOR
    if opcode in ("SETITEM", "SETITEMS") and isinstance(items[0], dict):
        items[0].update((k, v) for k, v in zip(items[1::2], items[2::2]) if isinstance(k, str))
    return items[0] if opcode in ("SETITEM", "SETITEMS", "BUILD") else None
