"""One photograph: opening it, decoding it safely, and the one preprocessing."""

import io
import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from running.errors import ImageError
from running.files import is_special

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

# Pixels of the largest picture that is decoded: more would take gigabytes. Pillow itself
# refuses JPEGs, which are decoded smaller, from 179 million on.
LARGEST_IMAGE = 100_000_000
LARGEST_SIDE = 100_000

LARGEST_JPEG = 50_000_000  # bytes of one that is decoded again where its end may be missing
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
HEIC = (b"heic", b"heix", b"heim", b"heis", b"mif1")  # brands, see ISO/IEC 23008-12

# How the text begins that Git LFS leaves in the place of a file it has not fetched.
LFS_POINTER = b"version https://git-lfs.github.com/spec/"

LONGEST = 2  # of a photograph so many times as long as wide, views show no more than the middle

# EXIF's tag 0x0112 says how a camera was held (EXIF 2.32, section 4.6.4).
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Preprocessing(NamedTuple):
    """What stands between a photograph and a network, for validation and prediction."""

    resize: int  # the short side in pixels
    crop: int  # the side of the square that is cut from the centre
    mean: tuple[float, float, float]  # red, green, blue, 0..255; the network itself applies these
    std: tuple[float, float, float]
    interpolation: str = "bicubic"  # or "bilinear"


def open_image(path: str | Path) -> Image.Image:
    """Open a photograph without decoding it.

    HEIC, as iPhones write it, is opened where the package pillow-heif is installed. Raises
    ImageError if the file is missing or in none of `FORMATS`.
    """
    if is_special(path):
        raise ImageError(f"{path} is a pipe or a device, not a file")
    try:
        return Image.open(path, formats=FORMATS)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path} is a folder, not an image") from None
    except Image.UnidentifiedImageError:
        with open(path, "rb") as file:
            start = file.read(100)
    except Exception as error:  # a damaged header raises almost anything
        raise _unreadable(path, error) from error
    what = f"is not an image in a format that is read here ({', '.join(FORMATS)})"
    if start[4:8] == b"ftyp" and start[8:12] in HEIC:
        try:
            from pillow_heif import register_heif_opener

            register_heif_opener()
            return Image.open(path, formats=("HEIF",))
        except ImportError:
            what = "is HEIC; to read it, pip install pillow-heif"
        except Exception:  # not HEIC either
            pass
    raise ImageError(f"{path} {name_placeholder(start) or what}")


def name_placeholder(start: bytes) -> str | None:
    """Describe what lies in a photograph's place, by its first hundred bytes; None: a file."""
    if start.startswith(LFS_POINTER):
        return "is a Git LFS pointer; git lfs pull fetches the file itself"
    return None if start else "is empty"


def _unreadable(path: str | Path, error: Exception) -> ImageError:
    what = getattr(error, "strerror", None) or error
    if isinstance(error, Image.DecompressionBombError):
        what = f"more than {LARGEST_IMAGE // 10**6} million pixels are too many"
    return ImageError(f"{path} cannot be read: {what}")


def load_image(path: str | Path, preprocessing: Preprocessing, whole: bool = False) -> np.ndarray:
    """Read a photograph as the network sees it: uint8 RGB, (crop, crop, 3), 0..255.

    It is resized and its centre cropped. The `whole` of it, for random views, is only scaled down
    until its short side has no more than `resize` pixels: (height, width, 3). Raises ImageError if
    the file is missing, damaged, no image or far too large.
    """
    with open_image(path) as image:
        try:
            # A JPEG is decoded at 1/2, 1/4 or 1/8 where that still covers `resize`, which
            # spares most of the resizing; other formats ignore it.
            image.draft(None, (preprocessing.resize, preprocessing.resize))
            if math.prod(image.size) > LARGEST_IMAGE or max(image.size) > LARGEST_SIDE:
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            try:
                image.load()  # before EXIF is read: PNG's would hide damage, TIFF's turns twice
            except OSError as error:
                image = _load_without_end(path, image, preprocessing, error)
            image = _to_rgb(_upright(image))
        except Exception as error:  # damaged data raises almost anything
            raise _unreadable(path, error) from error
    return np.array(_frame(image, preprocessing, whole))


def thumbnail(path: str | Path, side: int) -> bytes:
    """Make a small JPEG of a photograph, upright, its short side at most `side` pixels."""
    small = Preprocessing(side, side, mean=(0, 0, 0), std=(1, 1, 1))
    file = io.BytesIO()
    Image.fromarray(load_image(path, small, whole=True)).save(file, "JPEG", quality=70)
    return file.getvalue()


def _load_without_end(
    path: str | Path, image: Image.Image, preprocessing: Preprocessing, error: OSError
) -> Image.Image:
    """Decode a JPEG of which only the marker at the end is missing; of others, raise the error.

    The decoder makes up what is missing out of what comes next: if pixels are, two things that come
    next give two pictures. A whole scan could be missing unnoticed, so there has to be one.
    """
    is_plain = image.format == "JPEG" and "progressive" not in image.info
    if not is_plain or os.path.getsize(path) > LARGEST_JPEG:
        raise error
    content = Path(path).read_bytes().removesuffix(END_OF_IMAGE[:1])
    components = content[content.rfind(START_OF_SCAN) + 4 :][:1]  # of the last scan
    pictures = []
    for made_up in (b"", b"\xa5" * 100):
        file = io.BytesIO(content + made_up + END_OF_IMAGE)
        pictures.append(Image.open(file, formats=("JPEG",)))
        pictures[-1].draft(None, (preprocessing.resize, preprocessing.resize))
    one, other = pictures
    if components != bytes([len(one.getbands())]) or one.tobytes() != other.tobytes():
        raise error
    return one


def _upright(image: Image.Image) -> Image.Image:
    """Turn the image as its camera was held; one with broken EXIF stays as it is."""
    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:  # broken EXIF raises almost anything; the pixels are still good
        return image
    # Only this tag is read: rewriting the others is where broken EXIF breaks Pillow's own
    # ImageOps.exif_transpose.
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB: transparency on white, grey of 16 bits or of real numbers to 8 bits."""
    if image.mode == "F" or image.mode.startswith("I"):  # convert() would clip these at 255
        values = np.nan_to_num(np.asarray(image, np.float32))
        # Only 16-bit modes say what white is; for the others the values have to tell.
        whites = (65535,) if ";16" in image.mode else (1, 255, 65535)
        white = next((white for white in whites if values.max() <= white), values.max())
        image = Image.fromarray((values.clip(0, white) * (255 / white)).round().astype(np.uint8))
    if image.has_transparency_data:
        background = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(background, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


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
