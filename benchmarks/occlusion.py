"""Whether an occlusion map finds what a name rests on: what covering its hottest places costs.

    python benchmarks/occlusion.py flowers/valid checkpoint.pth [--every N]

Of each photograph the hottest tenth of its pixels is covered, and the coldest tenth, once by the
photograph strongly blurred and once by its mean colour. A good map's hottest tenth costs the best
name much of its probability, the coldest tenth nothing. A smooth random map is the control.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from common import machine, make_parser
from torch.nn import functional as F

import model_utils
from images.decode import EVALUATION_BATCH, load_image
from images.folders import find_photographs
from network.classifier import Classifier
from network.devices import keep_freed_memory
from prediction.occlusion import GRID, blur, compute_occlusion_map

SHARE = 10  # one pixel in ten is covered
SIGMA = 1 / 8  # of the blur that covers, twice that of the map itself


def enlarge(small: torch.Tensor, side: int) -> np.ndarray:
    """Bring a map (H, W) to (side, side)."""
    return F.interpolate(small[None, None], (side, side), mode="bilinear")[0, 0].numpy()


def cover(photograph: np.ndarray, heat: np.ndarray, cold: bool, by: np.ndarray) -> np.ndarray:
    """Put another picture's pixels in the place of the hottest or coldest ones."""
    order = np.argsort(heat if cold else -heat, axis=None, kind="stable")
    covered = photograph.reshape(-1, 3).copy()
    chosen = order[: heat.size // SHARE]
    covered[chosen] = by.reshape(-1, 3)[chosen]
    return covered.reshape(photograph.shape)


def ask(model: Classifier, images: list[np.ndarray]) -> torch.Tensor:
    """Compute log-probabilities (N, C)."""
    parts = [images[i : i + EVALUATION_BATCH] for i in range(0, len(images), EVALUATION_BATCH)]
    return model_utils.compute_logits(model, map(np.stack, parts)).log_softmax(1)


def measure(
    model: Classifier, photograph: np.ndarray, maps: dict[str, np.ndarray], index: int
) -> Iterator[tuple[tuple[str, str, str], tuple[float, float]]]:
    """Yield what covering costs: map, cover and place; probability and log-probability lost."""
    covers = {
        "blur": blur(photograph, SIGMA),
        "mean": np.broadcast_to(photograph.mean((0, 1)).astype(np.uint8), photograph.shape).copy(),
    }
    keys, images = list[tuple[str, str, str]](), [photograph]
    for name, heat in maps.items():
        for kind, by in covers.items():
            for place in ("hottest", "coldest"):
                keys.append((name, kind, place))
                images.append(cover(photograph, heat, place == "coldest", by))
    whole, *covered = ask(model, images)[:, index].tolist()
    for key, each in zip(keys, covered):
        yield key, (np.exp(whole) - np.exp(each), whole - each)


def main() -> None:
    parser = make_parser(__doc__, "folder", "checkpoint")
    parser.add_argument("--every", type=int, default=13, help="take one photograph in N")
    args = parser.parse_args()
    keep_freed_memory()
    model, info = model_utils.load_checkpoint(args.checkpoint)
    predict_each = partial(model_utils.predict_each, model, batch_size=EVALUATION_BATCH)
    paths = [*find_photographs(args.folder)][:: args.every]
    print(machine(), f"{args.folder}: n = {len(paths)}", sep="\n", flush=True)
    rng = np.random.default_rng(0)
    lost, seconds = defaultdict(list), []
    for path in paths:
        photograph = load_image(path, info.preprocessing)
        index = int(ask(model, [photograph])[0].argmax())
        started = time.perf_counter()
        maps = {"occlusion": compute_occlusion_map(predict_each, photograph, index)}
        seconds.append(time.perf_counter() - started)
        noise = torch.from_numpy(rng.normal(size=(GRID, GRID)))
        maps["random"] = enlarge(noise, len(photograph))
        for key, value in measure(model, photograph, maps, index):
            lost[key].append(value)
    print("lost: probability in points, log-probability in nats; mean +- standard error")
    for (name, kind, place), values in lost.items():
        mean, error = np.mean(values, 0), np.std(values, 0, ddof=1) / len(values) ** 0.5
        print(
            f"{name:20}  {kind}  {place}  {100 * mean[0]:5.1f} +- {100 * error[0]:.1f}  "
            f"{mean[1]:6.3f} +- {error[1]:.3f}"
        )
    print(f"occlusion took {np.median(seconds):.2f} s (median)")


if __name__ == "__main__":
    main()
