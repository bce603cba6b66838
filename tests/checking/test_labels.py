"""Wrong labels that were planted are what looks suspicious."""

from itertools import combinations

import numpy as np
import torch

from checking.labels import count_wrong, find_neighbours, mislabel, score_labels


def plant():
    """Features of 5 categories in a plane of many, and labels of which ten are wrong."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(5), 60)
    features = rng.normal(size=(5, 40))[truth] + 0.6 * rng.normal(size=(300, 40))
    labels = truth.copy()
    wrong = rng.choice(300, 10, replace=False)
    labels[wrong] = (labels[wrong] + rng.integers(1, 5, 10)) % 5
    return torch.from_numpy(features.astype(np.float32)), labels, truth, wrong


def score(features, labels, pairs=()):
    features = features.clone()
    pairs = np.array(pairs, int).reshape(-1, 2)
    return score_labels(features, labels, pairs, *find_neighbours(features))


def test_wrong_labels_are_the_most_suspicious_ones():
    features, labels, truth, wrong = plant()
    scores, best, logits, number = score(features, labels)
    assert logits.shape == (300, 5)
    assert 5 < number <= 10
    assert (best[wrong] == truth[wrong]).all()
    assert (scores[wrong] > 0.5).all() and (np.delete(scores, wrong) < 0.5).all()


def test_copies_with_the_same_wrong_label_do_not_confirm_each_other():
    features, labels, _, wrong = plant()
    i = wrong[0]
    features = torch.cat([features] + [features[i : i + 1]] * 12)
    labels = np.append(labels, [labels[i]] * 12)
    pairs = [*combinations([i, *range(300, 312)], 2)]
    assert score(features, labels)[0][i] < 0.5 < score(features, labels, pairs)[0][i]


def test_a_long_chain_of_next_shots_hides_no_wrong_label():
    """As of a fixed camera: each is the copy of the next, and all are not of one photograph."""
    features, labels, truth, wrong = plant()
    pairs = [(i, i + 1) for i in range(299)]
    scores, best, *_ = score(features, labels, pairs)
    assert (best[wrong] == truth[wrong]).all()
    assert (scores[wrong] > 0.5).all() and (np.delete(scores, wrong) < 0.5).all()


def test_the_number_of_wrong_labels_is_twice_that_of_scores_above_half_of_wrong_ones():
    evidence = np.log(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]]))
    assert mislabel(evidence, np.array([0, 0, 1, 1])).tolist() == [1, 1, 0, 0]
    of_wrong = np.array([0.6, 0.7, 0.8, 0.9, 1.0])
    assert count_wrong(np.array([0.85, 0.95, 0.75, 0.1]), of_wrong) == 3  # all that are suspicious
    assert count_wrong(np.array([0.85, 0.75, 0.75, 0.1]), of_wrong) == 2
    assert count_wrong(np.array([0.1, 0.2]), of_wrong) == 0
