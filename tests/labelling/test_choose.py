"""What is asked next: groups of one kind, kinds that are not known yet, and honest estimates."""

import numpy as np
import pytest
import torch

from labelling.choose import DRAWN, LEAST, ROUND, Chooser, find_middles

KINDS, EACH = 12, 40


@pytest.fixture
def heap() -> tuple[torch.Tensor, list[str]]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(KINDS, 64))
    kinds = rng.permutation(np.repeat(np.arange(KINDS), EACH))
    features = centres[kinds] + 0.6 * rng.normal(size=(len(kinds), 64))
    return torch.from_numpy(features.astype(np.float32)), [f"kind {i}" for i in kinds]


def label(chooser: Chooser, names: list[str], known: dict[int, str]) -> None:
    """Answer a round as somebody who knows all."""
    for first, *others in (each.photographs for each in chooser.choose(known)):
        same = [i for i in others if names[i] == names[first]]
        chooser.take(first, same, [i for i in others if i not in same])
        known |= dict.fromkeys([first, *same], names[first])
    chooser.learn(known)


def test_a_round_finds_all_kinds_in_groups_of_one_kind(heap):
    features, names = heap
    questions = Chooser(features).choose([])
    shown = [i for each in questions for i in each.photographs]
    assert len(questions) == ROUND and len({*shown}) == len(shown)
    assert {names[each.photographs[0]] for each in questions} == {*names}
    pairs = [(names[q.photographs[0]], names[i]) for q in questions for i in q.photographs[1:]]
    assert len(pairs) >= 10
    assert sum(one == other for one, other in pairs) > 0.9 * len(pairs)


def test_the_estimate_is_near_the_truth(heap):
    features, names = heap
    chooser, known = Chooser(features), dict[int, str]()
    rounds = 0
    while chooser.estimate(known, known) is None:
        label(chooser, names, known)
        rounds += 1
    assert rounds == LEAST // DRAWN
    rest = [i for i in range(len(names)) if i not in known]
    best = chooser.probabilities[rest].argmax(1).tolist()
    truth = np.mean([chooser.names[b] == names[i] for b, i in zip(best, rest)])
    found = chooser.estimate(known, known)
    assert found and found.low <= truth <= found.high
    assert truth > 0.9


def test_it_comes_to_an_end(heap):
    features, names = heap
    chooser, known = Chooser(features[:50]), dict[int, str]()
    while chooser.choose(known):
        before = len(known)
        label(chooser, names, known)
        assert len(known) > before
    assert known == dict(enumerate(names[:50]))
    assert chooser.estimate(known, known) is None


def test_one_kind_alone_can_be_labelled(heap):
    features, _ = heap
    chooser, known = Chooser(features), dict[int, str]()
    while chooser.choose(known):
        label(chooser, ["rose"] * len(features), known)
        found = chooser.estimate(known, known)
        assert found is None or found.share == 1


def test_an_answer_that_was_taken_back_counts_once(heap):
    features, _ = heap
    chooser = Chooser(features)
    chooser.choose([])
    first = min(chooser.drawn)
    for _ in range(2):
        chooser.take(first, [], [])
    assert chooser.checks == [[first]]


def test_one_kind_alone_and_equal_photographs_are_asked_about():
    chooser = Chooser(torch.ones(30, 8) + torch.eye(30, 8))
    chooser.learn({0: "rose"})
    assert chooser.choose([0])[0].guesses == ["rose"]
    middles = find_middles(torch.ones(5, 1), np.ones(5), 3)
    assert len(middles) == 1
