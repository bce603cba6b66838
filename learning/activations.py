"""Activations: what the frozen layers make of photographs, computed once and cached.

The cache is in memory, or in a file, which outlives a run that is killed: the next run of the same
photographs and weights goes on with what is in it.
"""

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import nn

from learning.resources import Resources
from learning.views import VERSION, Photographs
from network.classifier import Classifier, chain
from network.devices import rows_at_once, to_device
from network.inference import infer
from running.environment import versions
from running.files import reserve

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
        self.rows: torch.Tensor | None = None  # (views, N, ...), maps in the order of their memory
        self.filled = np.zeros((num_views, len(self.paths)), np.uint8)  # 1: this row is
        self.file: Path | None = None  # holds both
        self.mapped: np.memmap | None = None
        self.location = "nowhere, as there is no room for them"  # in words
        if num_frozen:
            self._make_room(identity)

    def _make_room(self, identity: str) -> None:
        """Make room for the cache: in memory, else in a file, which may hold some already."""
        side = self.photographs.preprocessing.crop
        image = torch.zeros(1, side, side, 3, dtype=torch.uint8)
        row = _to_rows(next(infer(self.model, self._run_frozen, [image])))
        shape = (*self.filled.shape, *row.shape[1:])
        size = math.prod(shape) * row.itemsize
        amount = f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
        if size <= self.resources.memory:
            self.rows, self.location = torch.empty(shape, dtype=row.dtype), f"in memory ({amount})"
            return
        file = Path(self.resources.folder, PATTERN.replace("*", self._identify(identity)))
        whole = size + self.filled.size
        try:
            found = file.exists() and file.stat().st_size == whole
            if not (found or self.resources.fits_on_disk(whole)):
                return
            with open(file, "r+b" if found else "w+b") as opened:
                reserve(opened, whole)  # a disk that fills is found out now
                self.mapped = np.memmap(opened, np.uint8, "r+")
        except OSError:  # no room after all
            file.unlink(missing_ok=True)
            return
        self.rows = torch.from_numpy(self.mapped[:size]).view(row.dtype).view(shape)
        self.filled = self.mapped[size:].reshape(self.filled.shape)
        self.file, self.location = file, f"in a file in {self.resources.folder} ({amount})"

    def batches(
        self, photographs: np.ndarray, views: np.ndarray, sizes: Sequence[int] = ()
    ) -> Iterator[torch.Tensor]:
        """Yield the activations of a view, by its number, of each of some photographs (indices).

        A batch is what `Classifier.run_frozen` returns for as many of them as `sizes` say, as long
        as there are some. Raises ImageError if a photograph cannot be read.
        """
        device = self.model.mean.device
        sizes = sizes or self._equal_sizes(len(photographs))
        if self.rows is None:
            yield from self._compute(photographs, views, sizes)
            return
        missing = self.filled[views, photographs] == 0
        if missing.any():
            self._fill(self.rows, photographs[missing], views[missing])
        for end, size in zip(accumulate(sizes), sizes):
            part = slice(end - size, end)
            if end - size >= len(photographs):
                return
            wanted = torch.from_numpy(views[part]), torch.from_numpy(photographs[part])
            rows = to_device(self.rows[wanted], device)
            yield rows.permute(0, 3, 1, 2) if rows.dim() == 4 else rows

    def in_order(self) -> Iterator[torch.Tensor]:
        """Yield the activations of every photograph as it is."""
        count = len(self.paths)
        return self.batches(np.arange(count), np.zeros(count, int))

    def discard(self) -> None:
        """Remove what lies on the disk: nobody will go on from here."""
        if self.file:
            with suppress(PermissionError):  # Windows keeps what is mapped; the next run removes it
                self.file.unlink(missing_ok=True)

    def _fill(self, rows: torch.Tensor, photographs: np.ndarray, views: np.ndarray) -> None:
        batches = self._compute(photographs, views, self._equal_sizes(len(photographs)))
        done = 0
        for x in self.resources.progress(batches, len(photographs), "new views"):
            part = slice(done, done + len(x))
            places = torch.from_numpy(views[part]), torch.from_numpy(photographs[part])
            rows[places] = _to_rows(x).cpu()
            done += len(x)
        if self.mapped is not None:
            self.mapped.flush()  # what counts as filled is on the disk
        self.filled[views, photographs] = 1

    def _equal_sizes(self, count: int) -> list[int]:
        rows = rows_at_once(self.model.mean.device)
        return [rows] * -(-count // rows)

    def _compute(
        self, photographs: np.ndarray, views: np.ndarray, sizes: Sequence[int]
    ) -> Iterator[torch.Tensor]:
        batches = self.photographs.batches(photographs, views, sizes)
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
        depends = photographs, self.paths, of_views, of_network
        return digest_of(depends, chain(self.model.body)[: self.num_frozen])[:16]


def _to_rows(x: torch.Tensor) -> torch.Tensor:
    """Put maps (N, C, H, W) into the order of their memory, (N, H, W, C)."""
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x


def digest_of(depends: object, layers: Iterable[nn.Module]) -> str:
    """Digest plain data and the weights of layers, as 64 hexadecimal digits."""
    whole = hashlib.sha256(repr(depends).encode(errors="replace"))
    for layer in layers:
        for key, value in layer.state_dict().items():
            whole.update(f"{key} {value.dtype}".encode())
            whole.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return whole.hexdigest()


def discard_leftovers(resources: Resources, in_use: Collection[Activations]) -> None:
    """Remove the files that killed runs left in the folder, but for those that are in use."""
    kept = {*resources.processes.gather_objects([each.file for each in in_use if each.file])}
    if resources.processes.is_rank_zero:
        for path in Path(resources.folder).glob(PATTERN):
            if path not in kept:
                path.unlink(missing_ok=True)
