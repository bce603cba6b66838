"""Copies of a photograph: the same picture in another size or quality, or the next shot of it."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from PIL import Image

from images.decode import Preprocessing, load_image
from running.errors import ImageError
from running.threads import default_workers, map_ahead

# Bits of 256 in which the hashes of copies differ at most. Of Oxford's 7,370 photographs 19 pairs
# differ in 39 or fewer; all were looked at and are copies, or the next shot. So is one more, which
# differs in 43; the first pair that is none differs in 44.
COPIES = 40
# Larger groups are of pictures that look alike, as in a studio: of ten, or a twentieth of all.
LARGEST_GROUP, LARGEST_PART = 10, 20
SMALL = Preprocessing(64, 64, (0.0,) * 3, (1.0,) * 3)
ROWS = 1024  # that are compared with all at a time


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
    signs = np.zeros((len(paths), 256), np.float32)
    for i, bits in enumerate(found):
        if bits is not None:
            signs[i] = np.where(bits, 1, -1)
    groups = np.arange(len(paths))
    for start in range(0, len(paths), ROWS):
        differing = (signs.shape[1] - signs[start : start + ROWS] @ signs.T) / 2
        for i, j in np.argwhere(differing <= COPIES).tolist():
            if j < start + i:
                groups[groups == groups[start + i]] = groups[j]
    sizes = Counter(groups.tolist())
    most = max(LARGEST_GROUP, len(paths) // LARGEST_PART)
    alone = np.array([sizes[group] > most for group in groups.tolist()], bool)
    return np.where(alone, np.arange(len(paths)), groups)
