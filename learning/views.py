"""Views of photographs: as they are, or random parts of them, mirrored or shifted."""

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from learning.resources import Resources
from network.devices import to_device
from photographs.batches import load_images, typical_side
from photographs.images import Preprocessing


class View(NamedTuple):
    """A photograph, and which view of it is wanted."""

    image: np.ndarray  # uint8 (H, W, 3)
    number: int  # 0: as it is; the others are random
    draw: np.ndarray  # (5,), 0..1: what a random view is made of


class PhotographViews:
    """Photographs as a network sees them: as they are, or random views of them.

    Views are random parts; of pictures that are just of the network's size, they are shifted.
    They depend on nothing but the seed, the view's number and the photograph.

    Args:
        paths: all photographs; `paths`, in the end, are this process's share of them.
        preprocessing: the network's.
        seed: what random views depend on, with their number and the photograph's.
        resources: threads that decode, and processes that share the photographs out.
        memory: bytes that may be kept of what views are made of, so that it is decoded once.
    """

    def __init__(
        self,
        paths: Sequence[str],
        preprocessing: Preprocessing,
        seed: int = 0,
        resources: Resources = Resources(),
        memory: int = 0,
    ):
        self.preprocessing, self.seed, self.resources = preprocessing, seed, resources
        self.total = len(paths)
        share_of = resources.processes.share_of
        self.paths, self.numbers = share_of(paths), share_of(range(self.total))
        self.shifted = preprocessing.crop == preprocessing.resize == typical_side(paths)
        self.decoded: dict[int, np.ndarray] = {}
        self.memory_left = memory

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
        """Draw the numbers that decide about each view: (n, 5), 0..1."""
        numbers = np.empty((len(views), 5))
        for view in np.unique(views):
            # (seed, epoch) alone is what the order of the photographs comes from.
            drawn = np.random.default_rng((self.seed, view, 1)).random((self.total, 5))
            chosen = views == view
            numbers[chosen] = self.resources.processes.share_of(drawn)[photographs[chosen]]
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
        parts = (
            random_shifts(numbers, self.preprocessing.crop)
            if self.shifted
            else random_parts(numbers, sizes)
        )
        parts[as_it_is, :2], parts[as_it_is, 2:] = 0, sizes[as_it_is]
        mirrored = (numbers[:, 4] < 0.5) & ~as_it_is
        # A CPU looks at images of one size at a time: rounding may depend on what they are
        # padded to, and there a run that goes on has to see the same as one left in peace.
        kinds = np.zeros(len(sizes), int)
        if device.type == "cpu":
            kinds = np.unique(sizes, axis=0, return_inverse=True)[1].reshape(-1)
        groups = [np.flatnonzero(kinds == kind) for kind in range(kinds.max() + 1)]
        made = [
            augment(
                to_device(stack_padded([images[i] for i in group]), device),
                sizes[group],
                parts[group],
                mirrored[group],
                self.preprocessing.crop,
            )
            for group in groups
        ]
        return torch.cat(made)[to_device(np.argsort(np.concatenate(groups)), device)]


def stack_padded(images: Sequence[np.ndarray]) -> np.ndarray:
    """Put images (H, W, 3) of any sizes on top of each other, the smaller ones padded."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    whole = np.zeros((len(images), height, width, 3), np.uint8)
    for row, image in zip(whole, images):
        row[: image.shape[0], : image.shape[1]] = image
    return whole


def random_parts(numbers: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Choose a part of each image: half of its area to all of it, its sides within 3:4.

    The crop of Szegedy et al., "Going deeper with convolutions" (CVPR 2015), kept large
    enough to hold the flower. Colours stay: they tell one flower from another.

    Args:
        numbers: (N, 4 or more), 0..1, of which area, ratio and place are made.
        sizes: height and width of each image, in pixels: (N, 2).

    Returns:
        Top, left, height and width of each part, in pixels: (N, 4).
    """
    area = (0.5 + numbers[:, 0] / 2) * sizes.prod(1)
    ratio = np.exp((2 * numbers[:, 1] - 1) * math.log(4 / 3))
    sides = np.minimum(np.sqrt(np.stack([area / ratio, area * ratio], 1)), sizes)
    return np.concatenate([numbers[:, 2:4] * (sizes - sides), sides], 1)


def random_shifts(numbers: np.ndarray, side: int) -> np.ndarray:
    """Choose how far to shift each square image: by whole pixels, up to a tenth of its side.

    Args:
        numbers: (N, 4 or more), 0..1; the last two of four decide.
        side: of all images.

    Returns:
        Top, left, height and width of what is to be seen, in pixels: (N, 4).
    """
    most = side // 10
    places = np.floor(numbers[:, 2:4] * (2 * most + 1)) - most
    return np.concatenate([places, np.full(places.shape, side)], 1)


def augment(
    images: torch.Tensor, sizes: np.ndarray, parts: np.ndarray, mirrored: np.ndarray, side: int
) -> torch.Tensor:
    """Scale a part of each image to a square and mirror some, wherever the images are.

    Beyond an edge stands the image, mirrored. Values between pixels are bilinear; parts are
    not much larger than the square, so that no pixel goes unseen.

    Args:
        images: uint8 (N, H, W, 3); what is smaller lies at the top left.
        sizes: height and width of each, in pixels: (N, 2).
        parts: top, left, height and width of each part, in pixels: (N, 4).
        mirrored: whether to mirror it, too: (N,).
        side: of the square.

    Returns:
        uint8 (N, side, side, 3).
    """
    steps = (np.arange(side) + 0.5) / side
    places: list[np.ndarray] = []  # of the square's rows and columns: (N, side)
    for axis, length in enumerate(images.shape[1:3]):
        place = parts[:, axis, None] + steps * parts[:, axis + 2, None] - 0.5  # in pixels
        last = sizes[:, axis, None] - 1
        place = last - abs(last - abs(place))
        places.append(
            2 * place / max(length - 1, 1) - 1
        )  # from the first pixel, -1, to the last, 1
    rows, columns = places
    columns = np.where(mirrored[:, None], columns[:, ::-1], columns)
    y, x = (to_device(place.astype(np.float32), images.device) for place in (rows, columns))
    grid = torch.stack([x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], 3)
    views = F.grid_sample(
        images.permute(0, 3, 1, 2).float(), grid, padding_mode="border", align_corners=True
    )
    return views.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def mirror_some(batches: Iterable[torch.Tensor], which: np.ndarray) -> Iterator[torch.Tensor]:
    """Mirror some of the maps (N, C, H, W) of batches, those where `which` is true.

    They are nearly what the network would make of the mirrored photographs.
    """
    done = 0
    for maps in batches:
        mirrored = to_device(which[done : done + len(maps)], maps.device)
        done += len(maps)
        yield torch.where(mirrored.view(-1, 1, 1, 1), maps.flip(3), maps)
