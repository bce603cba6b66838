"""What the head sees of photographs, rounded to half precision, and the file that keeps it.

The file lies in the run's folder, so that a later run computes nothing anew for photographs
that it finds there. A head is always solved on the rounded features, kept or not: so it is the
same in both cases.
"""

import hashlib
import os
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from images.decode import Preprocessing
from images.manifest import DIGEST
from learning.activations import Activations
from learning.resources import Resources
from network.checkpoint import describe_head
from network.classifier import Classifier
from network.inference import for_inference, infer
from running.environment import versions
from running.errors import RunError
from running.files import atomic_write

if TYPE_CHECKING:
    from learning.run import Run

VERSION = 1  # of what is computed, beside weights and preprocessing

MAGIC = b"features of photographs\n"
HEADER = 64  # bytes: MAGIC, 32 of the identity, the number of features
CHECKSUM = 4  # bytes
BLOCK = 512  # rows that are read at a time

# Bytes of the largest file: a quarter of a million photographs of the default network.
LARGEST_FILE = 2_000_000_000

LARGEST_HALF = 65504.0


class FeatureFile:
    """Rows of photographs' features, found by the digests of the photographs' files.

    A row is the digest, the features (float16) and a checksum of both. Rows are only appended,
    so that a run that is killed leaves those before; what is not whole counts as not there, and
    so does what a network of another identity has left.
    """

    def __init__(self, path: Path, identity: str, width: int):
        self.path, self.width = path, width
        self.header = MAGIC + bytes.fromhex(identity) + width.to_bytes(8, "little")
        self.row = DIGEST + 2 * width + CHECKSUM
        self.kind = np.dtype(
            [("digest", f"V{DIGEST}"), ("features", "<f2", (width,)), ("check", "<u4")]
        )
        self.places: dict[bytes, int] = {}  # the number of each photograph's row
        self.rows = 0  # whole ones, of which some may be stale
        if self._is_ours():
            for first, rows in self._blocks():
                for i, (row, content) in enumerate(zip(rows, _bytes(rows))):
                    if zlib.crc32(content[:-CHECKSUM]) == row["check"]:
                        self.places[row["digest"].tobytes()] = first + i

    def _is_ours(self) -> bool:
        """Tell whether the file is there and of this identity; count its rows."""
        with suppress(OSError), open(self.path, "rb") as file:
            if file.read(HEADER) == self.header:
                self.rows = (os.path.getsize(self.path) - HEADER) // self.row
                return True
        return False

    def _blocks(self, wanted: Collection[int] | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield rows, a block at a time, with the number of the first; `wanted` are blocks.

        They are read, not mapped: mapped pages would count as memory of this process.
        """
        blocks = range(-(-self.rows // BLOCK)) if wanted is None else wanted
        if not blocks:
            return
        with open(self.path, "rb") as file:
            for first in (BLOCK * block for block in blocks):
                file.seek(HEADER + first * self.row)
                content = file.read(min(BLOCK, self.rows - first) * self.row)
                yield first, np.frombuffer(content, self.kind)

    def read(self, digests: Collection[bytes], into: torch.Tensor) -> np.ndarray:
        """Put what is there of some photographs (n) into rows (n, F); tell which is: (n,), bool."""
        found = np.array([digest in self.places for digest in digests], bool)
        rows = np.array([self.places.get(digest, -1) for digest in digests], int)
        order = np.argsort(rows, kind="stable")
        order = order[np.count_nonzero(~found) :]  # by their places in the file
        done = 0
        for first, block in self._blocks(np.unique(rows[order] // BLOCK).tolist()):
            until = int(np.searchsorted(rows[order], first + len(block)))
            part = order[done:until]
            features = block["features"][rows[part] - first]
            into[torch.from_numpy(part)] = torch.from_numpy(features.astype(np.float32))
            done = until
        return found

    def append(self, digests: Collection[bytes], features: np.ndarray) -> None:
        """Add rows of photographs (n,), float16 (n, F).

        Raises:
            OSError: there is no room.
        """
        new = _pack(digests, features, self.kind)
        with open(self.path, "r+b" if self.rows else "w+b") as file:
            if not self.rows:
                file.write(self.header)
            file.truncate(HEADER + self.rows * self.row)  # half a row of a killed run
            file.seek(0, os.SEEK_END)
            file.write(new.tobytes())
        for i, digest in enumerate(digests):
            self.places[digest] = self.rows + i
        self.rows += len(new)

    def drop_stale(self, needed: Collection[bytes]) -> None:
        """Write the file anew without what nobody needs, where that is more than half of it."""
        if 2 * len(self.places.keys() & needed) >= self.rows:
            return
        places: dict[bytes, int] = {}
        with atomic_write(self.path) as file:
            file.write(self.header)
            for first, rows in self._blocks():
                for i, row in enumerate(rows):
                    digest = row["digest"].tobytes()
                    if digest in needed and self.places.get(digest) == first + i:
                        file.write(row.tobytes())
                        places[digest] = len(places)
        self.places, self.rows = places, len(places)


def _pack(digests: Collection[bytes], features: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Make rows of a file."""
    rows = np.zeros(len(features), kind)
    for row, digest, each in zip(rows, digests, features, strict=True):
        row["digest"], row["features"] = np.void(digest), each
    for row, content in zip(rows, _bytes(rows)):
        row["check"] = zlib.crc32(content[:-CHECKSUM])
    return rows


def _bytes(rows: np.ndarray) -> np.ndarray:
    return rows.view(np.uint8).reshape(len(rows), rows.itemsize)


class FeatureCache:
    """What the head sees of photographs, each computed once, if a file may keep it.

    Args:
        digests: of the photographs, by path.
        file: which keeps the features of a body that does not change.
    """

    def __init__(self, digests: Mapping[str, bytes] | None = None, file: FeatureFile | None = None):
        self.digests, self.file = digests or {}, file
        self.warn: Callable[[str], None] = lambda text: None

    @property
    def known(self) -> Collection[bytes]:
        """The digests of the photographs that were computed before."""
        return self.file.places.keys() if self.file else ()

    def count_missing(self) -> int:
        """Count the photographs whose features have to be computed."""
        return len({*self.digests.values()} - {*self.known})

    def of(self, activations: Activations, description: str = "features") -> torch.Tensor:
        """Compute what the head sees of photographs as they are, or read it: float32 (N, F).

        The numbers are rounded to half precision.

        Raises:
            RunError: they are not finite.
        """
        paths, resources = activations.paths, activations.resources
        model, num_frozen = activations.model, activations.num_frozen
        features: torch.Tensor | None = None
        missing = np.ones(len(paths), bool)
        if self.file:
            features = resources.allocate(len(paths), self.file.width)
            with suppress(OSError):  # gone since: then all are computed again
                missing = ~self.file.read([self.digests[path] for path in paths], features)
        indices = np.flatnonzero(missing)
        batches = activations.batches(indices, np.zeros(len(indices), int)) if len(indices) else ()
        shown = resources.progress(batches, len(indices), description)
        done = 0
        for part in infer(model, lambda x: model.features(x, num_frozen), shown):
            rounded = _round(part.cpu())
            places = indices[done : done + len(part)]
            if features is None:  # one block: for many photographs twice the memory is too much
                features = resources.allocate(len(paths), part.shape[1])
            features[torch.from_numpy(places)] = rounded.float()
            self._keep([paths[i] for i in places.tolist()], rounded)
            done += len(part)
        assert features is not None
        return features

    def _keep(self, paths: Collection[str], rows: torch.Tensor) -> None:
        if self.file:
            try:
                self.file.append([self.digests[path] for path in paths], rows.numpy())
            except OSError as error:  # no room after all: the run does without
                why = error.strerror or error
                self.warn(f"features are no longer kept for an --update: {self.file.path}: {why}")
                self.file = None

    def take(
        self, digests: Mapping[str, bytes], resources: Resources, warn: Callable[[str], None]
    ) -> None:
        """Learn which photographs there are.

        What the file knows of others goes, where that is most of it and there is room to write
        the rest.

        Args:
            digests: of the photographs, by path.
            resources: know the disk.
            warn: is told where features cannot be kept, now or later.
        """
        self.digests, needed, self.warn = digests, {*digests.values()}, warn
        if self.file:
            size = HEADER + self.file.row * len(needed)
            new = self.file.row * len(needed - self.file.places.keys())
            if size > LARGEST_FILE or not resources.fits_on_disk(new):
                why = "more than the file may have" if size > LARGEST_FILE else "the disk is full"
                warn(f"features are not kept for an --update: {size / 1e9:.1f} GB, {why}")
                self.file = None
            else:
                with suppress(RunError):
                    self.file.drop_stale(needed)


def _round(features: torch.Tensor) -> torch.Tensor:
    """Round features to half precision.

    Raises:
        RunError: they are not finite.
    """
    if not features.isfinite().all():
        raise RunError("the network's features are not finite numbers; its weights are damaged")
    return features.clamp(-LARGEST_HALF, LARGEST_HALF).half()


def open_features(path: Path, run: "Run", keeps: bool) -> FeatureCache:
    """Open the file of a run's folder, where the body of the run stays as it is.

    `keeps`: whether features may be kept at all.
    """
    is_frozen = run.is_update or not run.settings.recipe.epochs
    if not keeps or run.weights_source is None or run.has_learned or not is_frozen:
        return FeatureCache()
    identity = identify(for_inference(run.model), run.preprocessing)
    return FeatureCache(file=FeatureFile(path, identity, describe_head(run.model)["in_features"]))


def identify(model: Classifier, preprocessing: Preprocessing) -> str:
    """Name what features depend on beside the photographs: 64 hexadecimal digits.

    `model` is from `for_inference`.
    """
    depends = VERSION, model.feature_layers, model.mean.device.type, preprocessing, versions()
    whole = hashlib.sha256(repr(depends).encode())
    for key, value in model.body.state_dict().items():
        whole.update(f"{key} {value.dtype}".encode())
        whole.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return whole.hexdigest()
