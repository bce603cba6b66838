"""Seconds of fitting the head against the number of photographs and of categories, on one thread.

    python benchmarks/categories.py

The features are those of the default network, for two kinds of pictures: "drawn" ones are not
looked at but drawn as features, a centre for each category and noise, both along 200 directions
that matter less and less; "plain" ones are pictures of one colour each, which lie so close
together that the search takes many steps.
"""

import time
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from common import machine, make_parser
from torch import nn

import learning.regression
from learning.head import SMOOTHING, fit_linear_head
from learning.regression import find_direction
from model_utils import for_inference, new_model
from network.inference import extract_features

SIZES = ((1000, 10), (1000, 100), (300, 300), (1000, 1000), (3000, 1000))  # photographs, categories
FEATURES = 3808  # of the default network


def draw_features(labels: torch.Tensor) -> torch.Tensor:
    """Draw features (N, F) that differ by category along a few directions."""
    strength = torch.arange(1, 201) ** -0.5
    centres = torch.randn(int(labels.max()) + 1, 200)
    places = (centres[labels] + torch.randn(len(labels), 200)) * strength
    return places @ torch.randn(200, FEATURES) + 0.3 * torch.randn(len(labels), FEATURES)


def plain_features(labels: torch.Tensor) -> torch.Tensor:
    """Compute the features (N, F) of pictures whose category is their colour, but for a little."""
    draws = np.random.default_rng(0)
    colours = draws.integers(0, 256, (int(labels.max()) + 1, 3))[labels.numpy()]
    colours = (colours + draws.integers(-4, 5, colours.shape)).clip(0, 255).astype(np.uint8)
    model = for_inference(new_model("efficientnet_lite0", 2)[0])
    batches = (
        torch.from_numpy(np.broadcast_to(part[:, None, None], (len(part), 96, 96, 3)).copy())
        for part in np.array_split(colours, len(colours) // 16)
    )
    return extract_features(model, batches, len(colours))


def measure(features: torch.Tensor, labels: torch.Tensor) -> str:
    """Solve a head, and say what it took."""
    head, steps = nn.Linear(FEATURES, int(labels.max()) + 1), 0

    def count(*args: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
        return find_direction(*args)

    started, cpu_started = time.perf_counter(), time.process_time()
    with patch.object(learning.regression, "find_direction", count):
        fit_linear_head(head, features, labels, SMOOTHING)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return f"{seconds:.1f} s ({cpu_seconds:.1f} s of CPU), {steps} steps"


def main() -> None:
    make_parser(__doc__).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(machine(), "of which one is used")
    for photographs, categories in SIZES:
        labels = torch.arange(photographs) * categories // photographs
        for kind, make in (("drawn", draw_features), ("plain", plain_features)):
            what = f"{photographs} photographs, {categories} categories, {kind}"
            print(f"{what}: {measure(make(labels), labels)}", flush=True)


if __name__ == "__main__":
    main()
