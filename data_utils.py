"""The ground floor: files, photographs, category names and the data folder.

Nothing here imports torch, so that whatever only looks at files answers at once.
Three words are kept apart everywhere: an *index* is an output of the network, 0..C-1;
a *category* is the name of a class's folder, such as "21"; a *name* is what people
call it, such as "fire lily".
"""

import json
import os
import re
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

SPLITS = ("train", "valid", "test")
NAMES_FILE = "cat_to_name.json"
HOME_NAMES = Path(__file__).with_name(NAMES_FILE)

# What is looked for in a folder, and the only formats that a file is ever opened as.
EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .avif".split())
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

# Photographs a batch where nothing is learned. On a CPU small batches are the fast ones:
# their activations stay in its cache.
EVALUATION_BATCH = 16

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


class FlowersError(Exception):
    """What went wrong, as one sentence for the user; a script prints it and exits."""

    exit_code = 1


class InputError(FlowersError):
    """What the user pointed at (data folder, names, checkpoint, ...) cannot be used."""

    exit_code = 2


class ImageError(FlowersError):
    """A photograph is missing or cannot be read."""


class RunError(FlowersError):
    """The work itself failed: a full disk, a loss that is not finite, no memory left."""


# --- The one preprocessing ------------------------------------------------------------


class Preprocessing(NamedTuple):
    """What stands between a photograph and a network, for validation and prediction.

    `resize` is the short side in pixels, `crop` the side of the square that is cut
    from the centre; `mean` and `std` (red, green, blue, in units of 0..255) are
    applied by the network itself, which takes the cropped pixels as they are.
    """

    resize: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def open_image(path: str | os.PathLike) -> Image.Image:
    """Open a photograph without decoding it.

    Raises:
        ImageError: the file is missing or in none of `FORMATS`.
    """
    try:
        return Image.open(path, formats=FORMATS)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path} is a folder, not an image") from None
    except Image.UnidentifiedImageError:
        raise ImageError(f"{path} is not an image in a format that is read here "
                         f"({', '.join(FORMATS)})") from None
    except Exception as error:  # a damaged header raises almost anything
        raise ImageError(f"{path} cannot be read: {error}") from error


def load_image(path: str | os.PathLike, preprocessing: Preprocessing,
               rng: np.random.Generator | None = None) -> np.ndarray:
    """Read a photograph as the network sees it: uint8 RGB, (crop, crop, 3), 0..255.

    Without `rng` it is resized and its centre cropped. With `rng` it is augmented for
    training: a random part of it is resized to the crop, and half of them mirrored.

    Raises:
        ImageError: the file is missing, damaged or no image.
    """
    with open_image(path) as image:
        try:
            # A JPEG is decoded at 1/2, 1/4 or 1/8 where that still covers `resize`:
            # a quarter of the time and more is saved (Image.draft; other formats ignore it).
            image.draft(None, (preprocessing.resize, preprocessing.resize))
            image = _to_rgb(_upright(image))
        except Exception as error:  # damaged data raises almost anything
            raise ImageError(f"{path} cannot be read: {error}") from error
    if rng is None:
        return np.array(_centre(image, preprocessing.resize, preprocessing.crop))
    return np.array(_random_part(image, preprocessing.crop, rng))


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
    """Convert any mode to RGB: transparency on white, 16 bits a channel down to 8."""
    if image.mode.startswith("I"):  # 16-bit grey; convert() would clip it at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _centre(image: Image.Image, resize: int, crop: int) -> Image.Image:
    """Scale the short side to `resize` and cut out the central square of side `crop`."""
    width, height = image.size
    scale = min(width, height) / resize  # pixels of the image for one of the result
    left = round((width / scale - crop) / 2)
    top = round((height / scale - crop) / 2)
    if scale == 1:
        return image.crop((left, top, left + crop, top + crop))
    box = (max(left * scale, 0), max(top * scale, 0),
           min((left + crop) * scale, width), min((top + crop) * scale, height))
    return _resize(image, crop, box)


def _random_part(image: Image.Image, crop: int, rng: np.random.Generator) -> Image.Image:
    """Scale a random part (half the area to all of it, sides within 3:4) to a square.

    The crop of Szegedy et al., "Going deeper with convolutions" (CVPR 2015), kept large
    enough to hold the flower. Colours stay: they tell one flower from another.
    """
    width, height = image.size
    area = rng.uniform(0.5, 1) * width * height
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    part_width, part_height = min(np.sqrt(area * ratio), width), min(np.sqrt(area / ratio), height)
    left, top = rng.uniform(0, width - part_width), rng.uniform(0, height - part_height)
    part = _resize(image, crop, (left, top, left + part_width, top + part_height))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part


def _resize(image: Image.Image, side: int, box: tuple[float, ...]) -> Image.Image:
    # Only the box is resized, not what a crop would throw away. The gap lets Pillow shrink
    # a large picture by whole factors first, to no less than twice the wanted size.
    return image.resize((side, side), Image.Resampling.BICUBIC, box, reducing_gap=2.0)


def load_batches(paths: Sequence[str], preprocessing: Preprocessing, workers: int = 1,
                 batch_size: int = EVALUATION_BATCH, augment: tuple[int, ...] | None = None,
                 ) -> Iterator[np.ndarray]:
    """Yield photographs in their order as uint8 arrays (n, crop, crop, 3), 0..255.

    Every batch has `batch_size` photographs but the last, which may have fewer. Threads
    decode ahead (Pillow's decoders release Python's lock), two batches at most, so that
    memory does not grow with the number of photographs. `augment`, some whole numbers
    such as (seed, epoch), makes each photograph a random view (see `load_image`) that
    depends on these numbers and its position alone, not on the threads.

    Raises:
        ImageError: a photograph cannot be read.
    """
    def load(position: int) -> np.ndarray:
        rng = None if augment is None else np.random.default_rng((*augment, position))
        return load_image(paths[position], preprocessing, rng)

    pool = ThreadPoolExecutor(workers)
    try:
        pending, submitted = deque(), 0
        for start in range(0, len(paths), batch_size):
            end = min(start + batch_size, len(paths))
            while submitted < min(end + 2 * batch_size, len(paths)):
                pending.append(pool.submit(load, submitted))
                submitted += 1
            yield np.stack([pending.popleft().result() for _ in range(start, end)])
    finally:
        pool.shutdown(cancel_futures=True)


def default_workers() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux; knows about containers and taskset
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- The data folder ------------------------------------------------------------------


class Split(NamedTuple):
    """The photographs of one split: paths, and the index of each one's category (int64)."""

    paths: list[str]
    labels: np.ndarray


class DataSet(NamedTuple):
    """A data folder: categories in the order of the network's outputs, and its splits.

    `splits` has "train", "valid" and, where the folder has one, "test". `notes` are
    sentences about what was left out, for the user.
    """

    categories: list[str]
    splits: dict[str, Split]
    notes: list[str]


def is_image_name(path: str | os.PathLike) -> bool:
    """Tell by the extension whether a file should be an image."""
    return os.path.splitext(path)[1].lower() in EXTENSIONS


def find_data(data_dir: str | os.PathLike) -> DataSet:
    """Find the photographs of `data_dir/{train,valid,test}/<category>/`.

    The categories are the folders of train that hold a photograph, in natural order
    (2 before 10); the other splits are matched to them by folder name. Hidden files and
    folders are ignored.

    Raises:
        InputError: there is nothing to train on or to validate with.
    """
    data_dir = Path(data_dir)
    layout = f"expected {data_dir}/{{train,valid,test}}/<category>/*.jpg (test may be missing)"
    if not data_dir.is_dir():
        what = "is not a folder" if data_dir.exists() else "does not exist"
        raise InputError(f"the data folder {data_dir} {what}")
    for name in ("train", "valid"):
        if not (data_dir / name).is_dir():
            raise InputError(f"{data_dir} has no folder {name}; {layout}")
    found = {name: _images_by_category(data_dir / name)
             for name in SPLITS if (data_dir / name).is_dir()}
    categories = sorted((c for c, paths in found["train"].items() if paths), key=natural_key)
    if not categories:
        raise InputError(f"no photographs in {data_dir / 'train'}; {layout}")
    if len(categories) == 1:
        raise InputError(f"{data_dir / 'train'} has one category only ({categories[0]}); "
                        "to tell flowers apart takes two or more")

    splits, notes = {}, []
    for name, by_category in found.items():
        unknown = sorted(by_category.keys() - set(categories), key=natural_key)
        if unknown:
            notes.append(f"{data_dir / name}: left out, as train has no photographs of them: "
                         + ", ".join(unknown))
        paths = [by_category.get(category, []) for category in categories]
        labels = np.repeat(np.arange(len(categories)), [len(p) for p in paths])
        splits[name] = Split([path for ps in paths for path in ps], labels)
    if not splits["valid"].paths:
        raise InputError(f"no photographs of train's categories in {data_dir / 'valid'}; {layout}")
    if "test" in splits and not splits["test"].paths:
        del splits["test"]
    return DataSet(categories, splits, notes)


def _images_by_category(split_dir: Path) -> dict[str, list[str]]:
    """List each visible folder's photographs, sorted by file name."""
    return {
        folder.name: sorted(
            file.path for file in os.scandir(folder)
            if not file.name.startswith(".") and is_image_name(file.name) and file.is_file())
        for folder in os.scandir(split_dir)
        if folder.is_dir() and not folder.name.startswith(".")
    }


def natural_key(text: str) -> tuple:
    """Sort key that puts "2" before "10" and "rose 2" before "rose 10"."""
    parts = re.split("([0-9]+)", text)  # text and digits take turns, so that keys compare
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], text


# --- Names ----------------------------------------------------------------------------


def load_names(path: str | os.PathLike) -> dict[str, str]:
    """Read a JSON object that maps categories to names.

    Raises:
        InputError: the file is missing or holds something else.
    """
    try:
        names = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the names file {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"the names file {path} is not JSON: {error}") from None
    if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
        raise InputError(f'the names file {path} must map categories to names, '
                        'as in {"21": "fire lily"}')
    return names


def find_names(categories: Sequence[str], data_dir: str | os.PathLike,
               names_file: str | os.PathLike | None = None) -> tuple[list[str], str]:
    """Name each category, and say where the names are from.

    They come from `names_file`, else from the data folder's own cat_to_name.json, else
    from the project's, but only where the categories are exactly its 102: a stranger's
    folders 1 to 10 are not these flowers. A category without a name is its own name.

    Raises:
        InputError: the names file cannot be used.
    """
    if names_file is None and (Path(data_dir) / NAMES_FILE).exists():
        names_file = Path(data_dir) / NAMES_FILE
    if names_file is not None:
        names, source = load_names(names_file), str(names_file)
    elif set(categories) == (home := load_names(HOME_NAMES)).keys():
        names, source = home, f"Oxford 102 Flowers ({NAMES_FILE} of this project)"
    else:
        names, source = {}, "the folders' names"
    return [names.get(category, category) for category in categories], source


# --- Writing files --------------------------------------------------------------------


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a file whose content appears at `path` whole, or not at all.

    It is written beside its place, synced to the disk and renamed when the block ends.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def keep_previous(path: str | os.PathLike) -> Path | None:
    """Copy an earlier run's x.pth to x.previous.pth; return the copy, if there was one.

    Raises:
        RunError: the copy cannot be written.
    """
    path = Path(path)
    if not path.exists():
        return None
    previous = path.with_name(f"{path.stem}.previous{path.suffix}")
    with atomic_write(previous) as file, open(path, "rb") as original:
        shutil.copyfileobj(original, file)
    return previous


def prepare_folder(folder: str | os.PathLike) -> None:
    """Make a folder where there is none, and see that it can be written to.

    Raises:
        InputError: it cannot.
    """
    probe = Path(folder) / f".write_test.{os.getpid()}.tmp"
    try:
        os.makedirs(folder, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be written to: {error.strerror}") from None
