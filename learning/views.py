"""Photographs as a network sees them: as they are, or random views of them."""

import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
from PIL import Image

from images.decode import Preprocessing, load_image, typical_side
from learning.resources import Resources
from running.errors import ImageError
from running.threads import map_ahead

# Paths of photographs, and the index of each one's category (int64), by split.
Splits = Mapping[str, tuple[Sequence[str], np.ndarray]]

VERSION = 5  # raised when the same draw makes another view: cached activations are others then

# A view is a part of a photograph, of this share of its area at least. Of varied ones, which a
# pretrained network gets, one in two is as another camera, distance or hour would show it: shares
# of each kind, and how far it goes. Pixels are those of the view, whatever its side. Chosen in
# benchmarks/results/robustness.md.
SMALLEST, HALF = 0.25, 0.5  # of varied views, and of others
OTHER = 0.5
KINDS = {
    "far": 0.35,
    "colour": 0.25,
    "blur": 0.1,
    "noise": 0.1,
    "light": 0.1,
    "jpeg": 0.05,
    "turned": 0.05,
}
FARTHEST = 8.0  # area that is seen, in areas of the photograph
STEEPEST = 30  # degrees
DARKEST, BRIGHTEST, WARMEST = 0.35, 1.8, 1.35  # factors of grey values
# Factors of brightness, contrast and saturation, and a shift of the hue, in turns of its circle.
COLOURS = (0.6, 1.4), (0.5, 1.5), (0.3, 1.7), (-0.04, 0.04)
SHARPEST, BLURRIEST = 0.5, 2.2  # standard deviation in pixels
NOISIEST = 30.0  # standard deviation in grey values
LOWEST, HIGHEST = 15, 60  # quality of a JPEG


GREY = 127  # of a photograph that can no longer be read
MOST_LOST = 0.01  # share of such photographs without which a run goes on


class Photographs:
    """Photographs as they are (view 0), or random views of them, made in the threads that decode.

    A random view depends on the seed, its number and the file's name alone, so that it stays the
    same where other photographs come and categories are renamed. It is a part of the photograph;
    where photographs are just of the network's size, a shift by some pixels. `paths` are all
    photographs, the attribute those of this process; `memory` bytes of decoded photographs are kept
    for the next view; `varied` views may get other light, blur, noise and so on.
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
        shard = resources.processes.shard
        self.paths, self.numbers = shard(paths), shard(range(len(paths)))
        self.is_shifted = preprocessing.crop == preprocessing.resize == typical_side(paths)
        self.decoded: dict[int, np.ndarray] = {}
        self.memory_left = memory
        self.unreadable: set[int] = set()  # photographs, though they could be read before
        self.varied = varied

    def batches(
        self, photographs: np.ndarray, views: np.ndarray, sizes: Sequence[int]
    ) -> Iterator[np.ndarray]:
        """Yield a view, by its number, of each of some photographs (indices): uint8 (n, S, S, 3).

        The batches are of these sizes, as long as there are photographs. One that can no longer be
        read is grey, and its user is told; if there are many, ImageError is raised.
        """
        items = [*zip(photographs.tolist(), views.tolist())]
        ahead = 3 * max(sizes, default=1)
        images = map_ahead(self._make, items, self.resources.workers, ahead)
        for size in sizes:
            if batch := [*islice(images, size)]:
                yield np.stack(batch)

    def _make(self, item: tuple[int, int]) -> np.ndarray:
        i, view = item
        if not (view or self.is_shifted):
            return self._load(i, False)
        image = self.decoded.get(i)
        if image is None:
            image = self._load(i, not self.is_shifted)
            if image.nbytes <= self.memory_left:
                self.decoded[i] = image
                self.memory_left -= image.nbytes
        if not view:
            return image
        name = os.fsencode(os.path.basename(self.paths[i]))
        rng = np.random.default_rng((self.seed, view, zlib.crc32(name)))
        if self.is_shifted:
            return shifted_view(image, rng)
        return random_view(image, self.preprocessing, rng, self.varied)

    def _load(self, i: int, whole: bool) -> np.ndarray:
        try:
            return load_image(self.paths[i], self.preprocessing, whole)
        except ImageError as error:
            is_new = i not in self.unreadable
            self.unreadable.add(i)
            lost, count = len(self.unreadable), len(self.paths)
            if lost > max(1, MOST_LOST * count) or lost == count:
                raise  # the disk has gone
            if is_new:
                self.resources.warn(f"warning: {error}; the run goes on without it")
            side = self.preprocessing.crop
            return np.full((side, side, 3), GREY, np.uint8)


def shifted_view(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift a square image, uint8 (S, S, 3), by up to a tenth of its side, and mirror it or not.

    Beyond its edge stands its mirror image.
    """
    side = len(image)
    most = side // 10
    top, left = rng.integers(2 * most + 1, size=2)
    padded = np.pad(image, ((most, most), (most, most), (0, 0)), "reflect")
    view = padded[top : top + side, left : left + side]
    return view[:, ::-1] if rng.random() < 0.5 else view


def random_view(
    image: np.ndarray, preprocessing: Preprocessing, rng: np.random.Generator, varied: bool
) -> np.ndarray:
    """Make a square view, uint8 (S, S, 3), of a part of an image (H, W, 3), mirrored or not.

    The part is chosen as in Szegedy et al., "Going deeper with convolutions" (CVPR 2015), but
    larger. If `varied`, it may be smaller, and some views are of another kind, too, see `KINDS`.
    Beyond the image's edge stands its mirror image.
    """
    # Importing it takes a second, and a run that fits the head alone sees no random view.
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    kinds = [*KINDS, "plain"]
    shares = [*(OTHER * share for share in KINDS.values()), 1 - OTHER]
    kind = kinds[rng.choice(len(kinds), p=shares)] if varied else "plain"
    amount, second = rng.random(2)

    least = SMALLEST if varied else HALF
    area = 1 + amount * (FARTHEST - 1) if kind == "far" else rng.uniform(least, 1)
    ratio = math.exp(rng.uniform(-1, 1) * math.log(4 / 3))
    pixels, largest = area * image.shape[0] * image.shape[1], max(1, math.sqrt(area))
    height = max(1, round(min(math.sqrt(pixels / ratio), largest * image.shape[0])))
    width = max(1, round(min(math.sqrt(pixels * ratio), largest * image.shape[1])))
    top = round(rng.random() * (image.shape[0] - height))
    left = round(rng.random() * (image.shape[1] - width))
    is_tilted = kind == "turned" and second >= 0.5

    picture = Image.fromarray(image)
    margin = max(height, width) // 4 if is_tilted else max(0, -top, -left)
    beyond = max(top + height - image.shape[0], left + width - image.shape[1])
    if margin := max(margin, beyond):
        picture = F.pad(picture, [margin], padding_mode="reflect")
        top, left = top + margin, left + margin
    if is_tilted:
        degrees, centre = (2 * amount - 1) * STEEPEST, [left + width / 2, top + height / 2]
        picture = F.rotate(picture, degrees, InterpolationMode.BILINEAR, center=centre)
    side = preprocessing.crop
    view = F.resized_crop(
        picture, top, left, height, width, [side, side], InterpolationMode.BILINEAR
    )
    if kind == "turned" and not is_tilted:
        view = F.rotate(view, 90 * math.ceil(3 * amount))
    if rng.random() < 0.5:
        view = F.horizontal_flip(view)

    if kind == "colour":
        brightness, contrast, saturation, hue = (rng.uniform(*limits) for limits in COLOURS)
        view = F.adjust_contrast(F.adjust_brightness(view, brightness), contrast)
        view = F.adjust_hue(F.adjust_saturation(view, saturation), hue)
    elif kind == "blur":
        sigma = SHARPEST + amount * (BLURRIEST - SHARPEST)
        view = F.gaussian_blur(view, [2 * math.ceil(3 * sigma) + 1] * 2, [sigma] * 2)
    elif kind == "jpeg":
        view = F.jpeg(view, LOWEST + int(amount * (HIGHEST + 1 - LOWEST)))
    pixels = np.array(view)
    if kind == "light":
        gain, warmth = DARKEST * (BRIGHTEST / DARKEST) ** amount, WARMEST ** (second - 0.5)
        pixels = pixels * (gain * warmth, gain, gain / warmth)
    elif kind == "noise":
        pixels = pixels + rng.normal(0, amount * NOISIEST, pixels.shape)
    return pixels if pixels.dtype == np.uint8 else pixels.round().clip(0, 255).astype(np.uint8)
