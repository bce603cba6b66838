"""Augmentation: views of photographs as other cameras, distances and hours would show them."""

import io
import math
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from network.devices import to_device

NUMBERS = 8  # that decide about a view
VERSION = 2  # raised when the same numbers make another view: cached ones are others then

# Of a view's side; a part that is larger is looked at on a grid of twice as many lines, so that no
# pixel of it goes unseen (photographs are no longer than `images.decode.LONGEST` allows).
FINE = 1.5

# One view in so many is of another kind, and how far that goes. Pixels are those of the view,
# whatever its side.
OTHER = 0.35
KINDS = {"blur": 0.22, "noise": 0.22, "jpeg": 0.12, "light": 0.16, "far": 0.16, "turned": 0.12}
FARTHEST = 3.0  # area that is seen, in areas of the photograph
STEEPEST = math.radians(30)
DARKEST, BRIGHTEST, WARMEST = 0.35, 1.8, 1.35
SHARPEST, BLURRIEST = 0.5, 2.2  # standard deviation in pixels
NOISIEST = 30.0  # standard deviation in grey values
LOWEST, HIGHEST = 15, 60  # quality of a JPEG


class Augmentation(NamedTuple):
    """What makes views of N images."""

    parts: np.ndarray  # top, left, height and width of what is seen, in pixels: (N, 4)
    mirrored: np.ndarray  # bool (N,)
    angles: np.ndarray  # by which the part is turned about its centre: (N,)
    gains: np.ndarray  # by which red, green and blue are multiplied: (N, 3)
    blurs: np.ndarray  # standard deviation in pixels, or 0: (N,)
    noises: np.ndarray  # standard deviation in grey values, or 0: (N,)
    qualities: np.ndarray  # of a JPEG, or 0 without one: (N,)
    seeds: np.ndarray  # of the noise: (N,)

    def of(self, rows: np.ndarray) -> "Augmentation":
        """Take those of some images (n,)."""
        return Augmentation(*(values[rows] for values in self))

    def but_not(self, left_alone: np.ndarray, sizes: np.ndarray) -> "Augmentation":
        """Show some images (bool (N,)) as they are."""
        plain = Augmentation.none(sizes)
        return Augmentation(
            *(
                np.where(left_alone.reshape(-1, *[1] * (one.ndim - 1)), one, other)
                for one, other in zip(plain, self)
            )
        )

    def degraded(self) -> np.ndarray:
        """List the images that get other light, blur or noise: (n,)."""
        return np.flatnonzero((self.gains != 1).any(1) | (self.blurs > 0) | (self.noises > 0))

    @classmethod
    def none(cls, sizes: np.ndarray) -> "Augmentation":
        """Show images of some sizes (N, 2) as they are."""
        count = len(sizes)
        return cls.of_parts(np.concatenate([np.zeros((count, 2)), sizes], 1), np.zeros(count, bool))

    @classmethod
    def of_parts(cls, parts: np.ndarray, mirrored: np.ndarray) -> "Augmentation":
        """Show parts (N, 4), some of them mirrored (N,), in the light that they have."""
        nothing = np.zeros(len(parts))
        gains = np.ones((len(parts), 3))
        return cls(parts, mirrored, nothing, gains, nothing, nothing, nothing, nothing)


def draw_shifts(numbers: np.ndarray, side: int) -> Augmentation:
    """Shift square images by whole pixels, up to a tenth of their side, and mirror half of them.

    Args:
        numbers: (N, NUMBERS), 0..1, that decide.
        side: of all images.
    """
    most = side // 10
    places = np.floor(numbers[:, 2:4] * (2 * most + 1)) - most
    parts = np.concatenate([places, np.full(places.shape, side)], 1)
    return Augmentation.of_parts(parts, numbers[:, 4] < 0.5)


def draw_parts(numbers: np.ndarray, sizes: np.ndarray, far: np.ndarray | None = None) -> np.ndarray:
    """Choose a part of each image: half of its area to all of it, its sides within 3:4.

    The crop of Szegedy et al., "Going deeper with convolutions" (CVPR 2015), kept large
    enough to hold the flower.

    Args:
        numbers: (N, 4 or more), 0..1, of which area, ratio and place are made.
        sizes: height and width of each image, in pixels: (N, 2).
        far: area to be seen instead where it is above 1, as if from farther away: (N,).

    Returns:
        Top, left, height and width of each part, in pixels: (N, 4).
    """
    area = 0.5 + numbers[:, 0] / 2
    largest = np.full(sizes.shape, 1.0)
    if far is not None:
        area = np.where(far > 1, far, area)
        largest = np.maximum(1, np.sqrt(far))[:, None]
    ratio = np.exp((2 * numbers[:, 1] - 1) * math.log(4 / 3))
    pixels = area * sizes.prod(1)
    sides = np.minimum(np.sqrt(np.stack([pixels / ratio, pixels * ratio], 1)), sizes * largest)
    return np.concatenate([numbers[:, 2:4] * (sizes - sides), sides], 1)


def draw_views(numbers: np.ndarray, sizes: np.ndarray) -> Augmentation:
    """Show parts of images, some of them from farther away, turned, in other light, degraded.

    Args:
        numbers: (N, NUMBERS), 0..1, that decide.
        sizes: height and width of each image, in pixels: (N, 2).
    """
    bounds = np.cumsum([0, *KINDS.values()]) * OTHER
    kinds = np.searchsorted(bounds, numbers[:, 5], side="right") - 1
    is_kind = {kind: kinds == i for i, kind in enumerate(KINDS)}
    amount, second = numbers[:, 6], numbers[:, 7]

    def between(low: float, high: float) -> np.ndarray:
        return low + amount * (high - low)

    gain = np.exp(between(math.log(DARKEST), math.log(BRIGHTEST)))
    warmth = np.exp((second - 0.5) * math.log(WARMEST))
    light = np.stack([gain * warmth, gain, gain / warmth], 1)
    quarters = np.ceil(3 * amount) * math.pi / 2
    angles = np.where(second < 0.5, quarters, between(-STEEPEST, STEEPEST))
    return Augmentation(
        draw_parts(numbers, sizes, np.where(is_kind["far"], between(1, FARTHEST), 0)),
        numbers[:, 4] < 0.5,
        np.where(is_kind["turned"], angles, 0),
        np.where(is_kind["light"][:, None], light, 1),
        np.where(is_kind["blur"], between(SHARPEST, BLURRIEST), 0),
        np.where(is_kind["noise"], amount * NOISIEST, 0),
        np.where(is_kind["jpeg"], np.floor(between(LOWEST, HIGHEST + 1)), 0),
        np.floor(second * 2**31),
    )


def needs_fine_grid(augmentation: Augmentation, side: int) -> np.ndarray:
    """Tell which parts are much larger than the square that they are scaled to: bool (N,)."""
    return augmentation.parts[:, 2:].max(1) > FINE * side


def augment(
    images: torch.Tensor, sizes: np.ndarray, augmentation: Augmentation, side: int
) -> torch.Tensor:
    """Make a square view of each image, wherever the images are.

    Beyond an edge stands the image, mirrored.

    Args:
        images: uint8 (N, H, W, 3); what is smaller lies at the top left.
        sizes: height and width of each, in pixels: (N, 2).
        augmentation: what is made of each; all or none need a fine grid.
        side: of the square.

    Returns:
        uint8 (N, side, side, 3).
    """
    grid_factor = 2 if needs_fine_grid(augmentation, side).any() else 1
    views = F.grid_sample(
        images.permute(0, 3, 1, 2).float(),
        _places(images, sizes, augmentation, side * grid_factor),
        padding_mode="border",
        align_corners=True,
    )
    if grid_factor > 1:
        views = F.avg_pool2d(views, grid_factor)
    views = views.permute(0, 2, 3, 1)
    made = views.round().to(torch.uint8)
    for i in augmentation.degraded():  # few of them: each costs a GPU a dozen launches
        made[i] = _degrade(views[i], augmentation.of(i))
    return _compress(made, augmentation.qualities)


def _places(
    images: torch.Tensor, sizes: np.ndarray, augmentation: Augmentation, side: int
) -> torch.Tensor:
    """Find where in the images the pixels of their views lie: (N, side, side, 2), x and y.

    From the first pixel, -1, to the last, 1, as `grid_sample` wants it.
    """
    parts, angles = augmentation.parts, augmentation.angles
    steps = (np.arange(side) + 0.5) / side - 0.5
    centre = parts[:, :2] + parts[:, 2:] / 2 - 0.5
    down = steps * parts[:, 2, None]  # (N, side), pixels from the centre
    right = np.where(augmentation.mirrored[:, None], -steps, steps) * parts[:, 3, None]
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    # A pixel's place is a sum of what its row and what its column say.
    of_rows = np.stack([centre[:, :1] + cos * down, centre[:, 1:] + sin * down])
    of_columns = np.stack([-sin * right, cos * right])
    rows, columns = (
        to_device(each.astype(np.float32), images.device) for each in (of_rows, of_columns)
    )
    last = to_device(sizes.T.astype(np.float32) - 1, images.device)[..., None, None]
    places = rows[..., :, None] + columns[..., None, :]  # (2, N, side, side), y and x
    places = last - (last - places.abs()).abs()
    whole = torch.tensor(images.shape[1:3], device=images.device).sub(1).clamp_min(1)
    places = 2 * places / whole.view(2, 1, 1, 1) - 1
    return places.flip(0).permute(1, 2, 3, 0)


def _degrade(view: torch.Tensor, how: Augmentation) -> torch.Tensor:
    """Give a view (S, S, 3) other light, blur and noise; uint8 of the same shape."""
    if (how.gains != 1).any():
        gains = to_device(how.gains.astype(np.float32), view.device)
        view = (view * gains).clamp(0, 255)
    if how.blurs:
        view = _blur(view, float(how.blurs))
    if how.noises:
        random = torch.Generator().manual_seed(int(how.seeds))
        noise = torch.randn(view.shape, generator=random) * float(how.noises)
        view = (view + to_device(noise, view.device)).clamp(0, 255)
    return view.round().to(torch.uint8)


def _compress(views: torch.Tensor, qualities: np.ndarray) -> torch.Tensor:
    """Put views, uint8 (N, S, S, 3), through JPEGs of a quality (N,), those where it is above 0."""
    chosen = np.flatnonzero(qualities)
    if not len(chosen):
        return views
    rows = to_device(chosen, views.device)
    made = views[rows].cpu().numpy()  # at once: each time, one waits for a GPU
    for view, quality in zip(made, qualities[chosen]):
        with io.BytesIO() as file:
            Image.fromarray(view).save(file, "JPEG", quality=int(quality))
            view[:] = np.array(Image.open(file))
    views[rows] = to_device(made, views.device)
    return views


def _blur(view: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur a view (S, S, 3) by a Gaussian."""
    radius = math.ceil(3 * sigma)
    distance = torch.arange(-radius, radius + 1, device=view.device)
    kernel = torch.exp(-0.5 * (distance / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    x = F.pad(view.permute(2, 0, 1)[None], [radius] * 4, "reflect")
    x = F.conv2d(F.conv2d(x, kernel, groups=3), kernel.transpose(2, 3), groups=3)
    return x[0].permute(1, 2, 0)
