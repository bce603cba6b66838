"""How well "none of these" is told: categories that were left out, and pictures of other things.

    python benchmarks/rejection.py flowers [--far FOLDER] [--epochs N] [--draws N]

Near: train.py learns from all but twenty categories, drawn at random; the others' photographs
are to be rejected. Far: pictures of FOLDER, noise, textures, documents and drawn flowers are; and
valid's own photographs reduced to 32 pixels and enlarged, which tells how much of it is blur. The
figure is the area under the ROC curve of some scores that logits give; predict.py uses the last.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import link_photographs, machine, make_parser, run_train
from PIL import Image, ImageDraw, ImageFont

import data_utils
import model_utils
from formats.schema import NetworkInfo
from images.drawn import draw_data
from network.devices import keep_freed_memory
from network.ood import ood_score

SIDE = 250
LEFT_OUT = 20  # categories


def scores(logits: torch.Tensor, class_means: torch.Tensor) -> dict[str, torch.Tensor]:
    """Compute the candidates: the higher, the more familiar."""
    probabilities = logits.softmax(1)
    return {
        "probability": probabilities.max(1)[0],
        "entropy": (probabilities * logits.log_softmax(1)).sum(1),
        "logit": logits.max(1)[0],
        "energy": logits.logsumexp(1),
        "margin": torch.diff(logits.topk(2, 1)[0].flip(1), dim=1)[:, 0],
        "logit in standard deviations": (logits.max(1)[0] - logits.mean(1)) / logits.std(1),
        "familiarity": ood_score(logits, class_means),
    }


def area(known: torch.Tensor, unknown: torch.Tensor) -> float:
    """Area under the ROC curve: how often a known one scores higher than an unknown one."""
    lower = torch.searchsorted(unknown.sort()[0], known).double()
    upper = torch.searchsorted(unknown.sort()[0], known, right=True).double()
    return ((lower + upper) / 2 / len(unknown)).mean().item()


def noise(rng: np.random.Generator) -> Image.Image:
    """Squares of random colours, of 1 to 64 pixels."""
    cell = 2 ** rng.integers(7)
    pixels = rng.integers(256, size=(-(-SIDE // cell),) * 2 + (3,), dtype=np.uint8)
    return Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling(rng.choice([0, 3])))


def texture(rng: np.random.Generator) -> Image.Image:
    """Stripes, checks, rings, waves or clouds in two colours."""
    y, x = np.mgrid[:SIDE, :SIDE] - rng.uniform(0, SIDE, (2, 1, 1))
    angle, frequency = rng.uniform(0, np.pi), rng.uniform(0.02, 0.5)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    distance = np.hypot(*np.meshgrid(*[np.fft.fftfreq(SIDE)] * 2)) + 1 / SIDE
    clouds = np.fft.ifft2(np.fft.fft2(rng.normal(size=x.shape)) / distance**1.5).real
    kinds = [
        np.sin(frequency * u),
        np.sign(np.sin(frequency * u) * np.sin(frequency * v)),
        np.sin(frequency * np.hypot(x, y)),
        np.sin(frequency * u + 2 * np.sin(0.05 * v)),
        clouds,
    ]
    values = kinds[rng.integers(len(kinds))]
    values = (values - values.min()) / np.ptp(values)
    one, other = rng.uniform(0, 255, (2, 3))
    pixels = one + (other - one) * values[..., None] + rng.normal(0, 8, (SIDE, SIDE, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def document(rng: np.random.Generator) -> Image.Image:
    """Lines of dark letters on light paper, a little askew."""
    image = Image.new("RGB", (SIDE, SIDE), tuple(rng.integers(225, 256, 3).tolist()))
    draw, size = ImageDraw.Draw(image), int(rng.integers(7, 22))
    for y in range(int(rng.integers(4, 16)), SIDE, int(size * 1.4)):
        words = (
            "".join(rng.choice([*"etaoinshrdlucmfwyp"], rng.integers(2, 9))) for _ in range(12)
        )
        draw.text(
            (10, y),
            " ".join(words),
            tuple(rng.integers(0, 90, 3).tolist()),
            ImageFont.load_default(size),
        )
    return image.rotate(rng.normal(0, 3), fillcolor=image.getpixel((0, 0)))


def far_pictures(folder: Path, others: str | None, valid: list[str]) -> dict[str, list[str]]:
    """Make pictures of other things; return their paths by kind."""
    rng = np.random.default_rng(0)
    kinds = {}
    if others:
        found = data_utils.find_photographs(others)
        kinds[os.path.basename(os.path.normpath(others))] = [
            found[i] for i in rng.permutation(len(found))[:1000]
        ]
    for make in (noise, texture, document):
        kinds[make.__name__] = [str(folder / f"{make.__name__}{i}.png") for i in range(300)]
        for path in kinds[make.__name__]:
            make(rng).save(path)
    draw_data(folder / "drawn", train=30, valid=0, test=0)
    kinds["drawn flowers"] = data_utils.find_photographs(folder / "drawn")
    kinds["valid, blurred"] = [str(folder / f"blurred{i}.png") for i in range(len(valid))]
    for source, path in zip(valid, kinds["valid, blurred"]):
        with Image.open(source) as image:
            scale = 32 / min(image.size)
            small = image.convert("RGB").resize([round(side * scale) for side in image.size])
            small.resize(image.size, Image.Resampling.BICUBIC).save(path)
    return kinds


def leave_out(data: data_utils.DataSet, folder: Path, categories: np.ndarray) -> list[str]:
    """Make a data folder of links without some categories; return the photographs of these."""
    unknown = []
    for name in ("train", "valid"):
        paths, labels = data.splits[name]
        is_left_out = np.isin(labels, categories)
        link_photographs(folder, data, name, np.flatnonzero(~is_left_out))
        unknown += [paths[i] for i in np.flatnonzero(is_left_out)]
    return unknown


def judge(
    model: model_utils.Classifier, info: NetworkInfo, paths: list[str]
) -> dict[str, torch.Tensor]:
    """Compute the scores of some photographs."""
    batches = data_utils.load_batches(paths, info.preprocessing, 2)
    return scores(model_utils.compute_logits(model, batches), model.class_means)


def main() -> None:
    parser = make_parser(__doc__, "data_dir")
    text = "photographs of other things"
    parser.add_argument("--far", metavar="FOLDER", type=os.path.abspath, help=text)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--draws", type=int, default=5)
    args = parser.parse_args()
    data = data_utils.find_data(args.data_dir)
    keep_freed_memory()
    print(f"{machine()}; train.py --epochs {args.epochs}", flush=True)
    areas: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        kinds = far_pictures(Path(folder), args.far, data.splits["valid"].paths)
        for draw in range(args.draws):
            here = Path(folder, str(draw))
            shuffled = np.random.default_rng(draw).permutation(len(data.categories))
            near = leave_out(data, here / "data", shuffled[:LEFT_OUT])
            kinds[f"{LEFT_OUT} other categories"] = near
            run_train(here / "data", here, "--epochs", args.epochs)
            model, info = model_utils.load_checkpoint(here / "checkpoint.pth")
            known = judge(model, info, data_utils.find_photographs(here / "data" / "valid"))
            for kind, paths in kinds.items():
                for name, unknown in judge(model, info, paths).items():
                    areas.setdefault((kind, name), []).append(area(known[name], unknown))
            numbers = {kind: len(paths) for kind, paths in kinds.items()}
            print(f"draw {draw}: {len(known['energy'])} known against {numbers}", flush=True)
    for (kind, name), values in areas.items():
        print(
            f"{kind:20}  {name:28}  {np.mean(values):.4f}  ({min(values):.4f} to "
            f"{max(values):.4f}, {len(values)} draws)"
        )


if __name__ == "__main__":
    main()
