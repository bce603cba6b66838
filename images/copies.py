"""Copies of a photograph: the same picture in another size or quality, or the next shot of it."""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from PIL import Image

from images.decode import Preprocessing, load_image
from running.errors import ImageError
from running.threads import default_workers, map_ahead

# Bits of 256 in which the hashes of copies differ at most. Of Oxford's 7,370 photographs 19 pairs
# differ in 37 or fewer; all were looked at and are copies, or the next shot. The next pair differs
# in 42.
COPIES = 40
SMALL = Preprocessing(96, 96, (0.0,) * 3, (1.0,) * 3)  # JPEG is decoded that small
# Larger groups are of pictures that look alike, as in a studio: of ten, or a twentieth of all.
LARGEST_GROUP, LARGEST_PART = 10, 20
CHUNK = 2**22  # comparisons at a time


def hash_image(path: str) -> np.ndarray | None:
    """Hash a photograph: whether it is brighter to the right of 16 x 16 places, bool (256,).

    The "difference hash" hardly changes with the size, the colours or the JPEG of a copy. None: the
    photograph cannot be read.
    """
    with suppress(ImageError):
        small = Image.fromarray(load_image(path, SMALL, whole=True)).convert("L")
        small = small.resize((17, 16), Image.Resampling.BOX)
        brightness = np.asarray(small, np.int16)
        return (brightness[:, 1:] > brightness[:, :-1]).ravel()
    return None


def group_copies(paths: Sequence[str]) -> np.ndarray:
    """Number photographs so that copies of one another have the same number: (N,)."""
    found = [*map_ahead(hash_image, paths, default_workers(), 1000)]
    signs = np.zeros((len(paths), 256), np.float32)  # of one that cannot be read, no bit agrees
    for i, bits in enumerate(found):
        if bits is not None:
            signs[i] = np.where(bits, 1, -1)
    most, rows = max(LARGEST_GROUP, len(paths) // LARGEST_PART), max(1, CHUNK // max(len(paths), 1))
    pairs = [np.empty((0, 2), int)]
    for start in range(0, len(paths), rows):
        is_copy = signs[start : start + rows] @ signs.T >= signs.shape[1] - 2 * COPIES
        is_copy[is_copy.sum(1) > most] = False  # its group would be too large
        pairs.append(np.argwhere(is_copy) + [start, 0])
    return group_pairs(np.concatenate(pairs), len(paths), most)


def group_pairs(pairs: np.ndarray, count: int, most: int) -> np.ndarray:
    """Number `count` photographs so that those of a pair (P, 2), and theirs, share a number: (N,).

    In groups of more than `most` each is alone: a long chain, as of the shots of a fixed camera, is
    not of one photograph.
    """
    first = [*range(count)]

    def find(i: int) -> int:
        while first[i] != i:
            first[i] = first[first[i]]
            i = first[i]
        return i

    for i, j in pairs.tolist():
        low, high = sorted((find(i), find(j)))
        first[high] = low
    groups = np.array([find(i) for i in range(count)], int)
    sizes = np.bincount(groups, minlength=count)
    return np.where(sizes[groups] > most, np.arange(count), groups)
