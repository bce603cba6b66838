"""network/familiarity.py"""

import torch
from torch.nn import functional as F


def find_patterns(sums: torch.Tensor) -> torch.Tensor:
    """Turn sums of logits by category (C, C) into the pattern of each: float32, of length 1.

    A pattern says which other categories the photographs of one resemble, and how much.
    """
    return F.normalize((sums - sums.mean(1, keepdim=True)).float(), dim=1)


def _centred(rows: torch.Tensor) -> torch.Tensor:
    """Take the mean from each row (N, C) and scale what is left to length 1."""
    return F.normalize(rows - rows.mean(1, keepdim=True), dim=1)


def familiarity(logits: torch.Tensor, patterns: torch.Tensor) -> torch.Tensor:
    """Say how much logits (N, C) look like those of some category's training photographs.

    It is the highest cosine with a pattern (C, C): near 1 for photographs of the categories,
    lower for others (README, "Probabilities, and what is unknown"). Shape (N,), -1..1.
    """
    centred = _centred(logits.float())
    # Row by row: a matrix product may round otherwise in another company.
    return (
        torch.stack([(patterns * row).sum(1).max() for row in centred])
        if len(centred)
        else (torch.empty(0))
    )
