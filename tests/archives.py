"""Archives for tests: of known data sets, and of PyTorch, whole or made up."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from formats.pth import read_archive
from running.errors import InputError

# Forty photographs of two categories, the first of them in two runs.
RUNS = ((1, 21), (11, 3), (31, 21), (41, 0))
COUNT = 40


def tar_of(members: dict[str, bytes], extra: tarfile.TarInfo | None = None) -> bytes:
    """Pack files, with at most one odd member before the last."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for number, (name, content) in enumerate(members.items(), start=1):
            if extra and number == len(members):
                tar.addfile(extra, io.BytesIO(b"x" * extra.size))
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def draw_noise() -> dict[str, bytes]:
    """Draw the content of the archive of flowers: noise, which does not shrink when packed."""
    rng, files = np.random.default_rng(0), {}
    for number in range(1, COUNT + 1):
        jpeg = io.BytesIO()
        pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(jpeg, "JPEG", quality=95)
        files[f"jpg/image_{number:05}.jpg"] = jpeg.getvalue()
    return files


PHOTOGRAPHS = draw_noise()
FLOWERS = tar_of(PHOTOGRAPHS)


# --- Of PyTorch ------------------------------------------------------------------------

# A pickle's words for a tensor's three numbers.
STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x03tQ"


class Call:
    """Unpickled without care, it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def saved(value) -> bytes:
    """Return a file of torch.save."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def rezipped(whole: bytes, compression=zipfile.ZIP_STORED, **changes: bytes) -> bytes:
    """Write an archive anew, some members' content changed."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(whole)) as old,
        zipfile.ZipFile(buffer, "w", compression) as new,
    ):
        for name in old.namelist():
            new.writestr(name, changes.get(name.split("/", 1)[1].replace(".", "_"), old.read(name)))
    return buffer.getvalue()


def with_pickle(content: bytes) -> bytes:
    """Return an archive of this pickle, which has a tensor's numbers, too."""
    return rezipped(saved({"a": torch.ones(3)}), data_pkl=content)


def hiding(content: bytes) -> bytes:
    """Let the directory claim that nothing shrinks: more is read than it says."""
    changed, place = bytearray(content), content.find(b"PK\x01\x02")
    while place >= 0:
        changed[place + 24 : place + 28] = changed[place + 20 : place + 24]
        place = content.find(b"PK\x01\x02", place + 4)
    return bytes(changed)


def refuse(path, content: bytes, words: str = "(is|holds) ") -> Exception:
    """Assert that a file is refused in one sentence; return what was wrong with it."""
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{path} {words}") as caught:
        read_archive(path)
    return caught.value.__cause__
