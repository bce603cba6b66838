"""Wrong labels that were planted are what looks suspicious."""

import numpy as np
import pytest
import torch

from checking.labels import divide, score_labels, suspicion
from checking.neighbours import find_neighbours
from learning.head import FOLDS


@pytest.fixture(scope="module")
def planted():
    """Features of 5 categories in a plane of many, and labels of which ten are wrong."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(5), 60)
    centres = rng.normal(size=(5, 40))
    features = (centres[truth] + 0.6 * rng.normal(size=(300, 40))).astype(np.float32)
    labels = truth.copy()
    wrong = rng.choice(300, 10, replace=False)
    labels[wrong] = (labels[wrong] + rng.integers(1, 5, 10)) % 5
    return torch.from_numpy(features), labels, truth, wrong


def judge(features, labels, copies=None):
    features = features.clone()
    neighbours = find_neighbours(features)
    copies = np.arange(len(labels)) if copies is None else copies
    return score_labels(features, labels, copies, neighbours)


def test_planted_labels_are_the_most_suspicious_ones(planted):
    features, labels, truth, wrong = planted
    evidence, logits = judge(features, labels)
    scores, best = suspicion(evidence, labels)
    assert logits.shape == (300, 5)
    assert {*np.argsort(-scores)[:10].tolist()} == {*wrong.tolist()}
    assert (best[wrong] == truth[wrong]).all()
    assert (scores[wrong] > 0.5).all() and (np.delete(scores, wrong) < 0.5).all()


def test_a_copy_does_not_speak_for_a_photograph(planted):
    """Two copies with the same wrong label would confirm each other."""
    features, labels, _, wrong = planted
    i = wrong[0]
    twice = torch.cat([features] + [features[i : i + 1]] * 12)
    labels = np.append(labels, [labels[i]] * 12)
    copies = np.append(np.arange(300), [i] * 12)
    alone, _ = suspicion(judge(twice, labels)[0], labels)
    together, _ = suspicion(judge(twice, labels, copies)[0], labels)
    assert alone[i] < 0.5 < together[i]


def test_folds_share_out_each_category_and_keep_copies_together():
    labels = np.repeat([0, 1], 30)
    copies = np.arange(60)
    copies[[3, 17, 40]] = 3
    folds = divide(labels, copies)
    assert folds[3] == folds[17] == folds[40]
    for category in (0, 1):
        assert np.bincount(folds[labels == category], minlength=FOLDS).min() >= 8
