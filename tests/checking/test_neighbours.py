"""The neighbours of a photograph are those with the most similar features."""

import torch

from checking.neighbours import NUMBER, find_neighbours


def test_neighbours_are_of_the_same_cluster_and_not_oneself():
    torch.manual_seed(0)
    centres = torch.randn(4, 50)
    features = centres.repeat_interleave(40, 0) + 0.1 * torch.randn(160, 50)
    indices, cosines = find_neighbours(features)
    assert indices.shape == cosines.shape == (160, NUMBER)
    own = (indices // 40 == torch.arange(160)[:, None] // 40).float().mean()
    assert own > 0.9  # of neighbours at random it would be a quarter
    assert (indices != torch.arange(160)[:, None]).all()
    assert (cosines.diff(dim=1) <= 0).all()
