"""How well "none of these" is told: categories that were left out, and pictures of other things.

    python benchmarks/rejection.py flowers [--far FOLDER] [--epochs N] [--draws N]

Near: train.py learns from all but twenty categories, drawn at random; the others' photographs
are to be rejected. Far: pictures of FOLDER and drawn flowers are; and
valid's own photographs reduced to 32 pixels and enlarged, which tells how much of it is blur. The
figure is the area under the ROC curve of some scores that logits give; predict.py uses the last.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import link_photographs, machine, make_parser, run_train
from PIL import Image

import data_utils
import model_utils
from formats.schema import NetworkInfo
from images.drawn import draw_data
from network.devices import keep_freed_memory
from network.ood import ood_score

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


def far_pictures(folder: Path, others: str | None, valid: list[str]) -> dict[str, list[str]]:
    """Make pictures of other things; return their paths by kind."""
    rng = np.random.default_rng(0)
    kinds = {}
    if others:
        found = data_utils.find_photographs(others)
        kinds[os.path.basename(os.path.normpath(others))] = [
            found[i] for i in rng.permutation(len(found))[:1000]
        ]
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


def measure(
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
            known = measure(model, info, data_utils.find_photographs(here / "data" / "valid"))
            for kind, paths in kinds.items():
                for name, unknown in measure(model, info, paths).items():
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
