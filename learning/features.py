"""What the head sees of photographs, in half precision, and the file that keeps it.

The file is in the run's folder: a later run with the same body computes the features of new
photographs only. A head is always fitted on the rounded features, kept or not, so that it is the
same in both cases.
"""

import os
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from images.decode import Preprocessing
from images.manifest import DIGEST
from learning.activations import Activations, digest_of
from learning.resources import Resources
from network.classifier import Classifier
from network.inference import infer
from running.environment import versions
from running.errors import RunError
from running.files import atomic_write

VERSION = 1  # of what is computed, beside weights and preprocessing

MAGIC = b"features of photographs\n"
HEADER = 64  # bytes: MAGIC, 32 of the identity, the number of features
CHECKSUM = 4  # bytes
BLOCK = 512  # rows that are read at a time

# Bytes of the largest file: a quarter of a million photographs of the default network.
LARGEST_FILE = 2_000_000_000

LARGEST_HALF = 65504.0


class FeatureCache:
    """The features of photographs, each computed once where a file may keep them.

    A row of the file is the digest of a photograph's file, its features (float16) and a checksum of
    both. Rows are only appended, so that a killed run loses its last one at most. Rows that are not
    whole do not count, nor do those of another `identity`: 64 hexadecimal digits, see `identify`.
    Without a path nothing is kept.
    """

    def __init__(self, path: Path | None = None, identity: str = "", width: int = 0):
        self.path, self.width = path, width
        self.header = MAGIC + bytes.fromhex(identity) + width.to_bytes(8, "little")
        self.kind = np.dtype(
            [("digest", f"V{DIGEST}"), ("features", "<f2", (width,)), ("check", "<u4")]
        )
        self.row = self.kind.itemsize
        self.places: dict[bytes, int] = {}  # the number of each photograph's row
        self.rows = 0  # whole ones, of which some may be stale
        self.digests: Mapping[str, bytes] = {}  # of the run's photographs, by path
        self.warn: Callable[[str], None] = lambda text: None
        self._find_rows()

    def _find_rows(self) -> None:
        self.places, self.rows = {}, 0
        if not self.path:
            return
        with suppress(OSError), open(self.path, "rb") as file:
            if file.read(HEADER) == self.header:
                self.rows = (os.path.getsize(self.path) - HEADER) // self.row
        for i, row in self._each_row():
            if zlib.crc32(row.tobytes()[:-CHECKSUM]) == row["check"]:
                self.places[row["digest"].tobytes()] = i

    def _block(self, first: int) -> np.ndarray:
        """Read BLOCK rows: of mapped ones the pages would count as memory of this process."""
        assert self.path
        return np.fromfile(self.path, self.kind, BLOCK, offset=HEADER + first * self.row)

    def _each_row(self) -> Iterator[tuple[int, np.void]]:
        for first in range(0, self.rows, BLOCK):
            yield from enumerate(self._block(first), first)

    def read(self, digests: Collection[bytes], into: torch.Tensor) -> np.ndarray:
        """Copy the features that are there into rows (n, F); return for which: (n,), bool."""
        rows = np.array([self.places.get(digest, -1) for digest in digests], int)
        for number in np.unique(rows[rows >= 0] // BLOCK).tolist():
            inside = np.flatnonzero((rows >= 0) & (rows // BLOCK == number))
            block = self._block(BLOCK * number)["features"]
            features = block[rows[inside] % BLOCK].astype(np.float32)
            into[torch.from_numpy(inside)] = torch.from_numpy(features)
        return rows >= 0

    def append(self, digests: Collection[bytes], features: np.ndarray) -> None:
        """Add rows of photographs (n,), float16 (n, F); raise OSError if there is no room."""
        assert self.path
        new = np.zeros(len(features), self.kind)
        new["digest"] = np.frombuffer(b"".join(digests), f"V{DIGEST}")
        new["features"] = features
        for row in new:
            row["check"] = zlib.crc32(row.tobytes()[:-CHECKSUM])
        with open(self.path, "r+b" if self.rows else "w+b") as file:
            if not self.rows:
                file.write(self.header)
            file.truncate(HEADER + self.rows * self.row)  # half a row of a killed run
            file.seek(0, os.SEEK_END)
            file.write(new.tobytes())
        self.places |= {digest: self.rows + i for i, digest in enumerate(digests)}
        self.rows += len(new)

    def take(
        self, digests: Mapping[str, bytes], resources: Resources, warn: Callable[[str], None]
    ) -> None:
        """Take the digests of the run's photographs, by path; keep features if there is room.

        `warn` is called if they cannot be kept, now or later.
        """
        self.digests, needed, self.warn = digests, {*digests.values()}, warn
        if not self.path:
            return
        size = HEADER + self.row * len(needed)
        new = self.row * len(needed - self.places.keys())
        if size > LARGEST_FILE or not resources.fits_on_disk(new):
            warn(f"features are not kept for an --update: no room for {size / 1e6:.0f} MB")
            self.path, self.places = None, {}
        elif 2 * len(needed & self.places.keys()) < self.rows:  # most rows are stale
            kept = {row for digest, row in self.places.items() if digest in needed}
            with suppress(RunError), atomic_write(self.path) as file:
                file.write(self.header)
                file.writelines(row.tobytes() for i, row in self._each_row() if i in kept)
            self._find_rows()

    def count_missing(self) -> int:
        """Count the photographs whose features have to be computed."""
        return len({*self.digests.values()} - self.places.keys())

    def of(
        self, activations: Activations, description: str = "features", view: int = 0
    ) -> torch.Tensor:
        """Compute or read the features of a view of photographs: float32 (N, F).

        The file keeps those of the photographs as they are, view 0. They are rounded to half
        precision. Raises RunError if they are not finite.
        """
        paths, resources = activations.paths, activations.resources
        model, num_frozen = activations.model, activations.num_frozen
        features: torch.Tensor | None = None
        missing = np.ones(len(paths), bool)
        is_kept = self.path is not None and view == 0
        if is_kept:
            features = resources.allocate(len(paths), self.width)
            with suppress(OSError, IndexError):  # gone since: then all are computed again
                missing = ~self.read([self.digests[path] for path in paths], features)
        indices = np.flatnonzero(missing)
        views = np.full(len(indices), view)
        batches = activations.batches(indices, views) if len(indices) else ()
        shown = resources.progress(batches, len(indices), description)
        done = 0
        for part in infer(model, lambda x: model.features(x, num_frozen), shown):
            if not part.isfinite().all():
                raise RunError(
                    "the network's features are not finite numbers; its weights are damaged"
                )
            rounded = part.cpu().clamp(-LARGEST_HALF, LARGEST_HALF).half()
            places = indices[done : done + len(part)]
            if features is None:  # one block: for many photographs twice the memory is too much
                features = resources.allocate(len(paths), part.shape[1])
            features[torch.from_numpy(places)] = rounded.float()
            done += len(part)
            if is_kept and self.path:
                lost = activations.photographs.unreadable
                known = [k for k, i in enumerate(places.tolist()) if i not in lost]
                digests = [self.digests[paths[i]] for i in places[known].tolist()]
                try:
                    self.append(digests, rounded[known].numpy())
                except OSError as error:  # the run does without
                    why = error.strerror or error
                    self.warn(f"features are no longer kept for an --update: {self.path}: {why}")
                    self.path = None
        assert features is not None
        return features


def identify(model: Classifier, preprocessing: Preprocessing) -> str:
    """Name what the features of a network from `for_inference` depend on beside the photographs."""
    depends = VERSION, model.feature_layers, model.mean.device.type, preprocessing, versions()
    return digest_of(depends, [model.body])
