"""Familiarity: cosines with prototypes, against figures worked out by hand."""

import torch

from network.ood import LogitSums, centre, ood_score


def test_sums_are_those_of_a_direct_computation():
    rng = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(40, 5, generator=rng), torch.arange(40) % 4  # none of class 4
    sums = LogitSums(5)
    for start in range(0, 40, 7):
        part = slice(start, start + 7)
        sums.add(labels[part], logits[part].requires_grad_())
    assert not sums.sums.requires_grad
    expected = torch.stack([logits[labels == c].sum(0) for c in range(5)])
    torch.testing.assert_close(sums.sums, expected)

    class_means = sums.class_means()
    assert class_means.dtype == torch.float32
    for c in range(4):  # a mean points where a sum does
        direction = expected[c] - expected[c].mean()
        torch.testing.assert_close(class_means[c], direction / direction.square().sum().sqrt())
    assert (class_means[4] == 0).all()  # and nan nowhere


def test_the_ood_score_depends_neither_on_the_temperature_nor_on_the_batch():
    rng = torch.Generator().manual_seed(1)
    class_means = centre(torch.randn(6, 6, generator=rng))
    logits = torch.randn(9, 6, generator=rng)
    together = ood_score(logits, class_means)
    assert torch.cat([ood_score(row[None], class_means) for row in logits]).equal(together)
    torch.testing.assert_close(ood_score(logits / 3, class_means), together)
    assert ((together > -1) & (together <= 1 + 1e-6)).all()
