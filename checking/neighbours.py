"""The photographs whose features are most similar to those of each one."""

import torch
from torch.nn import functional as F

from learning.head import standardise

NUMBER = 30  # neighbours of a photograph
# Principal components along which features are compared: fewer where there are few photographs,
# of which each would have a component of its own.
DIMENSIONS, PHOTOGRAPHS_EACH = 256, 8
FLOOR = 0.1  # added to the variances, so that what hardly varies does not count as much


def find_neighbours(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Find each photograph's nearest ones: indices and cosines (N, k), the nearest first.

    Features (N, F) are standardised in place, and compared along their principal components, each
    scaled to the same variance: what many features say counts once.
    """
    standardise(features)
    count = len(features)
    with torch.random.fork_rng(devices=[]):  # the components are found by a random start
        torch.manual_seed(0)
        size = min(DIMENSIONS, -(-count // PHOTOGRAPHS_EACH), features.shape[1])
        _, scales, axes = torch.pca_lowrank(features, size, center=False)
    axes = axes / (scales.square() / count + FLOOR).sqrt()
    rows = F.normalize(features @ axes, dim=1)
    found = []
    for start in range(0, count, 1024):
        cosines = rows[start : start + 1024] @ rows.T
        cosines.diagonal(start).fill_(-2)
        found.append(cosines.topk(min(NUMBER, count - 1), 1))
    return torch.cat([part.indices for part in found]), torch.cat([part.values for part in found])
