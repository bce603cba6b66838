"""Activations: what the frozen layers make of photographs, computed once and cached.

The cache is in memory, or in a file, which outlives a run that is killed: the next run of the same
photographs and weights goes on with what is in it.
"""

import hashlib
import math
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from learning.resources import Resources
from learning.views import VERSION, Photographs
from network.classifier import Classifier, chain
from network.devices import rows_at_once, to_device
from network.inference import infer
from running.environment import versions
from running.files import atomic_write

PATTERN = ".activations.*.tmp"  # of the names of files


class Activations:
    """What the frozen layers make of views of photographs, for the layers after them.

    They are computed once for each view that is asked for and cached; where there is no room for
    that, anew each time, with the same result. Where no layer is frozen, they are the pixels.
    `model` is from `for_inference`; `num_views` may be asked for of each photograph, of which 0 is
    the photograph as it is; `identity` names the photographs, should a later run find the cache.
    """

    def __init__(
        self,
        model: Classifier,
        num_frozen: int,
        photographs: Photographs,
        num_views: int = 1,
        identity: str = "",
    ):
        self.model, self.num_frozen, self.num_views = model, num_frozen, num_views
        self.photographs, self.paths = photographs, photographs.paths
        self.resources = photographs.resources
        self.cache: Cache | None = None
        if num_frozen:
            side = photographs.preprocessing.crop
            image = torch.zeros(1, side, side, 3, dtype=torch.uint8)
            row = _to_rows(next(infer(model, self._run_frozen, [image])))
            shape = (num_views, len(self.paths), *row.shape[1:])
            self.cache = open_cache(shape, row.dtype, self._identify(identity), self.resources)

    @property
    def location(self) -> str:
        """Where the activations are kept, in words."""
        return self.cache.location if self.cache else "nowhere, as there is no room for them"

    def batches(
        self, photographs: np.ndarray, views: np.ndarray, batch_size: int | None = None
    ) -> Iterator[torch.Tensor]:
        """Yield the activations of a view, by its number, of each of some photographs (indices).

        A batch is what `Classifier.run_frozen` returns for `batch_size` of them, the last one for
        what is left. Raises ImageError if a photograph cannot be read.
        """
        device = self.model.mean.device
        batch_size = batch_size or rows_at_once(device)
        if self.cache is None:
            yield from self._compute(photographs, views, batch_size)
            return
        missing = ~self.cache.filled[views, photographs]
        if missing.any():
            self._fill(self.cache, photographs[missing], views[missing])
        for start in range(0, len(photographs), batch_size):
            part = slice(start, start + batch_size)
            wanted = torch.from_numpy(views[part]), torch.from_numpy(photographs[part])
            rows = to_device(self.cache.rows[wanted], device)
            yield rows.permute(0, 3, 1, 2) if rows.dim() == 4 else rows

    def in_order(self) -> Iterator[torch.Tensor]:
        """Yield the activations of every photograph as it is."""
        count = len(self.paths)
        return self.batches(np.arange(count), np.zeros(count, int))

    def discard(self) -> None:
        """Remove what lies on the disk: nobody will go on from here."""
        if self.cache:
            self.cache.discard()

    def _fill(self, cache: "Cache", photographs: np.ndarray, views: np.ndarray) -> None:
        batches = self._compute(photographs, views, rows_at_once(self.model.mean.device))
        done = 0
        for x in self.resources.progress(batches, len(photographs), "new views"):
            part = slice(done, done + len(x))
            places = torch.from_numpy(views[part]), torch.from_numpy(photographs[part])
            cache.rows[places] = _to_rows(x).cpu()
            done += len(x)
        cache.mark_filled(photographs, views)

    def _compute(
        self, photographs: np.ndarray, views: np.ndarray, batch_size: int
    ) -> Iterator[torch.Tensor]:
        batches = self.photographs.batches(photographs, views, batch_size)
        if self.num_frozen:
            return infer(self.model, self._run_frozen, batches)
        return (to_device(batch, self.model.mean.device) for batch in batches)

    def _run_frozen(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.run_frozen(images, self.num_frozen)

    def _identify(self, photographs: str) -> str:
        """Name in short what the activations depend on."""
        views = self.photographs
        of_views = VERSION, views.numbers, views.seed, views.varied, self.num_views
        of_network = self.num_frozen, views.preprocessing, versions()
        whole = hashlib.sha256(
            repr((photographs, self.paths, of_views, of_network)).encode(errors="replace")
        )
        for layer in chain(self.model.body)[: self.num_frozen]:
            for value in layer.state_dict().values():
                whole.update(str(value.dtype).encode())
                whole.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
        return whole.hexdigest()[:16]


def _to_rows(x: torch.Tensor) -> torch.Tensor:
    """Put maps (N, C, H, W) into the order of their memory, (N, H, W, C)."""
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x


class Cache:
    """Rows (views, N, ...), and which of them are filled (views, N); on the disk if `file` is."""

    def __init__(
        self,
        rows: torch.Tensor,
        location: str,
        file: Path | None = None,
        mapped: np.memmap | None = None,
    ):
        self.rows, self.location, self.mapped = rows, location, mapped
        # The second file has one bit for each row that is filled.
        self.files = [file, file.with_suffix(".filled.tmp")] if file else []
        self.filled = np.zeros(rows.shape[:2], bool)

    def mark_filled(self, photographs: np.ndarray, views: np.ndarray) -> None:
        """Count rows as filled; on the disk first the rows, then the bits."""
        self.filled[views, photographs] = True
        if self.mapped is not None:
            self.mapped.flush()
            with atomic_write(self.files[1]) as file:
                file.write(np.packbits(self.filled).tobytes())

    def restore_filled(self) -> None:
        """Read which rows an earlier run filled; none where the bits are not whole."""
        with suppress(OSError):
            bits = np.frombuffer(self.files[1].read_bytes(), np.uint8)
            if bits.size == -(-self.filled.size // 8):
                filled = np.unpackbits(bits, count=self.filled.size).astype(bool)
                self.filled = filled.reshape(self.filled.shape)

    def discard(self) -> None:
        """Remove the files, if there are some."""
        for file in self.files:
            file.unlink(missing_ok=True)


def open_cache(
    shape: tuple[int, ...], dtype: torch.dtype, identity: str, resources: Resources
) -> Cache | None:
    """Make room for rows (views, N, ...): in memory, else in a file, which may hold some already.

    `identity` is part of the file's name. None: there is no room.
    """
    size = math.prod(shape) * dtype.itemsize
    amount = f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
    if size <= resources.memory:
        return Cache(torch.empty(shape, dtype=dtype), f"in memory ({amount})")
    file = Path(resources.folder, PATTERN.replace("*", identity))
    try:
        found = file.exists() and file.stat().st_size == size
        if not (found or resources.fits_on_disk(size)):
            return None
        with open(file, "r+b" if found else "w+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, size)  # a disk that fills is found out now
            mapped = np.memmap(opened, np.uint8, "r+")
    except (AttributeError, OSError):  # no such call on this system, or no room after all
        file.unlink(missing_ok=True)
        return None
    rows = torch.from_numpy(mapped).view(dtype).view(shape)
    cache = Cache(rows, f"in a file in {resources.folder} ({amount})", file, mapped)
    if found:
        cache.restore_filled()
    return cache


def discard_leftovers(resources: Resources, in_use: Collection[Activations]) -> None:
    """Remove the files that killed runs left in the folder, but for those that are in use."""
    files = [file for each in in_use if each.cache for file in each.cache.files]
    kept = {*resources.processes.gather_objects(files)}
    if resources.processes.is_rank_zero:
        for path in Path(resources.folder).glob(PATTERN):
            if path not in kept:
                path.unlink(missing_ok=True)
