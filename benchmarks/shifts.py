"""What a photograph went through: the accuracy of a checkpoint on shifted photographs.

    python benchmarks/shifts.py checkpoint.pth flowers/valid originals_valid [--every N]

Each folder has a folder for each category. Its photographs are named as they are, then each of
them under every shift: compressed, scaled, blurred, in other light, turned, farther away. Sizes
in pixels are those of a picture with a short side of 250; where a picture is turned or put
farther away, its surroundings are itself, mirrored. The mean is that of the shifts.
"""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import machine, make_parser
from PIL import Image, ImageFilter, ImageOps

import model_utils
from images.decode import Preprocessing, load_batches
from images.folders import find_photographs
from network.classifier import Classifier
from network.devices import keep_freed_memory
from running.threads import default_workers

Shift = Callable[[Image.Image], Image.Image]


def compress(image: Image.Image) -> Image.Image:
    return image  # when it is saved


def scale_to(side: int, image: Image.Image) -> Image.Image:
    factor = side / min(image.size)
    if factor >= 1:
        return image
    return image.resize(
        (round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS
    )


def blur(sigma: float, image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(sigma * min(image.size) / 250))


def add_noise(std: float, image: Image.Image) -> Image.Image:
    """Add normal noise, `std` in grey values, to each pixel of a picture of 250 pixels."""
    pixels = np.asarray(scale_to(250, image))
    noisy = pixels + np.random.default_rng(0).normal(0, std, pixels.shape)
    return Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))


def light(gains: Sequence[float], image: Image.Image) -> Image.Image:
    """Multiply red, green and blue."""
    pixels = np.asarray(image, np.float32) * np.array(gains, np.float32)
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def turn(degrees: float, image: Image.Image) -> Image.Image:
    return in_surroundings(image).rotate(degrees, Image.Resampling.BICUBIC).crop(middle(image))


def move_away(share: float, image: Image.Image) -> Image.Image:
    """Show the picture at a share of its size."""
    width, height = image.size
    whole = in_surroundings(image)
    left, top = width * (1.5 - 0.5 / share), height * (1.5 - 0.5 / share)
    box = (left, top, 3 * width - left, 3 * height - top)
    return whole.resize(image.size, Image.Resampling.BICUBIC, box, reducing_gap=3.0)


def in_surroundings(image: Image.Image) -> Image.Image:
    """Put a picture into the middle of nine, mirrored at its edges."""
    height, width = image.height, image.width
    return Image.fromarray(
        np.pad(np.asarray(image), ((height, height), (width, width), (0, 0)), "symmetric")
    )


def middle(image: Image.Image) -> tuple[int, int, int, int]:
    """Return the box of the picture in its surroundings."""
    return image.width, image.height, 2 * image.width, 2 * image.height


# Of each shift: its name, what it does, and the quality of the JPEG that is saved, if it is one.
SHIFTS: tuple[tuple[str, Shift, int | None], ...] = (
    ("JPEG of quality 40", compress, 40),
    ("JPEG of quality 20", compress, 20),
    ("short side of 250", partial(scale_to, 250), None),
    ("short side of 120", partial(scale_to, 120), None),
    ("blur of 2 pixels", partial(blur, 2), None),
    ("noise of 25 grey values", partial(add_noise, 25), None),
    ("dark, 0.4", partial(light, (0.4, 0.4, 0.4)), None),
    ("bright, 1.7", partial(light, (1.7, 1.7, 1.7)), None),
    ("warm light", partial(light, (1.2, 1.0, 0.7)), None),
    ("cold light", partial(light, (0.75, 1.0, 1.25)), None),
    ("tilted by 25 degrees", partial(turn, 25), None),
    ("on its side", lambda image: image.transpose(Image.Transpose.ROTATE_90), None),
    ("smaller, 0.6", partial(move_away, 0.6), None),
)


def save_shifted(path: str, target: Path, shift: Shift, quality: int | None) -> str:
    """Write what becomes of a photograph to a file, and return that."""
    with Image.open(path) as image:
        shifted = shift(ImageOps.exif_transpose(image).convert("RGB"))
    if quality is None:
        file = target.with_suffix(".bmp")  # without loss, and quickly
        shifted.save(file)
    else:
        file = target.with_suffix(".jpg")
        shifted.save(file, quality=quality)
    return str(file)


def accuracy(
    model: Classifier, preprocessing: Preprocessing, paths: Sequence[str], labels: torch.Tensor
) -> float:
    """Compute the share of photographs that are named correctly."""
    logits = model_utils.compute_logits(
        model, load_batches(paths, preprocessing, default_workers())
    )
    return (logits.argmax(1) == labels).double().mean().item()


def accuracies(
    checkpoint: str, paths: Sequence[str], shifts: Iterable[tuple[str, Shift, int | None]]
) -> dict[str, float]:
    """Measure the accuracy on photographs as they are and under each shift.

    Photographs' categories are the names of their folders.
    """
    model, info = model_utils.load_checkpoint(checkpoint)
    labels = torch.tensor([info.categories.index(Path(path).parent.name) for path in paths])
    measured = {"as they are": accuracy(model, info.preprocessing, paths, labels)}
    for name, shift, quality in shifts:
        with (
            tempfile.TemporaryDirectory() as folder,
            ThreadPoolExecutor(default_workers()) as pool,
        ):
            targets = [Path(folder, str(i)) for i in range(len(paths))]
            save = partial(save_shifted, shift=shift, quality=quality)
            shifted = [*pool.map(save, paths, targets)]
            measured[name] = accuracy(model, info.preprocessing, shifted, labels)
    return measured


def main() -> None:
    parser = make_parser(__doc__, "checkpoint")
    parser.add_argument("folder", nargs="+")
    parser.add_argument("--every", type=int, default=1, help="take one photograph in N")
    args = parser.parse_args()
    keep_freed_memory()
    print(machine())
    columns = []
    for folder in args.folder:
        paths = [*find_photographs(folder)][:: args.every]
        print(f"{folder}: n = {len(paths)}", flush=True)
        columns.append(accuracies(args.checkpoint, paths, SHIFTS))
    for name in columns[0]:
        print(f"{name:24}", *(f"{100 * column[name]:6.2f}" for column in columns))
    means = [np.mean([column[name] for name, *_ in SHIFTS]) for column in columns]
    print(f"{'mean of the shifts':24}", *(f"{100 * mean:6.2f}" for mean in means))
    losses = [column["as they are"] - mean for column, mean in zip(columns, means)]
    print(f"{'loss under the shifts':24}", *(f"{100 * loss:6.2f}" for loss in losses))


if __name__ == "__main__":
    main()
