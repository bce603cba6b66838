"""learning/activations.py"""

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch

from learning.processes import ALONE, Processes
from learning.views import Pixels
from model_utils import versions
from network.classifier import Classifier, chain
from network.devices import rows_at_once, to_device
from network.inference import infer
from photographs.images import Preprocessing
from running.files import atomic_write
from running.threads import map_ahead


class Activations:
    """What the layers before a cut make of photographs, for the layers behind it.

    They are computed once for each view of a photograph that is asked for and kept, in memory
    or in a file; where they do not fit, anew each time, with the same result. With cut 0
    they are the photographs' pixels (see `Pixels`).

    Args:
        model: a network from `for_inference`.
        cut: the number of layers before the cut.
        paths: the photographs.
        preprocessing: the network's.
        views: how many views of each photograph are needed; 0 is the photograph as it is,
            the others are random.
        seed: what the random views depend on, with their number and the photograph's.
        workers: threads that decode.
        folder: where files may lie.
        data: what tells these photographs from others, should a later run find the files.
        progress: is given batches, their number of photographs and a word for them, and
            passes them on.
        processes: share the photographs out; these are the activations of this one's share,
            and `paths`, in the end, is that share.
    """

    # Bytes that may be kept in memory; more goes to files, of at most half the free disk.
    MEMORY = 2 * 2**30

    def __init__(
        self,
        model: Classifier,
        cut: int,
        paths: Sequence[str],
        preprocessing: Preprocessing,
        views: int = 1,
        seed: int = 0,
        workers: int = 1,
        folder: str | os.PathLike = ".",
        data: str = "",
        progress: Callable[[Iterator, int, str], Iterator] = lambda batches, *_: batches,
        processes: Processes = ALONE,
    ):
        self.model, self.cut, self.views, self.progress = model, cut, views, progress
        self.paths, self.processes = processes.share_of(paths), processes
        self.folder, self.memory = folder, self.MEMORY // processes.size
        self.pixels = Pixels(
            paths, preprocessing, seed, workers, 0 if cut else self.memory, processes
        )
        self.filled = np.zeros((views, len(self.paths)), bool)
        self.file: Path | None = None
        # (views, N, H, W, C), or without H and W, and in words where that is
        self.kept, self.place = self._make_room(data) if cut else (None, "nowhere")

    def _make_room(self, data: str) -> tuple[torch.Tensor | None, str]:
        side = self.pixels.preprocessing.crop
        images = torch.zeros(1, side, side, 3, dtype=torch.uint8)
        row = _to_rows(next(infer(self.model, self._first, [images])))
        shape = (self.views, len(self.paths), *row.shape[1:])
        size = math.prod(shape) * row.element_size()
        if size <= self.memory:
            return torch.empty(shape, dtype=row.dtype), f"in memory ({size / 1e9:.1f} GB)"
        file = Path(self.folder, f".activations.{self._identity(data)}.tmp")
        free = shutil.disk_usage(self.folder).free
        try:
            found = file.exists() and file.stat().st_size == size
            if found or 2 * size * self.processes.size <= free:
                with open(file, "r+b" if found else "w+b") as opened:
                    # A disk that fills is found out now.
                    os.posix_fallocate(opened.fileno(), 0, size)
                    self.mapped = np.memmap(opened, np.uint8, "r+")
                self.file = file
                if found:
                    self._restore_filled()
                kept = torch.from_numpy(self.mapped).view(row.dtype).view(shape)
                return kept, f"in a file in {self.folder} ({size / 1e9:.1f} GB)"
        except (AttributeError, OSError):  # no such call on this system, or no room after all
            file.unlink(missing_ok=True)
        return None, f"nowhere, as there is no room for {size / 1e9:.1f} GB"

    def _identity(self, data: str) -> str:
        """Name what the activations depend on, in short."""
        whole = hashlib.sha256(
            repr(
                (
                    data,
                    self.paths,
                    self.pixels.numbers,
                    self.views,
                    self.pixels.seed,
                    self.cut,
                    self.pixels.preprocessing,
                    versions(),
                )
            ).encode(errors="replace")
        )
        for layer in chain(self.model.body)[: self.cut]:
            for value in layer.state_dict().values():
                whole.update(str(value.dtype).encode())
                whole.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
        return whole.hexdigest()[:16]

    @property
    def note(self) -> Path:
        """The file beside the file, of one bit for each row that is filled."""
        return self.file.with_suffix(".filled.tmp")

    def _restore_filled(self) -> None:
        """Read which rows of the file an earlier run filled; without a whole note, none."""
        with suppress(OSError):
            bits = np.frombuffer(self.note.read_bytes(), np.uint8)
            if bits.size == -(-self.filled.size // 8):
                self.filled = (
                    np.unpackbits(bits, count=self.filled.size)
                    .astype(bool)
                    .reshape(self.filled.shape)
                )

    def room(self, *shape: int) -> torch.Tensor:
        """Make room for float32 numbers: in memory, or in a file that ends with the process."""
        size = 4 * math.prod(shape)
        if size > self.memory and 2 * size <= shutil.disk_usage(self.folder).free:
            with suppress(AttributeError, OSError), tempfile.TemporaryFile(dir=self.folder) as file:
                os.posix_fallocate(file.fileno(), 0, size)
                return torch.from_numpy(np.memmap(file, np.float32, "r+", shape=shape))
        return torch.empty(shape)

    def discard(self) -> None:
        """Remove the file, if there is one: nobody will go on from here."""
        if self.file:
            self.kept = self.mapped = None
            self.file.unlink(missing_ok=True)
            self.note.unlink(missing_ok=True)

    def batches(
        self, photographs: np.ndarray, views: np.ndarray, batch_size: int | None = None
    ) -> Iterator[torch.Tensor]:
        """Yield the activations of photographs (indices) in their order.

        `views` has the number of a view for each. A batch is what `Classifier.first`
        returns for `batch_size` photographs, the last one for what is left.

        Raises:
            ImageError: a photograph cannot be read.
        """
        device = self.model.mean.device
        if batch_size is None:
            batch_size = rows_at_once(device)
        if self.kept is None:
            yield from self._computed(photographs, views, batch_size)
            return
        missing = ~self.filled[views, photographs]
        if missing.any():
            self._fill(photographs[missing], views[missing])
        for start in range(0, len(photographs), batch_size):
            part = slice(start, start + batch_size)
            rows = self.kept[torch.from_numpy(views[part]), torch.from_numpy(photographs[part])]
            rows = to_device(rows, device)
            yield rows.permute(0, 3, 1, 2) if rows.dim() == 4 else rows

    def _fill(self, photographs: np.ndarray, views: np.ndarray) -> None:
        batches = self._computed(photographs, views, rows_at_once(self.model.mean.device))
        done = 0
        for x in self.progress(batches, len(photographs), "new views"):
            part = slice(done, done + len(x))
            self.kept[torch.from_numpy(views[part]), torch.from_numpy(photographs[part])] = (
                _to_rows(x).cpu()
            )
            done += len(x)
        self.filled[views, photographs] = True
        if self.file:  # first the numbers, then the note that they are there
            self.mapped.flush()
            with atomic_write(self.note) as note:
                note.write(np.packbits(self.filled).tobytes())

    def _computed(
        self, photographs: np.ndarray, views: np.ndarray, batch_size: int
    ) -> Iterator[torch.Tensor]:
        batches = self.pixels.batches(photographs, views, batch_size)
        if self.cut:
            return infer(self.model, self._first, batches, self.pixels.look)
        device = self.model.mean.device
        look = partial(self.pixels.look, device=device)
        # A CPU has enough to do with learning; a GPU should not have to wait.
        return map_ahead(look, batches, 1, 2) if device.type == "cuda" else map(look, batches)

    def _first(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.first(images, self.cut)


def discard_others(
    folder: str | os.PathLike, activations: Iterable[Activations], processes: Processes = ALONE
) -> None:
    """Remove activations' files that runs left in a folder when they were killed."""
    files = {
        *processes.collect_objects(
            [path for each in activations if each.file for path in (each.file, each.note)]
        )
    }
    if processes.first:
        for path in Path(folder).glob(".activations.*.tmp"):
            if path not in files:
                path.unlink(missing_ok=True)


def _to_rows(x: torch.Tensor) -> torch.Tensor:
    """Put maps (N, C, H, W) into the order of their memory, (N, H, W, C)."""
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x
