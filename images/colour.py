"""The colours of a photograph: pixels of any kind become 8 bits of red, green and blue in sRGB."""

import functools
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

STRIP = (
    4_000_000  # pixels that are converted at a time, so that a large picture is not copied whole
)
SAMPLE = 1000  # rows and columns of pixels that tell what is white
BRIGHT = 0.99  # share of pixels that are no brighter than white: a few reflections may be

GREY = ("1", "L", "LA", "La")

# The colour space of an ICC profile stands in its bytes 16 to 19 (ICC.1:2022, table 15).
LAB = b"Lab"  # in the place of a profile: TIFF has pixels in Lab without one
SPACES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}


def flatten(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to 8 bits: RGB, or the mode that an ICC profile is for; what is transparent is white.

    Grey of 16 bits, integers or real numbers is scaled. Raises ValueError if none are finite.
    """
    if image.mode == "LAB":
        return image
    if image.mode == "F" or image.mode.startswith("I"):  # convert() would clip these at 255
        white, transparent = _find_white(image), image.info.get("transparency")

        def scale(part: Image.Image) -> Image.Image:
            values = np.asarray(part)
            grey = np.nan_to_num(values.astype(np.float32), nan=0, posinf=white, neginf=0)
            grey = (grey.clip(0, white) * (255 / white)).round().astype(np.uint8)
            if isinstance(transparent, int):
                grey[values == transparent] = 255
            return Image.fromarray(grey)

        image = _by_strips(image, "L", scale)
    mode = SPACES.get(profile[16:20], "RGB") if profile else "RGB"
    # A profile for other pixels is ignored, but grey is as well red, green and blue.
    if (mode == "L" and image.mode not in GREY) or mode == "CMYK" != image.mode:
        mode = "RGB"
    if image.has_transparency_data:
        return _by_strips(image, mode, lambda part: _on_white(part).convert(mode))
    return image if image.mode == mode else _by_strips(image, mode, lambda p: p.convert(mode))


def _find_white(image: Image.Image) -> float:
    """Choose the brightest value: only modes of 16 bits say it, for others the values have to."""
    if ";16" in image.mode:
        return 65535
    size = min(SAMPLE, image.width), min(SAMPLE, image.height)
    sample = np.asarray(image.resize(size, Image.Resampling.NEAREST), np.float32)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        raise ValueError("no pixel is a finite number")
    bright = float(np.quantile(sample, BRIGHT))
    return next((white for white in (1, 255, 65535) if bright <= white), bright)


def _on_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))


def _by_strips(
    image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Convert a picture strip by strip."""
    rows = max(1, STRIP // image.width)
    if image.height <= rows:
        return convert(image)
    whole = Image.new(mode, image.size)
    for top in range(0, image.height, rows):
        box = 0, top, image.width, min(top + rows, image.height)
        whole.paste(convert(image.crop(box)), (0, top))
    return whole


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert what `flatten` returned, or a part of it, to RGB by its ICC profile.

    Without one it is sRGB already. A broken profile, or one of sRGB, leaves the pixels.
    """
    if image.mode == "LAB":
        profile = LAB
    transform = _find_transform(profile, image.mode) if profile else None
    if transform:
        return transform.apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")


@functools.lru_cache(32)  # of one camera's photographs all have the same
def _find_transform(profile: bytes, mode: str) -> "ImageCmsTransform | None":
    """Prepare what converts from a profile to sRGB; None if it would do nothing, or cannot."""
    from PIL import ImageCms  # takes a moment, which most photographs do not need

    source = io.BytesIO(profile) if profile != LAB else ImageCms.createProfile("LAB")
    try:
        transform = ImageCms.ImageCmsTransform(
            ImageCms.ImageCmsProfile(source),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    if mode != "RGB":
        return transform
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(16, 256, 3)
    after = np.asarray(transform.apply(Image.fromarray(colours)), int)
    return transform if np.abs(after - colours).max() > 1 else None
