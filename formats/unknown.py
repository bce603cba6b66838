"""Files that are no checkpoint of train.py: what they are instead, and what can be done with them.

torch is not imported, so that predict.py can ask before it is; formats/pth.py knows the rest.
"""

import io
import os
import pickletools
import shlex
import zipfile

from formats.onnx_file import FIRST_BYTE
from images.decode import name_placeholder
from running.console import printable

# How torch.save began a file before its files were ZIP archives: the pickled number
# 0x1950a86a20f9469cfc6c. Then come the pickles of the protocol, the machine, the content and the
# names of the tensors' numbers.
LEGACY, LEGACY_PICKLES = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", 5

LARGEST_PICKLE = 4_000_000  # bytes: the names of ten thousand categories fit ten times

# All that torch.save names for tensors and dicts; what else it names is a Python object.
KINDS = "BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short"
TENSOR_GLOBALS = {f"torch {kind}Storage" for kind in KINDS} | {
    "collections OrderedDict",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
}

SAVED = 'torch.save({}, "weights.pth") writes what train.py --weights takes'


def describe_unknown_file(path: str | os.PathLike[str], as_weights: bool = False) -> str:
    """Describe in a sentence a file that cannot be read, and was given to --weights or not."""
    wanted = "file of weights" if as_weights else "checkpoint of train.py"
    damaged = f"{path} is damaged or no {wanted}"
    try:
        with open(path, "rb") as file:
            start = file.read(100)
        if placeholder := name_placeholder(start):
            return f"{path} {placeholder}"
        if start[:1] == FIRST_BYTE:
            return f"{path} is an ONNX file, which only predict.py reads"
        if start[8:10] == b'{"':  # after the length of the JSON that it begins with
            load = f"safetensors.torch.load_file({os.fspath(path)!r})"
            return f"{path} is a safetensors file; {SAVED.format(load)}"
        alien = find_alien(path)
        if alien and alien.startswith("__torch__"):
            load = f"torch.jit.load({os.fspath(path)!r}).state_dict()"
            return f"{path} is a TorchScript archive; {SAVED.format(load)}"
        if alien:
            save = SAVED.format("model.state_dict()")
            return (
                f"{path} holds a Python object ({alien}), which is not read; in its project, {save}"
            )
        if start.startswith(LEGACY) and not as_weights:
            return f"{path} is a file of an early PyTorch; {start_from(path)} its weights"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}" if error.strerror else damaged
    except Exception:  # a damaged file raises almost anything
        return damaged
    return damaged


def start_from(path: str | os.PathLike[str], arch: str = "NAME") -> str:
    """Begin the sentence on what --weights makes of a file."""
    file = shlex.quote(os.fspath(path))
    return f"python train.py DATA_DIR --arch {arch} --weights {file} starts from"


def find_alien(path: str | os.PathLike[str]) -> str | None:
    """Name the first Python object that a file of torch.save asks for beside tensors and dicts."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            [name] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            with archive.open(name) as member:
                pickles, count = io.BytesIO(member.read(LARGEST_PICKLE)), 1
    else:
        with open(path, "rb") as file:
            pickles, count = io.BytesIO(file.read(LARGEST_PICKLE)), LEGACY_PICKLES
    for _ in range(count):
        for opcode, argument, _ in pickletools.genops(pickles):
            if opcode.name == "GLOBAL" and argument not in TENSOR_GLOBALS:
                return printable(str(argument).replace(" ", ".")[:80])
    return None
