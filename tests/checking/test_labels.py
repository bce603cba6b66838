"""Wrong labels that were planted are what looks suspicious."""

import numpy as np
import torch

from checking.labels import find_neighbours, score_labels


def plant():
    """Features of 5 categories in a plane of many, and labels of which ten are wrong."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(5), 60)
    features = rng.normal(size=(5, 40))[truth] + 0.6 * rng.normal(size=(300, 40))
    labels = truth.copy()
    wrong = rng.choice(300, 10, replace=False)
    labels[wrong] = (labels[wrong] + rng.integers(1, 5, 10)) % 5
    return torch.from_numpy(features.astype(np.float32)), labels, truth, wrong


def score(features, labels, copies):
    features = features.clone()
    return score_labels(features, labels, copies, *find_neighbours(features))


def test_wrong_labels_are_the_most_suspicious_ones():
    features, labels, truth, wrong = plant()
    scores, best, logits = score(features, labels, np.arange(300))
    assert logits.shape == (300, 5)
    assert (best[wrong] == truth[wrong]).all()
    assert (scores[wrong] > 0.5).all() and (np.delete(scores, wrong) < 0.5).all()


def test_copies_with_the_same_wrong_label_do_not_confirm_each_other():
    features, labels, _, wrong = plant()
    i = wrong[0]
    features = torch.cat([features] + [features[i : i + 1]] * 12)
    labels = np.append(labels, [labels[i]] * 12)
    unrelated, copies = np.arange(312), np.append(np.arange(300), [i] * 12)
    assert score(features, labels, unrelated)[0][i] < 0.5 < score(features, labels, copies)[0][i]
