"""How a network learns from a folder: a function of how many photographs are in its train.

Kolesnikov et al., "Big Transfer (BiT): general visual representation learning" (ECCV 2020), have
such a rule, too: few photographs need more passes, as what counts are the steps.
"""

import math
from typing import NamedTuple


class Recipe(NamedTuple):
    """How the epochs learn, where the command line does not say otherwise."""

    epochs: int
    lr: float  # the highest, after warming up
    batch_size: int


# A pretrained network: of a rich folder, such as Oxford's 64 photographs a category, and of a
# small one. Measured in benchmarks/results/few.md.
FINE_TUNING = Recipe(epochs=8, lr=4e-4, batch_size=64)
MOST_EPOCHS, SMALLEST_BATCH = 12, 16
RICH = 4096  # photographs that make a folder rich

FROM_SCRATCH = Recipe(epochs=13, lr=6e-3, batch_size=256)
SMALLEST_FROM_SCRATCH = 8

# Photographs, each with its random views, from which a head is fitted, and of which activations
# are cached: as many as a rich folder has without any, so that they cost no more.
VIEWED = 8000
FEWEST_VIEWS, MOST_VIEWS = 5, 16

# Photographs of a valid that is worth judging by: of 100, one is a percent. A folder with fewer is
# judged by cross-validation, unless train is so large that this would take long.
LEAST_VALID, LARGEST_JOINED = 100, 500
FOLDS = 3


def choose_recipe(photographs: int, pretrained: bool) -> Recipe:
    """Choose how a network learns from so many photographs.

    A pretrained one takes a rich folder's epochs and batches where there are `RICH` photographs. Of
    fewer it takes smaller batches, for as many steps an epoch, and then more epochs. From scratch
    one or two large steps an epoch would diverge: a batch is a tenth of them at most.
    """
    if not pretrained:
        most = FROM_SCRATCH.batch_size
        return with_batch_size(
            FROM_SCRATCH, min(max(photographs // 10, SMALLEST_FROM_SCRATCH), most)
        )
    recipe = FINE_TUNING
    batch_size = min(
        max(photographs * recipe.batch_size // RICH, SMALLEST_BATCH), recipe.batch_size
    )
    epochs = round(recipe.epochs * math.sqrt(RICH / max(photographs, 1)))
    epochs = min(max(epochs, recipe.epochs), MOST_EPOCHS)
    return with_batch_size(recipe._replace(epochs=epochs), batch_size)


def with_batch_size(recipe: Recipe, batch_size: int) -> Recipe:
    """Change the size of the batches, and with it the learning rate.

    Malladi et al., "On the SDEs and scaling rules for adaptive gradient algorithms" (NeurIPS 2022):
    Adam's learning rate goes with the square root of the batch size.
    """
    factor = math.sqrt(batch_size / recipe.batch_size)
    return recipe._replace(lr=recipe.lr * factor, batch_size=batch_size)


def count_views(photographs: int) -> int:
    """Return how many views of a photograph the epochs see: itself, and random ones."""
    return min(max(VIEWED // max(photographs, 1), FEWEST_VIEWS), MOST_VIEWS)


def count_head_views(photographs: int) -> int:
    """Return how many of these the head is fitted on: of a rich folder the photograph alone."""
    return min(max(VIEWED // max(photographs, 1), 1), MOST_VIEWS)
