"""A cache of activations: rows for each view of each photograph, in memory or in a file.

A file outlives a run that is killed; the next run of the same photographs and weights goes
on with what is in it.
"""

import math
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from learning.resources import Resources
from running.files import atomic_write

PATTERN = ".activations.*.tmp"


class ActivationCache:
    """Rows (views, N, ...) and which of them are filled.

    Args:
        rows: where they are kept.
        location: that in words, for the user.
        file: which holds the rows, if one does, and `mapped`, its bytes in memory.
    """

    def __init__(
        self,
        rows: torch.Tensor,
        location: str,
        file: Path | None = None,
        mapped: np.memmap | None = None,
    ):
        self.rows, self.location, self.file, self.mapped = rows, location, file, mapped
        self.filled = np.zeros(rows.shape[:2], bool)

    @property
    def note(self) -> Path:
        """The file beside the file, of one bit for each row that is filled."""
        assert self.file
        return self.file.with_suffix(".filled.tmp")

    @property
    def files(self) -> list[Path]:
        """What of this lies on the disk."""
        return [self.file, self.note] if self.file else []

    def read(self, photographs: np.ndarray, views: np.ndarray) -> torch.Tensor:
        """Take the rows of some views of some photographs (n,), (n,), all of them filled."""
        return self.rows[torch.from_numpy(views), torch.from_numpy(photographs)]

    def write(self, photographs: np.ndarray, views: np.ndarray, rows: torch.Tensor) -> None:
        """Put rows (n, ...) in; they count when `mark_filled` says so."""
        self.rows[torch.from_numpy(views), torch.from_numpy(photographs)] = rows

    def missing(self, photographs: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Tell which of these rows are not filled: (n,), bool."""
        return ~self.filled[views, photographs]

    def mark_filled(self, photographs: np.ndarray, views: np.ndarray) -> None:
        """Count rows as filled; on the disk first the rows, then the note that they are there."""
        self.filled[views, photographs] = True
        if self.mapped is not None:
            self.mapped.flush()
            with atomic_write(self.note) as note:
                note.write(np.packbits(self.filled).tobytes())

    def restore_filled(self) -> None:
        """Read which rows an earlier run filled; without a whole note, none."""
        with suppress(OSError):
            bits = np.frombuffer(self.note.read_bytes(), np.uint8)
            if bits.size == -(-self.filled.size // 8):
                filled = np.unpackbits(bits, count=self.filled.size).astype(bool)
                self.filled = filled.reshape(self.filled.shape)

    def discard(self) -> None:
        """Remove the file, if there is one: nobody will go on from here."""
        for file in self.files:
            file.unlink(missing_ok=True)


def open_cache(
    shape: tuple[int, ...], dtype: torch.dtype, identity: str, resources: Resources
) -> ActivationCache | None:
    """Make room for rows (views, N, ...): in memory, else in a file, which may hold some already.

    `identity` names in short what the activations depend on. None: there is no room.
    """
    size = math.prod(shape) * dtype.itemsize
    amount = f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
    if size <= resources.memory:
        return ActivationCache(torch.empty(shape, dtype=dtype), f"in memory ({amount})")
    file = Path(resources.folder, PATTERN.replace("*", identity))
    try:
        found = file.exists() and file.stat().st_size == size
        if found or resources.fits_on_disk(size):
            with open(file, "r+b" if found else "w+b") as opened:
                os.posix_fallocate(opened.fileno(), 0, size)  # a disk that fills is found out now
                mapped = np.memmap(opened, np.uint8, "r+")
            rows = torch.from_numpy(mapped).view(dtype).view(shape)
            location = f"in a file in {resources.folder} ({amount})"
            cache = ActivationCache(rows, location, file, mapped)
            if found:
                cache.restore_filled()
            return cache
    except (AttributeError, OSError):  # no such call on this system, or no room after all
        file.unlink(missing_ok=True)
    return None


def discard_leftovers(resources: Resources, keep: Collection[Path]) -> None:
    """Remove the files that killed runs left in the folder, but for those that are in use."""
    in_use = {*resources.processes.gather_objects([*keep])}
    if resources.processes.is_rank_zero:
        for path in Path(resources.folder).glob(PATTERN):
            if path not in in_use:
                path.unlink(missing_ok=True)
