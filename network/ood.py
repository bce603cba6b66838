"""OOD scores: cosine similarities of a photograph's logits with the mean logits of the classes."""

import torch
from torch.nn import functional as F


class LogitSums:
    """Adds up the logits of each class's training photographs."""

    def __init__(self, num_classes: int, device: torch.device = torch.device("cpu")):
        self.sums = torch.zeros(num_classes, num_classes, device=device)

    @torch.no_grad()
    def add(self, labels: torch.Tensor, logits: torch.Tensor) -> None:
        """Add logits (N, C) to the sums of their labels (N,)."""
        self.sums.index_add_(0, labels, logits)

    def class_means(self) -> torch.Tensor:
        """Return the direction of each class's mean logits: float32 (C, C), rows of length 1."""
        return centre(self.sums).float()


def centre(rows: torch.Tensor) -> torch.Tensor:
    """Subtract its mean from each row (N, C) and scale the rest to length 1."""
    return F.normalize(rows - rows.mean(1, keepdim=True), dim=1)


def ood_score(logits: torch.Tensor, class_means: torch.Tensor) -> torch.Tensor:
    """Compute the highest cosine similarity of logits (N, C) with a class mean (C, C).

    It is near 1 for photographs of the classes, lower for others (docs/probabilities.md).
    Shape (N,), -1..1.
    """
    centred = centre(logits.float())
    if not len(centred):
        return torch.empty(0)
    # Row by row: a product of matrices may round differently in another batch.
    return torch.stack([torch.mv(class_means, row).max() for row in centred])
