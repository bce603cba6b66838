"""Photographs: opened, decoded safely, with the one preprocessing; many of them by threads."""

import hashlib
import io
import math
import os
import re
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from images.colour import flatten, to_srgb
from images.whole import (
    END_OF_IMAGE,
    find_jpeg_end,
    looks_cut,
    require_whole_boxes,
    require_whole_jpeg,
)
from running.errors import ImageError
from running.files import is_special
from running.threads import map_ahead

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

# Pixels of the largest picture, as it is decoded: more would take gigabytes.
LARGEST_IMAGE = 100_000_000
LARGEST_SIDE = 100_000
LARGE_IMAGE = 16_000_000  # pixels; a second one of that size has to wait
_LARGE_IMAGE = threading.Lock()

HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # ISO/IEC 23008-12

# How files of each format begin.
KINDS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG",
    "WebP": rb"RIFF....WEBP",
    "GIF": rb"GIF8",
    "BMP": rb"BM",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "AVIF": rb"....ftypavi[fs]",
    "HEIC": rb"....ftyp(he|mif1|msf1)",
}

# How the text begins that Git LFS leaves in the place of a file it has not fetched.
LFS_POINTER = b"version https://git-lfs.github.com/spec/"

LONGEST = 2  # of a photograph so many times as long as wide, views show no more than the middle

# EXIF's tag 0x0112 says how a camera was held: from 2 on, what turns it upright (EXIF 2.32, 4.6.4).
ORIENTATION = 0x0112
TURNS = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90"
UPRIGHT = {i: Image.Transpose[name] for i, name in enumerate(TURNS.split(), start=2)}

# Photographs a batch where nothing is learned. On a CPU small batches are the fast ones:
# their activations stay in its cache. An accelerator waits for its next order otherwise.
EVALUATION_BATCH, ACCELERATOR_BATCH = 8, 64


class Preprocessing(NamedTuple):
    """What stands between a photograph and a network, for validation and prediction."""

    resize: int  # the short side in pixels
    crop: int  # the side of the square that is cut from the centre
    mean: tuple[float, float, float]  # red, green, blue, 0..255; the network itself applies these
    std: tuple[float, float, float]
    interpolation: str = "bicubic"  # or "bilinear"


def open_image(path: str | Path) -> Image.Image:
    """Open a photograph without decoding it; HEIC, as of iPhones, needs the package pillow-heif.

    Raises ImageError if the file is missing or in none of `FORMATS`.
    """
    if is_special(path):
        raise ImageError(f"{path} is a pipe or a device, not a file")
    try:
        return Image.open(path, formats=FORMATS)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except Exception as error:  # a damaged header raises almost anything
        start = _first_bytes(path)
        try:
            if isinstance(error, Image.DecompressionBombError) and start[:2] == b"\xff\xd8":
                return JpegImageFile(path)  # which is decoded smaller; load_image has its own limit
            if start[4:8] == b"ftyp" and start[8:12] in HEIC:
                return _open_heic(path)
        except ImageError:
            raise
        except Exception as another:
            error = another
        raise _unreadable(path, error, start) from error


def _open_heic(path: str | Path) -> Image.Image:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise ImageError(f"{path} is HEIC; to read it, pip install pillow-heif") from None
    register_heif_opener()
    return Image.open(path, formats=("HEIF",))


def name_placeholder(start: bytes) -> str | None:
    """Describe what lies in a photograph's place, by its first hundred bytes; None: a file."""
    if start.startswith(LFS_POINTER):
        return "is a Git LFS pointer; git lfs pull fetches the file itself"
    return None if start else "is empty"


def _unreadable(path: str | Path, error: Exception, start: bytes = b"") -> ImageError:
    """Say why a photograph cannot be read: what is wrong, or what its first bytes promise."""
    if isinstance(error, Image.DecompressionBombError):
        error = ValueError(f"more than {LARGEST_IMAGE // 10**6} million pixels are too many")
    what = getattr(error, "strerror", None) or error
    if isinstance(error, Image.UnidentifiedImageError) or "decoder error" in str(what):
        if placeholder := name_placeholder(start):
            return ImageError(f"{path} {placeholder}")
        kind = next(
            (kind for kind, pattern in KINDS.items() if re.match(pattern, start, re.DOTALL)), None
        )
        if kind:
            return ImageError(f"{path} is damaged, or a kind of {kind} that is not read here")
        known = ", ".join(FORMATS)
        return ImageError(f"{path} is not an image in a format that is read here ({known})")
    return ImageError(f"{path} cannot be read: {what}")


def load_image(path: str | Path, preprocessing: Preprocessing, whole: bool = False) -> np.ndarray:
    """Read a photograph as the network sees it: uint8 sRGB, (crop, crop, 3), 0..255.

    The `whole` of it, for random views, is only scaled down until its short side has no more than
    `resize` pixels. Raises ImageError if the file is missing, damaged, no image or far too large.
    """
    with open_image(path) as image:
        try:
            profile = image.info.get("icc_profile") or None
            # A JPEG is decoded at 1/2, 1/4 or 1/8 where that still covers `resize`, which
            # spares most of the resizing; other formats ignore it.
            image.draft(None, (preprocessing.resize, preprocessing.resize))
            _require_size(image)
            with _LARGE_IMAGE if math.prod(image.size) > LARGE_IMAGE else nullcontext():
                # EXIF is read afterwards: PNG's would hide damage, TIFF's turns twice.
                image = _decode(path, image, preprocessing)
                framed = _frame(flatten(_upright(image), profile), preprocessing, whole)
            return np.array(to_srgb(framed, profile))
        except Exception as error:  # damaged data raises almost anything
            raise _unreadable(path, error, _first_bytes(path)) from error


def _require_size(image: Image.Image) -> None:
    if math.prod(image.size) > LARGEST_IMAGE or max(image.size) > LARGEST_SIDE:
        raise ValueError(f"{image.width} x {image.height} pixels are too many")


def _first_bytes(path: str | Path) -> bytes:
    with suppress(OSError), open(path, "rb") as file:
        return file.read(100)
    return b""


def thumbnail(path: str | Path, side: int) -> bytes:
    """Make a small JPEG of a photograph, upright, its short side at most `side` pixels."""
    small = Preprocessing(side, side, mean=(0, 0, 0), std=(1, 1, 1))
    return small_jpeg(load_image(path, small, whole=True), side)


def small_jpeg(pixels: np.ndarray, side: int) -> bytes:
    """Encode pixels, uint8 (H, W, 3), as a JPEG whose short side has at most `side` pixels."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    if min(image.size) > side:
        width, height = (round(side * each / min(image.size)) for each in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    image.save(file, "JPEG", quality=70)
    return file.getvalue()


def _decode(path: str | Path, image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Decode a photograph; raise an error if a part of it is missing."""
    if image.format in ("HEIF", "AVIF"):
        require_whole_boxes(path)
    if image.format == "TIFF" and _is_planar_16(image):
        raise Image.UnidentifiedImageError("Pillow would make noise of it")
    if not isinstance(image, JpegImageFile):
        image.load()
        return image
    assert image.fp
    image.fp.seek(-len(END_OF_IMAGE), os.SEEK_END)
    has_end = image.fp.read() == END_OF_IMAGE or find_jpeg_end(Path(path).read_bytes()) >= 0
    repaired = None if has_end else require_whole_jpeg(path, image)
    if repaired:
        image = repaired
        image.draft(None, (preprocessing.resize, preprocessing.resize))
    try:
        image.load()
    except OSError:
        image = Image.open(path, formats=("JPEG",))  # a lossless one is not decoded smaller
        _require_size(image)
        image.load()
    if has_end and looks_cut(image):
        require_whole_jpeg(path, image)
    return image


def _is_planar_16(image: Image.Image) -> bool:
    """Whether a TIFF keeps red, green and blue of 16 bits one after the other."""
    from PIL.TiffImagePlugin import BITSPERSAMPLE, PLANAR_CONFIGURATION, TiffImageFile

    assert isinstance(image, TiffImageFile)
    tags = image.tag_v2
    return tags.get(PLANAR_CONFIGURATION) == 2 and 16 in tags.get(BITSPERSAMPLE, ())


def _upright(image: Image.Image) -> Image.Image:
    """Turn the image as its camera was held; one with broken EXIF stays as it is."""
    for key in ("xmp", "XML:com.adobe.xmp"):  # Pillow alone would follow this, too
        image.info.pop(key, None)
    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:  # broken EXIF raises almost anything; the pixels are still good
        return image
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _frame(image: Image.Image, preprocessing: Preprocessing, whole: bool) -> Image.Image:
    """Scale the short side to `resize` and cut out the centre; of the whole, scale it down only."""
    resize, crop = preprocessing.resize, preprocessing.crop
    resampling = Image.Resampling[preprocessing.interpolation.upper()]
    width, height = image.size
    short = min(width, height)
    scale = short / resize  # pixels of the image for one of the result
    if whole:  # a panorama loses its ends
        scale = max(scale, 1)
        wide, high = min(width, LONGEST * short), min(height, LONGEST * short)
        left, top = (width - wide) // 2, (height - high) // 2
        box: tuple[float, float, float, float] = (left, top, left + wide, top + high)
        size = round(wide / scale), round(high / scale)
    else:
        size = crop, crop
        left, top = round((width / scale - crop) / 2), round((height / scale - crop) / 2)
        right, bottom = min((left + crop) * scale, width), min((top + crop) * scale, height)
        box = (max(left * scale, 0), max(top * scale, 0), right, bottom)
    if scale == 1:
        return image.crop(box)
    # Only the box is resized, not what a crop would throw away. The gap lets Pillow shrink
    # a large picture by whole factors first, to no less than twice the wanted size.
    return image.resize(size, resampling, box, reducing_gap=2.0)


def load_batches(
    paths: Sequence[str],
    preprocessing: Preprocessing,
    workers: int = 1,
    batch_size: int = EVALUATION_BATCH,
) -> Iterator[np.ndarray]:
    """Yield photographs in their order as uint8 arrays (n, crop, crop, 3), n <= `batch_size`.

    Threads decode two batches ahead at most, so that memory stays flat. May raise ImageError.
    """
    images = map_ahead(lambda path: load_image(path, preprocessing), paths, workers, 3 * batch_size)
    while batch := [*islice(images, batch_size)]:
        yield np.stack(batch)


def typical_side(paths: Sequence[str]) -> int | None:
    """Return the median short side of a hundred photographs, in pixels; None without any."""
    sides = []
    for path in paths[:: max(1, len(paths) // 100)]:
        with suppress(ImageError), open_image(path) as image:
            sides.append(min(image.size))
    return int(np.median(sides)) if sides else None


def digest_each(
    paths: Sequence[str], workers: int, known: Collection[bytes] = ()
) -> Iterator[bytes | ImageError]:
    """Read every photograph once; yield a digest of its file, or its error, in their order.

    Those whose digest is known need not be decoded again.
    """
    tiny = Preprocessing(1, 1, (0.0,) * 3, (1.0,) * 3)  # JPEG decodes four times as fast

    def digest(path: str) -> bytes:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()

    def read(path: str) -> bytes | ImageError:
        try:
            if known:
                open_image(path).close()  # what is no photograph may be of any size
                if (found := digest(path)) in known:
                    return found
            load_image(path, tiny)
            return digest(path)
        except ImageError as error:
            return error
        except OSError as error:  # gone since
            return _unreadable(path, error)

    return map_ahead(read, paths, workers, 1000)
