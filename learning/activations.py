"""Activations: what the frozen layers before a cut make of photographs, computed once."""

import hashlib
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from learning.augmentation import VERSION
from learning.cache import ActivationCache, open_cache
from learning.views import PhotographViews
from network.classifier import Classifier, chain
from network.devices import make_ahead, rows_at_once, to_device
from network.inference import infer
from running.environment import versions


class Activations:
    """What the layers before a cut make of photographs, for the layers behind it.

    They are computed once for each view of a photograph that is asked for and cached; where
    there is no room for that, anew each time, with the same result. With cut 0 they are the
    photographs' pixels.

    Args:
        model: a network from `for_inference`.
        cut: the number of layers before the cut.
        photographs: this process's share of them is `paths`.
        num_views: how many views of each are needed; 0 is the photograph as it is, the others
            are random.
        identity: what tells these photographs from others, should a later run find the cache.
    """

    def __init__(
        self,
        model: Classifier,
        num_frozen: int,
        photographs: PhotographViews,
        num_views: int = 1,
        identity: str = "",
    ):
        self.model, self.num_frozen, self.num_views = model, num_frozen, num_views
        self.photographs, self.paths = photographs, photographs.paths
        self.resources = photographs.resources
        self.cache = self._open_cache(identity) if num_frozen else None

    @property
    def location(self) -> str:
        """Where the activations are kept, in words."""
        return self.cache.location if self.cache else "nowhere, as there is no room for them"

    def _open_cache(self, identity: str) -> ActivationCache | None:
        side = self.photographs.preprocessing.crop
        images = torch.zeros(1, side, side, 3, dtype=torch.uint8)
        row = _to_rows(next(infer(self.model, self._run_frozen, [images])))
        shape = (self.num_views, len(self.paths), *row.shape[1:])
        return open_cache(shape, row.dtype, self._identity(identity), self.resources)

    def _identity(self, photographs: str) -> str:
        """Name what the activations depend on, in short."""
        views = self.photographs
        whole = hashlib.sha256(
            repr(
                (
                    photographs,
                    self.paths,
                    views.numbers,
                    self.num_views,
                    views.seed,
                    views.varied,
                    VERSION,
                    self.num_frozen,
                    views.preprocessing,
                    versions(),
                )
            ).encode(errors="replace")
        )
        for layer in chain(self.model.body)[: self.num_frozen]:
            for value in layer.state_dict().values():
                whole.update(str(value.dtype).encode())
                whole.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
        return whole.hexdigest()[:16]

    def batches(
        self, photographs: np.ndarray, views: np.ndarray, batch_size: int | None = None
    ) -> Iterator[torch.Tensor]:
        """Yield the activations of photographs (indices) in their order.

        `views` has the number of a view for each. A batch is what `Classifier.run_frozen`
        returns for `batch_size` photographs, the last one for what is left.

        Raises:
            ImageError: a photograph cannot be read.
        """
        device = self.model.mean.device
        if batch_size is None:
            batch_size = rows_at_once(device)
        if self.cache is None:
            yield from self._compute(photographs, views, batch_size)
            return
        missing = self.cache.missing(photographs, views)
        if missing.any():
            self._fill(self.cache, photographs[missing], views[missing])
        for start in range(0, len(photographs), batch_size):
            part = slice(start, start + batch_size)
            rows = to_device(self.cache.read(photographs[part], views[part]), device)
            yield rows.permute(0, 3, 1, 2) if rows.dim() == 4 else rows

    def in_order(self) -> Iterator[torch.Tensor]:
        """Yield the activations of every photograph as it is."""
        count = len(self.paths)
        return self.batches(np.arange(count), np.zeros(count, int))

    def _fill(self, cache: ActivationCache, photographs: np.ndarray, views: np.ndarray) -> None:
        batches = self._compute(photographs, views, rows_at_once(self.model.mean.device))
        done = 0
        for x in self.resources.progress(batches, len(photographs), "new views"):
            part = slice(done, done + len(x))
            cache.write(photographs[part], views[part], _to_rows(x).cpu())
            done += len(x)
        cache.mark_filled(photographs, views)

    def _compute(
        self, photographs: np.ndarray, views: np.ndarray, batch_size: int
    ) -> Iterator[torch.Tensor]:
        batches = self.photographs.batches(photographs, views, batch_size)
        if self.num_frozen:
            return infer(self.model, self._run_frozen, batches, self.photographs.make)
        device = self.model.mean.device
        make = partial(self.photographs.make, device=device)
        # A CPU has enough to do with learning; a GPU should not have to wait.
        return make_ahead(make, batches, device) if device.type == "cuda" else map(make, batches)

    def _run_frozen(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.run_frozen(images, self.num_frozen)

    def discard(self) -> None:
        """Remove what lies on the disk: nobody will go on from here."""
        if self.cache:
            self.cache.discard()


def _to_rows(x: torch.Tensor) -> torch.Tensor:
    """Put maps (N, C, H, W) into the order of their memory, (N, H, W, C)."""
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x
