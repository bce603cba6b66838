"""What the head sees of photographs, in half precision, and the file that keeps it.

The file is in the run's folder: a later run with the same body computes the features of new
photographs only. A head is always fitted on the rounded features, kept or not, so that it is the
same in both cases.
"""

import hashlib
import os
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from images.decode import Preprocessing
from images.manifest import DIGEST
from learning.activations import Activations
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


class FeatureFile:
    """Rows of features, found by the digests of the photographs' files.

    A row is the digest, the features (float16) and a checksum of both. Rows are only appended, so
    that a killed run loses its last one at most. Rows that are not whole do not count, nor do those
    of a network of another identity.
    """

    def __init__(self, path: Path, identity: str, width: int):
        self.path, self.width = path, width
        self.header = MAGIC + bytes.fromhex(identity) + width.to_bytes(8, "little")
        self.kind = np.dtype(
            [("digest", f"V{DIGEST}"), ("features", "<f2", (width,)), ("check", "<u4")]
        )
        self.row = self.kind.itemsize
        self.places: dict[bytes, int] = {}  # the number of each photograph's row
        self.rows = 0  # whole ones, of which some may be stale
        with suppress(OSError), open(path, "rb") as file:
            if file.read(HEADER) == self.header:
                self.rows = (os.path.getsize(path) - HEADER) // self.row
        for first, rows in self._blocks():
            for i, row in enumerate(rows, start=first):
                if zlib.crc32(row.tobytes()[:-CHECKSUM]) == row["check"]:
                    self.places[row["digest"].tobytes()] = i

    def _blocks(self, wanted: Iterable[int] | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield blocks of rows, wanted ones or all, with the number of the first row of each.

        They are read, not mapped: mapped pages would count as memory of this process.
        """
        if not self.rows:
            return
        with open(self.path, "rb") as file:
            for block in range(-(-self.rows // BLOCK)) if wanted is None else wanted:
                first = BLOCK * block
                file.seek(HEADER + first * self.row)
                content = file.read(min(BLOCK, self.rows - first) * self.row)
                yield first, np.frombuffer(content, self.kind)

    def read(self, digests: Collection[bytes], into: torch.Tensor) -> np.ndarray:
        """Copy the features that are there into rows (n, F); return for which: (n,), bool."""
        rows = np.array([self.places.get(digest, -1) for digest in digests], int)
        for first, block in self._blocks(np.unique(rows[rows >= 0] // BLOCK).tolist()):
            inside = np.flatnonzero((rows >= first) & (rows < first + len(block)))
            features = block["features"][rows[inside] - first].astype(np.float32)
            into[torch.from_numpy(inside)] = torch.from_numpy(features)
        return rows >= 0

    def append(self, digests: Collection[bytes], features: np.ndarray) -> None:
        """Add rows of photographs (n,), float16 (n, F); raise OSError if there is no room."""
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

    def drop_stale(self, needed: Collection[bytes]) -> None:
        """Write the file anew without what nobody needs, where that is more than half of it."""
        kept = {row: digest for digest, row in self.places.items() if digest in needed}
        if 2 * len(kept) >= self.rows:
            return
        with atomic_write(self.path) as file:
            file.write(self.header)
            for first, rows in self._blocks():
                file.writelines(row.tobytes() for i, row in enumerate(rows, first) if i in kept)
        self.places = {kept[row]: i for i, row in enumerate(sorted(kept))}
        self.rows = len(kept)


class FeatureCache:
    """The features of photographs, each computed once, if a file may keep it.

    `file` keeps the features of a body that does not change; `digests` are by path.
    """

    def __init__(self, file: FeatureFile | None = None, digests: Mapping[str, bytes] | None = None):
        self.file, self.digests = file, digests or {}
        self.warn: Callable[[str], None] = lambda text: None

    @property
    def known(self) -> Collection[bytes]:
        """The digests of the photographs whose features were computed before."""
        return self.file.places.keys() if self.file else ()

    def count_missing(self) -> int:
        """Count the photographs whose features have to be computed."""
        return len({*self.digests.values()} - {*self.known})

    def of(self, activations: Activations, description: str = "features") -> torch.Tensor:
        """Compute or read the features of photographs as they are: float32 (N, F).

        They are rounded to half precision. Raises RunError if they are not finite.
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
            if not part.isfinite().all():
                raise RunError(
                    "the network's features are not finite numbers; its weights are damaged"
                )
            rounded = part.cpu().clamp(-LARGEST_HALF, LARGEST_HALF).half()
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
            except OSError as error:  # the run does without
                why = error.strerror or error
                self.warn(f"features are no longer kept for an --update: {self.file.path}: {why}")
                self.file = None

    def take(
        self, digests: Mapping[str, bytes], resources: Resources, warn: Callable[[str], None]
    ) -> None:
        """Take the digests of the photographs, by path; make sure that there is room for them.

        `warn` is called if features cannot be kept, now or later.
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


def identify(model: Classifier, preprocessing: Preprocessing) -> str:
    """Name what the features of a network from `for_inference` depend on beside the photographs."""
    depends = VERSION, model.feature_layers, model.mean.device.type, preprocessing, versions()
    whole = hashlib.sha256(repr(depends).encode())
    for key, value in model.body.state_dict().items():
        whole.update(f"{key} {value.dtype}".encode())
        whole.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return whole.hexdigest()
