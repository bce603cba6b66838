"""The ground floor: files, photographs, category names and the data folder.

Nothing here imports torch, so that whatever only looks at files answers at once.
Three words are kept apart everywhere: an *index* is an output of the network, 0..C-1;
a *category* is the name of a class's folder, such as "21"; a *name* is what people
call it, such as "fire lily".
"""

import glob
import hashlib
import importlib.util
import io
import json
import math
import os
import re
import shutil
import signal
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from tarfile import TarFile

T, U = TypeVar("T"), TypeVar("U")

# What the folder of a split may be called, in small letters.
SPLIT_FOLDERS = {"train": ["train"], "valid": ["valid", "val", "validation"], "test": ["test"]}
NAMES_FILE = "cat_to_name.json"
HOME_NAMES = Path(__file__).with_name(NAMES_FILE)

# What is looked for in a folder, and the only formats (but for HEIC) that it is opened as.
EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .avif .heic .heif".split()
)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

# Photographs a batch where nothing is learned. On a CPU small batches are the fast ones:
# their activations stay in its cache. An accelerator waits for its next order otherwise.
EVALUATION_BATCH = 8
ACCELERATOR_BATCH = 64

# Pixels of the largest picture that is decoded: more would take gigabytes. Pillow itself
# refuses JPEGs, which are decoded smaller, from 179 million on.
LARGEST_IMAGE = 100_000_000
LARGEST_SIDE = 100_000

# Of a photograph that is longer than so many times its width, views show the middle only.
LONGEST = 2

# Side of the largest square that a network may ask for, in pixels.
LARGEST_CROP = 1024
SMALLEST_CROP = 32

# Fewer photographs in train are warned of: not every fold that the head is judged by has one.
FEW = 3

# Bytes of the largest names file; a million names fit.
LARGEST_NAMES = 20_000_000

# The share of the photographs of known flowers that keep their names where others are refused.
KEEP = 0.95

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
    """The work itself failed: a full disk, a loss that is not finite."""


def is_out_of_memory(error: BaseException) -> bool:
    """Recognise Python's own error, PyTorch's for accelerators, and its CPU allocator's."""
    return (
        isinstance(error, MemoryError)
        or "OutOfMemory" in type(error).__name__
        or "can't allocate memory" in str(error)
        or "out of memory" in str(error)
    )


def is_lost_connection(error: BaseException) -> bool:
    """Recognise what torch.distributed raises where another process has gone."""
    return type(error).__name__.startswith("Dist") or any(
        word in str(error).lower() for word in ("gloo", "connection")
    )


# --- The one preprocessing ------------------------------------------------------------


class Preprocessing(NamedTuple):
    """What stands between a photograph and a network, for validation and prediction.

    `resize` is the short side in pixels, `crop` the side of the square that is cut
    from the centre, `interpolation` "bicubic" or "bilinear"; `mean` and `std` (red,
    green, blue, in units of 0..255) are applied by the network itself, which takes the
    cropped pixels as they are.
    """

    resize: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"


def open_image(path: str | os.PathLike) -> Image.Image:
    """Open a photograph without decoding it.

    HEIC, as iPhones write it, is opened where the package pillow-heif is installed.

    Raises:
        ImageError: the file is missing or in none of `FORMATS`.
    """
    if is_special(path):
        raise ImageError(f"{path} is a pipe or a device, not a file")
    try:
        return Image.open(path, formats=FORMATS)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path} is a folder, not an image") from None
    except Exception as error:  # a damaged header raises almost anything
        try:
            return _open_heic(path)
        except ImportError:
            raise ImageError(f"{path}: to read HEIC, pip install pillow-heif") from None
        except Exception:
            pass  # not HEIC either: the first error tells what is wrong
        if isinstance(error, Image.UnidentifiedImageError):
            raise ImageError(
                f"{path} is not an image in a format that is read here ({', '.join(FORMATS)})"
            ) from None
        raise ImageError(f"{path} cannot be read: {error}") from error


def is_special(path: str | os.PathLike) -> bool:
    """Tell pipes, devices and sockets, which could keep a reader waiting for ever."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _open_heic(path: str | os.PathLike) -> Image.Image:
    """Open HEIC, known by its first bytes (ISO/IEC 23008-12): iPhones' may be named .jpg."""
    with open(path, "rb") as file:
        start = file.read(12)
    if start[4:8] != b"ftyp" or start[8:] not in (b"heic", b"heix", b"heim", b"heis", b"mif1"):
        raise ValueError("not HEIC")
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return Image.open(path, formats=("HEIF",))


def load_image(
    path: str | os.PathLike, preprocessing: Preprocessing, whole: bool = False
) -> np.ndarray:
    """Read a photograph as the network sees it: uint8 RGB, (crop, crop, 3), 0..255.

    It is resized and its centre cropped. The `whole` of it, for random views, is only scaled
    down until its short side has no more than `resize` pixels: (height, width, 3).

    Raises:
        ImageError: the file is missing, damaged, no image or far too large.
    """
    with open_image(path) as image:
        try:
            # A JPEG is decoded at 1/2, 1/4 or 1/8 where that still covers `resize`, which
            # spares most of the resizing; other formats ignore it.
            image.draft(None, (preprocessing.resize, preprocessing.resize))
            if math.prod(image.size) > LARGEST_IMAGE or max(image.size) > LARGEST_SIDE:
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            image.load()  # before EXIF is read: PNG's reader would hide damage, TIFF's turns twice
            image = _to_rgb(_upright(image))
        except Exception as error:  # damaged data raises almost anything
            raise ImageError(f"{path} cannot be read: {error}") from error
    return np.array((_whole if whole else _centre)(image, preprocessing))


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
        white = (
            65535
            if ";16" in image.mode
            else min(
                (white for white in (1, 255, 65535) if values.max() <= white), default=values.max()
            )
        )
        image = Image.fromarray((values.clip(0, white) * (255 / white)).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _centre(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Scale the short side to `resize` and cut out the central square of side `crop`."""
    resize, crop = preprocessing.resize, preprocessing.crop
    width, height = image.size
    scale = min(width, height) / resize  # pixels of the image for one of the result
    left = round((width / scale - crop) / 2)
    top = round((height / scale - crop) / 2)
    if scale == 1:
        return image.crop((left, top, left + crop, top + crop))
    box = (
        max(left * scale, 0),
        max(top * scale, 0),
        min((left + crop) * scale, width),
        min((top + crop) * scale, height),
    )
    return _resize(image, preprocessing, (crop, crop), box)


def _whole(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Scale the short side down to `resize`, if it is longer; a panorama loses its ends."""
    short = min(image.size)
    kept = tuple(min(side, LONGEST * short) for side in image.size)
    left, top = ((side - part) // 2 for side, part in zip(image.size, kept))
    box = (left, top, left + kept[0], top + kept[1])
    scale = short / preprocessing.resize
    if scale <= 1:
        return image if kept == image.size else image.crop(box)
    return _resize(image, preprocessing, tuple(round(part / scale) for part in kept), box)


def _resize(
    image: Image.Image, preprocessing: Preprocessing, size: tuple[int, ...], box: tuple[float, ...]
) -> Image.Image:
    # Only the box is resized, not what a crop would throw away. The gap lets Pillow shrink
    # a large picture by whole factors first, to no less than twice the wanted size.
    return image.resize(
        size, Image.Resampling[preprocessing.interpolation.upper()], box, reducing_gap=2.0
    )


def load_images(
    paths: Sequence[str],
    preprocessing: Preprocessing,
    workers: int,
    ahead: int,
    whole: Sequence[bool] | None = None,
) -> Iterator[np.ndarray]:
    """Yield photographs in their order, each as `load_image` returns it.

    Threads decode at most `ahead` of them before their turn. `whole` says it of each.

    Raises:
        ImageError: a photograph cannot be read.
    """

    def load(i: int) -> np.ndarray:
        return load_image(paths[i], preprocessing, whole is not None and whole[i])

    return map_ahead(load, range(len(paths)), workers, ahead)


def load_batches(
    paths: Sequence[str],
    preprocessing: Preprocessing,
    workers: int = 1,
    batch_size: int = EVALUATION_BATCH,
) -> Iterator[np.ndarray]:
    """Yield photographs in their order as uint8 arrays (n, crop, crop, 3), 0..255.

    Every batch has `batch_size` photographs but the last, which may have fewer. Threads
    decode ahead, two batches at most, so that memory does not grow with the number of
    photographs.

    Raises:
        ImageError: a photograph cannot be read.
    """
    images = load_images(paths, preprocessing, workers, 3 * batch_size)
    while batch := [*islice(images, batch_size)]:
        yield np.stack(batch)


def map_ahead(
    function: Callable[[T], U], items: Iterable[T], workers: int, ahead: int
) -> Iterator[U]:
    """Apply a function to items in threads; yield the results in the order of the items.

    At most `ahead` items are taken before their turn: memory stays flat. Threads suffice
    for photographs, as Pillow's decoders release Python's lock.
    """
    pool = ThreadPoolExecutor(workers)
    pending: deque[Future] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def typical_side(paths: Sequence[str]) -> int | None:
    """Say how many pixels the short side of a photograph has: the median of a hundred of them.

    None where none of these can be opened.
    """
    sides = []
    for path in paths[:: max(1, len(paths) // 100)]:
        with suppress(ImageError), open_image(path) as image:
            sides.append(min(image.size))
    return int(np.median(sides)) if sides else None


def inspect(paths: Sequence[str], workers: int) -> Iterator[bytes | ImageError]:
    """Read every photograph once; yield a digest of its file, or its error, in their order."""
    tiny = Preprocessing(1, 1, (0.0,) * 3, (1.0,) * 3)  # JPEG decodes four times as fast

    def look(path: str) -> bytes | ImageError:
        try:
            load_image(path, tiny)
            return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()
        except ImageError as error:
            return error
        except OSError as error:  # gone since
            return ImageError(f"{path} cannot be read: {error.strerror}")

    return map_ahead(look, paths, workers, 1000)


def require(package: str, what: str, install: str | None = None) -> None:
    """See that an optional package is installed, which comes with `install` (default: itself).

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{what} takes {package}: pip install {install or package}")


def default_workers() -> int:
    """Count the processors for this process; several of torchrun's share them out."""
    if hasattr(os, "sched_getaffinity"):  # Linux; knows about containers and taskset
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, count // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def count_processes() -> int:
    """Count the processes that torchrun has started, on all machines; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


def share_processors() -> None:
    """Let threads that wait sleep instead of spin, unless the user decided; before torch.

    Spinning threads of two programs on the same processors keep each other from working:
    one photograph then takes seconds.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def signals_wait() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block is done, a second or two of imports.

    An exception in the middle of importing a module in C++ can end Python itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # which never hears signals
        return
    waiting: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: waiting.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in waiting:
            signal.raise_signal(number)


def printable(text: str) -> str:
    """Escape what could upset a terminal: control characters, line ends, undecodable bytes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# --- The data folder ------------------------------------------------------------------


class Split(NamedTuple):
    """The photographs of one split: paths, and the index of each one's category (int64)."""

    paths: list[str]
    labels: np.ndarray


class DataSet(NamedTuple):
    """A data folder: categories in the order of the network's outputs, and its splits.

    `splits` has "train", "valid" and, where the folder has one, "test". `notes` are
    sentences for the user about how it was divided, `gaps` about categories that are not in
    all splits.
    """

    categories: list[str]
    splits: dict[str, Split]
    notes: list[str]
    gaps: list[str]


def is_image_name(path: str | os.PathLike) -> bool:
    """Tell by the extension whether a file should be an image."""
    return os.path.splitext(path)[1].lower() in EXTENSIONS


def find_data(data_dir: str | os.PathLike, leave_out: Collection[str] = ()) -> DataSet:
    """Find the photographs of `data_dir/{train,valid,test}/<category>/`.

    The categories are the folders of train that hold a photograph, in natural order
    (2 before 10); the other splits are matched to them by folder name. Hidden files and
    folders are ignored. Splits that are missing are carved from what is there (see
    `_carve`): a tenth of train for valid, or, where there are only folders of
    categories, a tenth each for valid and test. Nothing is copied or moved. The paths in
    `leave_out` count as not there.

    Raises:
        InputError: there is nothing to train on or to validate with.
    """
    layout = f"expected {data_dir}/{{train,valid,test}}/<category>/*.jpg"
    if not os.path.isdir(data_dir):
        what = "is not a folder" if os.path.exists(data_dir) else "does not exist"
        raise InputError(f"the data folder {data_dir} {what}")
    found, notes = _find_splits(data_dir, leave_out)
    if "train" not in found:
        raise InputError(f"{data_dir} has no folder train; {layout}")
    categories = sorted((c for c, paths in found["train"].items() if paths), key=natural_key)
    if not categories:
        raise InputError(f"no photographs to train on in {data_dir}; {layout}")
    if len(categories) == 1:
        raise InputError(
            f"{data_dir} has one category only to train on ({categories[0]}); "
            "to tell flowers apart takes two or more"
        )
    for category in categories:
        if not category.isprintable():
            raise InputError(f"the folder name {category!r} in {data_dir} cannot be printed")

    splits, gaps = {}, []
    for name, by_category in found.items():
        surplus = sorted(
            {category for category, paths in by_category.items() if paths} - set(categories),
            key=natural_key,
        )
        if surplus:
            gaps.append(
                f"left out of {name}, as train has no photographs of them: " + ", ".join(surplus)
            )
        expected = by_category if name == "train" else categories
        missing = [category for category in expected if not by_category.get(category)]
        if missing:
            gaps.append(f"{name} has no photographs of: " + ", ".join(missing))
        paths = [by_category.get(category, []) for category in categories]
        labels = np.repeat(np.arange(len(categories)), [len(p) for p in paths])
        splits[name] = Split([path for ps in paths for path in ps], labels)
    if not splits["valid"].paths:
        raise InputError(
            f"no photographs of train's categories to validate with in {data_dir}; " + layout
        )
    if "test" in splits and not splits["test"].paths:
        del splits["test"]
    return DataSet(categories, splits, notes, gaps)


def find_problems(
    data: DataSet, unreadable: Iterable[ImageError], digests: dict[str, bytes], unnamed: list[str]
) -> dict[str, list[str]]:
    """Say what is wrong with a data folder: kinds of problems, and of each what was found.

    Args:
        data: what is in the folder, without what cannot be read.
        unreadable: the errors of the photographs that cannot be read.
        digests: of the others, by path, as `inspect` made them.
        unnamed: categories that the names file does not know.
    """
    first: dict[bytes, tuple[str, str]] = {}
    twice = []
    for name, split in data.splits.items():
        for path in split.paths:
            other, other_path = first.setdefault(digests[path], (name, path))
            if other != name:
                twice.append(f"{path} is {other_path}")
    counts = np.bincount(data.splits["train"].labels).tolist()
    return {
        "photographs that cannot be read": [str(error) for error in unreadable],
        "photographs that stand in two splits": twice,
        "categories that are not in all splits": data.gaps,
        f"categories with fewer than {FEW} photographs in train": [
            f"{category}: {count}"
            for category, count in zip(data.categories, counts)
            if count < FEW
        ],
        "categories without a name": unnamed,
    }


def fingerprint(data: DataSet, data_dir: str | os.PathLike, digests: dict[str, bytes]) -> str:
    """Sum up which photographs stand where, so that two data folders can be compared."""
    whole = hashlib.sha256()
    for name, split in data.splits.items():
        for path in split.paths:
            place = os.fsencode(f"{name}\0{os.path.relpath(path, data_dir)}\0")
            whole.update(place + digests[path])
    return whole.hexdigest()


def _find_splits(
    data_dir: str | os.PathLike,
    leave_out: Collection[str],
) -> tuple[dict[str, dict[str, list[str]]], list[str]]:
    """List the photographs of each split by category, and say what was carved.

    Without any split folder the categories' own folders are taken. "train" is missing
    where there are other splits without it; an empty "test" is dropped.
    """
    folders = [entry for entry in _scan(data_dir) if os.path.isdir(entry.path)]
    found, notes = {}, []
    for split, names in SPLIT_FOLDERS.items():
        there = sorted(entry.name for entry in folders if entry.name.lower() in names)
        if len(there) > 1:
            raise InputError(
                f"{data_dir} has {' and '.join(there)}; only one can be the split {split}"
            )
        if there:
            found[split] = _images_by_category(os.path.join(data_dir, there[0]), leave_out)
    if not found:
        found = _carve(_images_by_category(data_dir, leave_out), ["valid", "test"])
        notes.append(
            f"{data_dir} has no splits: 80 % of the photographs are for training, 10 % "
            "for validation and 10 % for the test, by a hash of their names"
        )
    elif "train" in found and "valid" not in found:
        found |= _carve(found["train"], ["valid"])
        notes.append(
            f"{data_dir} has no valid: 10 % of train's photographs are for validation, "
            "by a hash of their names"
        )
    if not any(found.get("test", {}).values()):
        found.pop("test", None)
    return found, notes


def _carve(
    by_category: dict[str, list[str]],
    names: list[str],
) -> dict[str, dict[str, list[str]]]:
    """Divide photographs into train and the named splits, a tenth for each of these.

    A hash of category and file name decides, the same on every machine, so that a
    photograph stays in its split when others are added. Two exceptions keep small sets
    usable: a category has at least one photograph in train, and valid at least one.
    """
    splits = {name: {category: [] for category in by_category} for name in ["train", *names]}
    for category, paths in by_category.items():
        tenths = {path: _tenth(category, path) for path in paths}
        spared = max(tenths, key=tenths.get, default=None)
        for path, tenth in tenths.items():
            carved = tenth < len(names) and path != spared
            splits[names[int(tenth)] if carved else "train"][category].append(path)
    if not any(splits["valid"].values()):
        category = max(by_category, key=lambda c: len(splits["train"][c]), default=None)
        if category is not None and len(splits["train"][category]) > 1:
            path = min(splits["train"][category], key=lambda p: _tenth(category, p))
            splits["train"][category].remove(path)
            splits["valid"][category].append(path)
    return splits


def _tenth(category: str, path: str) -> float:
    """Map a photograph to a number in 0..10 that depends on nothing but its names."""
    name = os.fsencode(f"{category}/{os.path.basename(path)}")
    return int.from_bytes(hashlib.sha256(name).digest()[:6], "big") / 2**48 * 10


def _images_by_category(
    split_dir: str | os.PathLike, leave_out: Collection[str]
) -> dict[str, list[str]]:
    """List each visible folder's photographs, sorted by file name."""
    return {
        folder.name: sorted(
            file.path
            for file in _scan(folder)
            if _is_photograph(file) and file.path not in leave_out
        )
        for folder in _scan(split_dir)
        if not folder.name.startswith(".") and os.path.isdir(folder.path)
    }


def find_photographs(folder: str | os.PathLike) -> list[str]:
    """List the photographs in a folder and in the folders within it, sorted by path.

    Hidden files and folders are ignored, and so is a link that leads back up.

    Raises:
        InputError: a folder cannot be read.
    """
    found, folders = [], [(os.fspath(folder), (os.path.realpath(folder),))]
    while folders:
        here, above = folders.pop()
        for entry in _scan(here):
            if _is_photograph(entry):
                found.append(entry.path)
            elif not entry.name.startswith(".") and os.path.isdir(entry.path):
                real = os.path.realpath(entry.path)
                if real not in above:
                    folders.append((entry.path, (*above, real)))
    return sorted(found)


def _scan(folder: str | os.PathLike) -> list[os.DirEntry]:
    try:
        return list(os.scandir(folder))
    except OSError as error:  # no permission, a disk that fails
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from None


def _is_photograph(entry: os.DirEntry) -> bool:
    if entry.name.startswith(".") or not is_image_name(entry.name):
        return False
    if entry.is_symlink():  # one that leads nowhere is listed, and named when it cannot be read
        return os.path.isfile(entry.path) or not os.path.exists(entry.path)
    return entry.is_file()


def natural_key(text: str) -> tuple:
    """Sort key that puts "2" before "10" and "rose 2" before "rose 10"."""
    parts = re.split("([0-9]+)", text)  # text and digits take turns, so that keys compare
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], text


# --- Known data sets ------------------------------------------------------------------


class KnownDataSet(NamedTuple):
    """A published archive, and how to make a data folder of it.

    `size` (bytes) and `md5` are the publisher's archive's. `read` is given the open archive
    and the number of photographs, and yields them in batches, each as its path below the
    data folder and its file's content.
    """

    url: str
    size: int
    md5: str
    photographs: int
    read: Callable[..., Iterator[list[tuple[str, bytes]]]]

    @property
    def archive(self) -> str:
        """The archive's file name."""
        return self.url.split("/")[-1]


# Seconds that a server may be silent, and bytes that it is asked for at once.
PATIENCE = 20
CHUNK = 2**16

# The category of each of Oxford's photographs, from imagelabels.mat: the first photograph of
# each run of one category (from 1 on), and that category.
FLOWER_RUNS = (
    (1, 77),
    (252, 73),
    (446, 88),
    (598, 89),
    (781, 81),
    (947, 46),
    (1143, 74),
    (1314, 51),
    (1491, 44),
    (1584, 82),
    (1696, 83),
    (1827, 78),
    (1964, 80),
    (2069, 75),
    (2189, 41),
    (2316, 43),
    (2446, 76),
    (2553, 84),
    (2639, 58),
    (2753, 56),
    (2862, 86),
    (2920, 60),
    (3029, 92),
    (3095, 11),
    (3182, 65),
    (3284, 8),
    (3369, 23),
    (3460, 30),
    (3545, 72),
    (3641, 53),
    (3734, 37),
    (3828, 17),
    (3913, 51),
    (3994, 12),
    (4081, 29),
    (4159, 52),
    (4244, 18),
    (4326, 36),
    (4401, 90),
    (4481, 71),
    (4558, 40),
    (4625, 48),
    (4696, 55),
    (4767, 85),
    (4829, 91),
    (4897, 20),
    (4953, 47),
    (5020, 59),
    (5087, 2),
    (5147, 5),
    (5212, 28),
    (5278, 70),
    (5340, 22),
    (5399, 54),
    (5460, 87),
    (5523, 66),
    (5584, 32),
    (5629, 4),
    (5685, 42),
    (5744, 13),
    (5793, 38),
    (5849, 63),
    (5903, 68),
    (5957, 69),
    (6011, 93),
    (6049, 14),
    (6097, 64),
    (6149, 19),
    (6198, 49),
    (6247, 61),
    (6297, 50),
    (6346, 15),
    (6395, 9),
    (6441, 33),
    (6487, 26),
    (6528, 50),
    (6571, 25),
    (6612, 3),
    (6652, 16),
    (6693, 79),
    (6734, 1),
    (6774, 21),
    (6814, 24),
    (6850, 27),
    (6890, 31),
    (6929, 34),
    (6969, 35),
    (7007, 39),
    (7046, 67),
    (7086, 10),
    (7123, 45),
    (7162, 6),
    (7200, 7),
    (7234, 57),
    (7268, 62),
    (7284, 89),
    (7285, 37),
    (7299, 90),
    (7301, 85),
    (7302, 93),
    (7304, 94),
    (7466, 95),
    (7594, 96),
    (7685, 97),
    (7751, 98),
    (7833, 99),
    (7893, 100),
    (7942, 101),
    (8000, 102),
    (8048, 24),
    (8054, 91),
    (8062, 99),
    (8065, 31),
    (8078, 67),
    (8080, 39),
    (8082, 88),
    (8084, 35),
    (8089, 71),
    (8090, 10),
    (8098, 45),
    (8099, 7),
    (8105, 6),
    (8112, 93),
    (8118, 57),
    (8151, 62),
)

# In the order of the labels, from 0 on (batches.meta.txt).
CIFAR10_CATEGORIES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def has_train(data_dir: str | os.PathLike) -> bool:
    """Tell whether there is a data folder with photographs to train on, by its folder train."""
    return os.path.isdir(data_dir) and any(
        entry.name.lower() in SPLIT_FOLDERS["train"] and os.path.isdir(entry.path)
        for entry in _scan(data_dir)
    )


def download(
    name: str,
    data_dir: str | os.PathLike,
    progress: Callable[..., Iterator] = lambda batches, *_: batches,
) -> None:
    """Put a known data set into a folder without photographs, as train, valid and test.

    Its archive is fetched where it does not lie in the folder, and stays there. Whatever
    interrupts this, the same call goes on behind what has been fetched; train appears last,
    when all is there.

    Args:
        name: of `KNOWN_DATA_SETS`.
        data_dir: is made where it does not exist.
        progress: is given batches, the sum of their lengths, a word for them, what their
            lengths count and how much of it was there before; passes the batches on.

    Raises:
        InputError: the folder cannot be used, the archive cannot be had or is another one.
        RunError: the disk is full.
    """
    known, data_dir = KNOWN_DATA_SETS[name], Path(data_dir)
    archive, unpacked = data_dir / known.archive, data_dir / f".{name}.unpacked"
    prepare_folder(data_dir, [])
    with hold(data_dir, []):
        try:
            if not (unpacked / "train").exists():  # else it was killed while these were moved
                _require_no_photographs(data_dir)
                if os.path.lexists(archive):
                    _require_md5(archive, known)
                else:
                    _fetch(known, archive, progress)
                _unpack(known, archive, unpacked, progress)
            for split in ("test", "valid", "train"):
                if (unpacked / split).exists():
                    os.replace(unpacked / split, data_dir / split)
            unpacked.rmdir()
        except OSError as error:
            raise RunError(
                f"{name} cannot be written into {data_dir}: "
                f"{error.strerror or error}; with room there, the same command goes "
                "on"
            ) from error


def _require_no_photographs(data_dir: Path) -> None:
    found, _ = _find_splits(data_dir, ())
    if any(any(by_category.values()) for by_category in found.values()):
        raise InputError(
            f"{data_dir} has photographs, but no folder train; a data set is "
            "downloaded into a folder of its own"
        )


def _require_md5(archive: Path, known: KnownDataSet) -> None:
    if not archive.is_file():
        raise InputError(f"{archive} is no file, where the archive {known.url} would lie")
    md5 = hashlib.md5(usedforsecurity=False)
    try:
        with open(archive, "rb") as file:
            while chunk := file.read(2**20):
                md5.update(chunk)
    except OSError as error:
        raise InputError(f"{archive} cannot be read: {error.strerror}") from None
    if md5.hexdigest() != known.md5:
        raise InputError(
            f"{archive} is damaged or another file (its md5 is {md5.hexdigest()}, not "
            f"{known.md5}); move it away, and the same command fetches {known.url}"
        )


def _fetch(known: KnownDataSet, archive: Path, progress: Callable[..., Iterator]) -> None:
    """Fetch an archive and verify it, going on behind what an earlier attempt left."""
    part = archive.with_name(archive.name + ".part")
    done = part.stat().st_size if part.exists() else 0
    if done != known.size:  # else the last attempt was killed before it could verify
        response, done = _ask(known, archive, done if done < known.size else 0)
        with response, open(part, "ab" if done else "wb") as file:
            for chunk in progress(
                _receive(response, known, archive, done), known.size, "fetching", "B", done
            ):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    try:
        _require_md5(part, known)
    except InputError:
        part.unlink()  # nothing to go on from
        raise _out_of_reach(
            known, archive, "what was fetched has another checksum, and was removed"
        ) from None
    os.replace(part, archive)


def _ask(known: KnownDataSet, archive: Path, done: int) -> tuple["HTTPResponse", int]:
    """Ask for the bytes of an archive behind the first ones; where that fails, for all.

    Returns:
        The response, and how many bytes are before what it holds: `done` or 0.
    """
    # Imported here, as it takes longer than all else that predict.py needs of this module.
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    request = Request(known.url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urlopen(request, timeout=PATIENCE)
    except HTTPError as error:
        error.close()
        if error.code == 416 and done:  # the server's file ends before that
            return _ask(known, archive, 0)
        raise _out_of_reach(known, archive, error) from error
    except (OSError, HTTPException) as error:
        raise _out_of_reach(known, archive, error) from error
    if response.status == 206:
        wanted = f"bytes {done}-{known.size - 1}/{known.size}"
        if done and response.headers["Content-Range"] == wanted:
            return response, done
        response.close()  # a part of something else
        if done:
            return _ask(known, archive, 0)
    size = response.headers["Content-Length"]
    if response.status != 200 or size not in (None, str(known.size)):
        response.close()
        raise _out_of_reach(
            known, archive, f"status {response.status}, {size} bytes instead of {known.size}"
        )
    return response, 0


def _receive(
    response: "HTTPResponse", known: KnownDataSet, archive: Path, done: int
) -> Iterator[bytes]:
    """Yield the bytes of an archive behind the first ones as they come."""
    from http.client import HTTPException

    while done < known.size:
        try:  # only around the network: what the caller does with the bytes is another matter
            chunk = response.read1(min(CHUNK, known.size - done))
        except (OSError, HTTPException) as error:
            raise _out_of_reach(known, archive, error) from error
        if not chunk:
            raise _out_of_reach(known, archive, f"it broke off after {done} of {known.size} bytes")
        done += len(chunk)
        yield chunk


def _out_of_reach(known: KnownDataSet, archive: Path, why: object) -> InputError:
    return InputError(
        f"{known.url} cannot be had ({why}); try the same command again, which goes "
        f"on behind what was fetched, or put {archive.name} into {archive.parent} by "
        "hand"
    )


def _unpack(
    known: KnownDataSet, archive: Path, unpacked: Path, progress: Callable[..., Iterator]
) -> None:
    """Write the photographs of a verified archive into a folder that appears when it is whole."""
    import tarfile

    half = unpacked.with_suffix(".half")
    for leftover in (half, unpacked):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for batch in progress(
                known.read(tar, known.photographs), known.photographs, "unpacking"
            ):
                for path, content in batch:
                    place = half / path
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(content)
        if hasattr(os, "sync"):  # a folder that outlives a power cut shall not be of empty files
            os.sync()
        os.replace(half, unpacked)
    except tarfile.TarError as error:
        raise InputError(f"{archive} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _read_members(tar: "TarFile", wanted: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each wanted file of an archive, in the archive's order.

    Names from the archive never become paths here. One with links, devices or paths that
    lead out of its folder is refused all the same: it is not what it seems to be.
    """
    missing = set(wanted)
    for member in tar:
        if (
            not (member.isfile() or member.isdir())
            or member.name.startswith("/")
            or ".." in member.name.split("/")
        ):
            raise InputError(
                f"{tar.name} is not unpacked: {member.name!r} in it is a link, a "
                "device or a path out of the folder"
            )
        name = member.name.removeprefix("./")
        if member.isfile() and name in missing:
            missing.remove(name)
            yield name, tar.extractfile(member).read()
    if missing:
        raise InputError(f"{tar.name} lacks {len(missing)} files, among them {min(missing)}")


def _deal(by_category: dict[str, list[str]], tenths: Sequence[str], rest: str) -> dict[str, str]:
    """Give a tenth of each category's files to each of some splits, and the rest to another.

    The files are ranked by `_tenth`, so that it is the same on every machine. Ranks, unlike
    `_carve`'s values, make the tenths exact: of a set that does not grow, no category shall
    be missing in a split by chance.

    Returns:
        For each file its path, <split>/<category>/<file>.
    """
    paths = {}
    for category, files in by_category.items():
        tenth = (len(files) + 5) // 10
        for rank, file in enumerate(sorted(files, key=partial(_tenth, category))):
            split = tenths[rank // tenth] if rank < tenth * len(tenths) else rest
            paths[file] = f"{split}/{category}/{file}"
    return paths


def _read_flowers(tar: "TarFile", count: int) -> Iterator[list[tuple[str, bytes]]]:
    """Read Oxford's photographs: a tenth of each category is valid, a tenth test."""
    firsts, categories = zip(*FLOWER_RUNS)
    by_category: dict[str, list[str]] = {}
    labels = np.repeat(categories, np.diff([*firsts, count + 1])).tolist()
    for number, category in enumerate(labels, start=1):
        by_category.setdefault(str(category), []).append(f"image_{number:05}.jpg")
    paths = _deal(by_category, ["valid", "test"], "train")
    for name, content in _read_members(tar, [f"jpg/{file}" for file in paths]):
        yield [(paths[name.removeprefix("jpg/")], content)]


def _read_cifar10(tar: "TarFile", _: int) -> Iterator[list[tuple[str, bytes]]]:
    """Read CIFAR-10's pictures as PNG: a tenth of each category of its training split is valid.

    Its files are records of a label and 32 x 32 pixels, first all red ones, then green and
    blue, row by row (https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version").
    """
    train = [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)]
    test = ["cifar-10-batches-bin/test_batch.bin"]
    content = dict(_read_members(tar, train + test))
    for split, names, tenths in (("train", train, ["valid"]), ("test", test, [])):
        records = np.frombuffer(b"".join(content[name] for name in names), np.uint8)
        labels, pixels = np.split(records.reshape(-1, 1 + 3 * 32 * 32), [1], axis=1)
        files = [f"{split}_{number:05}.png" for number in range(1, len(labels) + 1)]
        by_category: dict[str, list[str]] = {category: [] for category in CIFAR10_CATEGORIES}
        for file, label in zip(files, labels[:, 0]):
            by_category[CIFAR10_CATEGORIES[label]].append(file)
        paths = _deal(by_category, tenths, split)
        for file, image in zip(files, pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)):
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG")
            yield [(paths[file], png.getvalue())]


# Nilsback & Zisserman 2008, and Krizhevsky 2009; the checksums are the publishers'.
KNOWN_DATA_SETS = {
    "flowers": KnownDataSet(
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",
        344_862_509,
        "52808999861908f626f3c1f4e79d11fa",
        8189,
        _read_flowers,
    ),
    "cifar10": KnownDataSet(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        170_052_171,
        "c32a1d4ab5d03f1284b67883e8d87530",
        60_000,
        _read_cifar10,
    ),
}


# --- What files say of themselves -----------------------------------------------------


class Calibration(NamedTuple):
    """What makes probabilities honest, and tells a photograph of something else."""

    temperature: float  # logits are divided by it
    patterns: Any  # float32 tensor (C, C), see `model_utils.familiarity`; None: it is built in
    quantiles: Any  # float32 tensor or array (1001,), of the familiarity of valid's photographs

    def least_familiar(self, keep: float = KEEP) -> float:
        """Say how familiar the least familiar of a share (0..1) of valid's photographs is."""
        return self.quantiles[round(1000 * (1 - keep))].item()


class Prediction(NamedTuple):
    """What a network says of a photograph."""

    probabilities: np.ndarray  # float32 (C,), 0..1
    familiarity: float  # -1..1, see `model_utils.familiarity`


# What a network's file tells of its validation.
FIGURES = {
    "epoch": int,
    "valid_loss": float,
    "valid_accuracy": float,
    "valid_images": int,
    "precision": str,
}


def check_types(entries: Any, expected: dict[str, type | tuple[type, ...]]) -> None:
    """See that a dict has entries of some names, each of its type or one of them.

    Numbers are finite, and True is no number.

    Raises:
        ValueError: it has not.
    """
    if type(entries) is not dict:
        raise ValueError("no dict")
    for key, types in expected.items():
        value = entries.get(key)
        if type(value) not in (types if isinstance(types, tuple) else (types,)):
            raise ValueError(f"{key} is of another type")
        if type(value) is float and not math.isfinite(value):
            raise ValueError(f"{key} is not finite")


def check_history(entries: dict[str, Any]) -> None:
    """See that a network's file says in the right form what it names and where it is from.

    Raises:
        ValueError, TypeError: it does not.
    """
    check_types(
        entries,
        {
            "categories": list,
            "names": list,
            "seed": int,
            "command": str,
            "date": str,
            "versions": dict,
        },
    )
    check_types(entries["versions"], dict.fromkeys(entries["versions"], str))
    check_types(entries.get("figures"), FIGURES)
    categories, names = entries["categories"], entries["names"]
    if not all(type(name) is str and name.isprintable() for name in categories + names):
        raise ValueError("impossible names")
    if len(names) != len(categories) or len(set(categories)) != len(categories):
        raise ValueError("impossible names")


def check_preprocessing(entries: Any) -> Preprocessing:
    """Turn what a file says into a preprocessing.

    Raises:
        ValueError, TypeError: it is none that can be.
    """
    check_types(
        entries, {"resize": int, "crop": int, "mean": list, "std": list, "interpolation": str}
    )
    preprocessing = Preprocessing(**entries)._replace(
        mean=tuple(entries["mean"]), std=tuple(entries["std"])
    )
    resize, crop, mean, std, interpolation = preprocessing
    if not (
        0 < crop <= LARGEST_CROP
        and crop <= resize <= 10 * crop
        and len(mean) == len(std) == 3
        and all(type(x) is float and math.isfinite(x) for x in mean + std)
        and min(std) > 0
        and interpolation in ("bicubic", "bilinear")
    ):
        raise ValueError("impossible preprocessing")
    return preprocessing


# --- Names ----------------------------------------------------------------------------


def load_names(path: str | os.PathLike) -> dict[str, str]:
    """Read a JSON object that maps categories to names.

    Raises:
        InputError: the file is missing or holds something else.
    """
    try:
        if is_special(path) or os.path.getsize(path) > LARGEST_NAMES:
            raise InputError(f"the names file {path} is too large, or no file")
        names = json.loads(Path(path).read_text(encoding="utf-8-sig"))  # as Notepad may write it
    except OSError as error:
        raise InputError(f"the names file {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"the names file {path} is not JSON: {error}") from None
    if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
        raise InputError(
            f'the names file {path} must map categories to names, as in {{"21": "fire lily"}}'
        )
    for category, name in names.items():
        if not name.isprintable():
            raise InputError(
                f"the names file {path} gives {category!r} a name that cannot be printed: {name!r}"
            )
    return names


def find_names(
    categories: Sequence[str],
    data_dir: str | os.PathLike,
    names_file: str | os.PathLike | None = None,
) -> tuple[list[str], str, list[str]]:
    """Name each category; say where the names are from, and which categories have none there.

    They come from `names_file`, else from the data folder's own cat_to_name.json, else
    from the project's, but only where the categories are exactly its 102: a stranger's
    folders 1 to 10 are not these flowers. A category without a name is its own name.

    Raises:
        InputError: the names file cannot be used.
    """
    if names_file is None and os.path.exists(own := Path(data_dir, NAMES_FILE)):
        names_file = own
    if names_file is not None:
        names, source = load_names(names_file), str(names_file)
    elif set(categories) == (home := load_names(HOME_NAMES)).keys():
        names, source = home, f"Oxford 102 Flowers ({NAMES_FILE} of this project)"
    else:
        names, source = dict(zip(categories, categories)), "the folders' names"
    return (
        [names.get(category, category) for category in categories],
        source,
        [category for category in categories if category not in names],
    )


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
        _sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """See that a new name in a folder outlives a power cut."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def hold(folder: str | os.PathLike, files: Iterable[str]) -> Iterator[None]:
    """Keep other runs out of a folder during the block, and clear what killed ones left there.

    A run that is killed lets go of it. Where there are no such locks, on Windows and on some
    network file systems, nobody is kept out.

    Args:
        folder: it exists.
        files: names of what a run writes; half-written ones are removed.

    Raises:
        InputError: another run is at work there.
    """
    path = Path(folder, ".train.lock")
    with open(path, "w") as file:
        busy = InputError(
            f"another train.py is at work in {folder}; wait for its end, or give another folder"
        )
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink == 0:  # its last holder has just removed it
                raise busy
        except BlockingIOError:
            raise busy from None
        except (ImportError, OSError):
            pass
        try:
            for name in files:
                for half in Path(folder).glob(f".{glob.escape(name)}.*.tmp"):
                    half.unlink(missing_ok=True)
            yield
        finally:
            path.unlink(missing_ok=True)


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


def prepare_folder(folder: str | os.PathLike, files: Iterable[str]) -> None:
    """Make a folder where there is none, and see that these files can be written in it.

    Raises:
        InputError: they cannot.
    """
    folder = Path(folder)
    probe = folder / f".write_test.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be written to: {error.strerror}") from None
    for name in files:
        if (folder / name).is_dir():
            raise InputError(f"{folder / name} is a folder, where a file would be written")
