"""Many photographs: decoded in threads, in their order, at a flat use of memory."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np

from images.decode import Preprocessing, load_image, open_image
from running.errors import ImageError
from running.threads import map_ahead

# Photographs a batch where nothing is learned. On a CPU small batches are the fast ones:
# their activations stay in its cache. An accelerator waits for its next order otherwise.
EVALUATION_BATCH = 8
ACCELERATOR_BATCH = 64


def load_batches(
    paths: Sequence[str],
    preprocessing: Preprocessing,
    workers: int = 1,
    batch_size: int = EVALUATION_BATCH,
) -> Iterator[np.ndarray]:
    """Yield photographs in their order as uint8 arrays (n, crop, crop, 3), 0..255.

    Every batch has `batch_size` photographs but the last, which may have fewer. Threads decode
    ahead, two batches at most, so that memory does not grow with the number of photographs. Raises
    ImageError if one cannot be read.
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

    Those whose digest is known have been decoded before, which need not be done again.
    """
    tiny = Preprocessing(1, 1, (0.0,) * 3, (1.0,) * 3)  # JPEG decodes four times as fast

    def digest(path: str) -> bytes | ImageError:
        try:
            open_image(path).close()  # what is no photograph may be of any size
            found = hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()
            if found not in known:
                load_image(path, tiny)
            return found
        except ImageError as error:
            return error
        except OSError as error:  # gone since
            return ImageError(f"{path} cannot be read: {error.strerror}")

    return map_ahead(digest, paths, workers, 1000)
