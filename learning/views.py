"""Views of photographs: as they are, or random ones."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from images.batches import load_images, typical_side
from images.decode import Preprocessing
from learning.augmentation import (
    NUMBERS,
    Augmentation,
    augment,
    draw_parts,
    draw_shifts,
    draw_views,
    needs_fine_grid,
)
from learning.resources import Resources
from network.devices import to_device


class View(NamedTuple):
    """A photograph, and which view of it is wanted."""

    image: np.ndarray  # uint8 (H, W, 3)
    number: int  # 0: as it is; the others are random
    draw: np.ndarray  # (NUMBERS,), 0..1: what a random view is made of


class PhotographViews:
    """Photographs as a network sees them: as they are, or random views of them.

    Random views are parts; of pictures that are just of the network's size, they are shifted.
    They depend on nothing but the seed, the view's number and the photograph.

    Args:
        paths: all photographs; `paths`, in the end, are this process's share of them.
        preprocessing: the network's.
        seed: what random views depend on, with their number and the photograph's.
        resources: threads that decode, and processes that share the photographs out.
        memory: bytes that may be kept of what views are made of, so that it is decoded once.
        varied: whether views that are parts are turned, too, and in other light, and so on.
    """

    def __init__(
        self,
        paths: Sequence[str],
        preprocessing: Preprocessing,
        seed: int = 0,
        resources: Resources = Resources(),
        memory: int = 0,
        varied: bool = False,
    ):
        self.preprocessing, self.seed, self.resources = preprocessing, seed, resources
        self.total = len(paths)
        shard = resources.processes.shard
        self.paths, self.numbers = shard(paths), shard(range(self.total))
        self.shifted = preprocessing.crop == preprocessing.resize == typical_side(paths)
        self.decoded: dict[int, np.ndarray] = {}
        self.memory_left = memory
        self.varied = varied

    def batches(
        self,
        photographs: np.ndarray,
        views: np.ndarray,
        batch_size: int,
    ) -> Iterator[list[View]]:
        """Yield views of photographs (indices) in their order; `views` has a number for each.

        Raises:
            ImageError: a photograph cannot be read.
        """
        images = self._load(photographs, (views > 0) & (not self.shifted), 3 * batch_size)
        wanted = map(View, images, views, self._draw(photographs, views))
        while batch := [*islice(wanted, batch_size)]:
            yield batch

    def _load(self, photographs: np.ndarray, whole: np.ndarray, ahead: int) -> Iterator[np.ndarray]:
        """Yield photographs, each whole or its centre, and keep what views are made of."""
        of_views = whole | self.shifted
        known = np.array([i in self.decoded for i in photographs.tolist()], bool) & of_views
        new = load_images(
            [self.paths[i] for i in photographs[~known]],
            self.preprocessing,
            self.resources.workers,
            ahead,
            whole[~known].tolist(),
        )
        for i, is_known, keep in zip(photographs.tolist(), known, of_views):
            image = self.decoded[i] if is_known else next(new)
            size = sys.getsizeof(image)
            if keep and i not in self.decoded and size <= self.memory_left:
                self.decoded[i] = image
                self.memory_left -= size
            yield image

    def _draw(self, photographs: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Draw the numbers that decide about each view: (n, NUMBERS), 0..1."""
        numbers = np.empty((len(views), NUMBERS))
        for view in np.unique(views):
            # (seed, epoch) alone is what the order of the photographs comes from.
            drawn = np.random.default_rng((self.seed, view, 1)).random((self.total, NUMBERS))
            chosen = views == view
            numbers[chosen] = self.resources.processes.shard(drawn)[photographs[chosen]]
        return numbers

    def make(self, batch: list[View], device: torch.device) -> torch.Tensor:
        """Make the pixels of a batch on a device: uint8 (n, S, S, 3)."""
        if device.type == "cuda":
            torch.cuda.set_device(device)  # of this thread
        images = [view.image for view in batch]
        as_it_is = np.array([view.number == 0 for view in batch])
        if as_it_is.all():
            return to_device(np.stack(images), device)
        numbers = np.stack([view.draw for view in batch])
        sizes = np.array([image.shape[:2] for image in images])
        how = self._augmentation(numbers, sizes).but_not(as_it_is, sizes)
        # A CPU looks at images of one size at a time: rounding may depend on what they are
        # padded to, and there a run that goes on has to see the same as one left in peace.
        fine = needs_fine_grid(how, self.preprocessing.crop)
        kinds = fine.astype(int)
        if device.type == "cpu":
            alike = np.concatenate([sizes, fine[:, None]], 1)
            kinds = np.unique(alike, axis=0, return_inverse=True)[1].reshape(-1)
        groups = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
        made = [
            augment(
                to_device(stack_padded([images[i] for i in group]), device),
                sizes[group],
                how.of(group),
                self.preprocessing.crop,
            )
            for group in groups
        ]
        return torch.cat(made)[to_device(np.argsort(np.concatenate(groups)), device)]

    def _augmentation(self, numbers: np.ndarray, sizes: np.ndarray) -> Augmentation:
        if self.shifted:
            return draw_shifts(numbers, self.preprocessing.crop)
        if self.varied:
            return draw_views(numbers, sizes)
        return Augmentation.of_parts(draw_parts(numbers, sizes), numbers[:, 4] < 0.5)


def stack_padded(images: Sequence[np.ndarray]) -> np.ndarray:
    """Put images (H, W, 3) of any sizes on top of each other, the smaller ones padded."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    whole = np.zeros((len(images), height, width, 3), np.uint8)
    for row, image in zip(whole, images):
        row[: image.shape[0], : image.shape[1]] = image
    return whole


def mirror_some(batches: Iterable[torch.Tensor], which: np.ndarray) -> Iterator[torch.Tensor]:
    """Mirror some of the maps (N, C, H, W) of batches, those where `which` is true.

    They are nearly what the network would make of the mirrored photographs.
    """
    done = 0
    for maps in batches:
        mirrored = to_device(which[done : done + len(maps)], maps.device)
        done += len(maps)
        yield torch.where(mirrored.view(-1, 1, 1, 1), maps.flip(3), maps)
