"""The head: the optimum of logistic regression, or learned where it has hidden layers."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import learning.head
import learning.regression
import model_utils
from data_utils import Split, find_data, load_batches
from learning.fit import open_activations
from learning.head import (
    BALANCE,
    FOLDS,
    SMOOTHING,
    fit_head,
    fit_linear_head,
    learn_head,
    out_of_fold,
    prior_offset,
    view_features,
)
from learning.resources import Resources
from learning.run import new_run
from network.inference import for_inference
from network.ood import LogitSums
from running.recipe import count_head_views
from running.settings import Settings


@pytest.fixture
def begin_head(tmp_path):
    """A new run of four categories, and its resources."""
    resources = Resources(folder=tmp_path)
    settings = Settings(image_size=32, epochs=0)
    return new_run(settings, 4, None, torch.device("cpu"), resources), resources


@pytest.mark.parametrize("largest", [10_000, 0], ids=["whitened", "plain"])
@pytest.mark.parametrize(("width", "views"), [(5, 1), (40, 3), (200, 1), (200, 4)])
def test_the_head_is_the_optimum(width, views, largest, monkeypatch):
    """Also where it is searched along fewer photographs' directions, or without whitening."""
    torch.manual_seed(0)
    monkeypatch.setattr(learning.head, "L2_PENALTIES", [0.01])
    monkeypatch.setattr(learning.regression, "LARGEST", largest)
    labels = torch.arange(60) // views % 3
    features = torch.randn(60, width) * torch.linspace(0.5, 10, width) + 3
    features[:, 0] += labels
    features[:, 4] = 2  # constant: must not divide by 0
    head = nn.Linear(width, 3)
    photographs = features.view(60 // views, views, width).clone()
    logits, _ = fit_linear_head(head, photographs, labels[::views], SMOOTHING)
    torch.testing.assert_close(head(features), logits, rtol=0, atol=1e-3)

    # An independent check: at the optimum the gradient of the whole objective is 0. In units
    # of the standardised features, the weights are the folded ones times the standard deviation.
    std = features.std(0, correction=0)
    weight = (head.weight.detach() * std).requires_grad_()
    bias = (head.bias + head.weight @ features.mean(0)).detach().requires_grad_()
    standard = torch.where(std > 0, (features - features.mean(0)) / std, 0)
    loss = F.cross_entropy(F.linear(standard, weight, bias), labels, label_smoothing=SMOOTHING)
    objective = loss + 0.01 / 2 * weight.square().sum()
    for gradient in torch.autograd.grad(objective, [weight, bias]):
        assert gradient.abs().max() < 3e-3


def test_folds_find_the_penalty_that_generalises(monkeypatch):
    """Each of 60 features tells a little; a weak penalty also learns the noise of 90 examples."""
    torch.manual_seed(0)
    labels = torch.arange(2000) % 2
    features = torch.randn(2000, 60) + 0.2 * (2 * labels[:, None] - 1)

    def accuracy(*penalties):
        monkeypatch.setattr(learning.head, "L2_PENALTIES", penalties)
        head = nn.Linear(60, 2)
        fit_linear_head(head, features[:90, None].clone(), labels[:90])
        return (head(features[90:]).argmax(1) == labels[90:]).float().mean().item()

    strong, weak = accuracy(3.0), accuracy(1e-5)
    assert strong > weak + 0.03
    assert accuracy(3.0, 1e-5) == strong


@pytest.mark.parametrize("width", [20, 400])
def test_out_of_fold_logits_do_not_know_their_own_labels(width):
    """Labels at random can be learned by heart, but not foreseen; true ones can."""
    torch.manual_seed(0)
    truth, folds = torch.arange(150) % 3, torch.arange(150) // 3 % FOLDS
    features = torch.randn(150, width) + torch.randn(3, width)[truth]
    logits = out_of_fold(features.clone(), truth, folds)
    assert (logits.argmax(1) == truth).float().mean() > 0.95
    by_chance = truth[torch.randperm(150)]
    logits = out_of_fold(torch.randn(150, width), by_chance, folds)
    assert (logits.argmax(1) == by_chance).float().mean() < 0.55


@pytest.mark.slow
def test_a_head_with_hidden_layers_takes_plain_features():
    torch.manual_seed(0)
    labels = torch.arange(90) % 3
    features = torch.randn(90, 8) * 5 + 100
    features[:, 0] += 20 * labels
    head = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
    logits = learn_head(head, features.clone()[:, None], labels)
    torch.testing.assert_close(head(features), logits, rtol=0, atol=1e-2)
    assert (head(features).argmax(1) == labels).float().mean() > 0.95


def test_the_head_of_a_network_is_fitted_and_finds_the_wrong_label(drawn, tmp_path):
    """Its body stays; the loss and the class means are those of the network."""
    splits = {**find_data(drawn).splits}
    paths, labels = 3 * [*splits["train"].paths], np.tile(splits["train"].labels, 3)
    labels[5] = 2  # two copies have their own label
    splits["train"] = Split(paths, labels)
    resources, settings = Resources(folder=tmp_path), Settings(image_size=64, epochs=0)
    run = new_run(settings, 4, None, torch.device("cpu"), resources)
    body = {key: value.clone() for key, value in run.model.body.state_dict().items()}
    features = view_features(run, open_activations(run, splits, resources)[0], len(labels))
    assert features.shape[:2] == (144, count_head_views(144))
    loss, class_means, _ = fit_head(run, features, labels, resources)
    assert run.suspects[0] == (5, 0)
    assert all(value.equal(body[key]) for key, value in run.model.body.state_dict().items())
    network = for_inference(run.model, torch.float32)
    logits = model_utils.compute_logits(network, load_batches(paths, run.preprocessing))
    targets = torch.from_numpy(labels)
    expected = F.cross_entropy(logits, targets, label_smoothing=SMOOTHING).item()
    assert loss == pytest.approx(expected, abs=1e-2)
    direct = LogitSums(4)
    direct.add(targets, logits)
    torch.testing.assert_close(class_means, direct.class_means(), rtol=0, atol=0.03)


def test_the_offset_is_a_part_of_the_logarithms_of_relative_sizes():
    """A category without photographs, as in a fold, gets none."""
    labels = np.repeat([0, 1, 3], [8, 2, 2])
    offset = prior_offset(labels, 4)
    assert offset.tolist() == pytest.approx([BALANCE * np.log(x) for x in (2, 0.5, 1, 0.5)])
    assert prior_offset(np.arange(6) % 3, 3).tolist() == [0, 0, 0]


def test_the_head_prefers_large_categories_less(begin_head):
    """Features that tell nothing leave the shares alone, without the offset."""
    run, resources = begin_head
    labels = np.repeat([0, 1, 2, 3], [27, 9, 9, 3])
    features = torch.zeros(48, 1, run.model.head.in_features)
    fit_head(run, features, labels, resources)
    shares = torch.log_softmax(run.model.head.bias.detach(), 0)
    smoothed = np.log(0.9 * np.array([27, 9, 9, 3]) / 48 + 0.1 / 4)
    expected = torch.log_softmax(torch.from_numpy(smoothed) - prior_offset(labels, 4), 0)
    torch.testing.assert_close(shares.double(), expected, rtol=0, atol=0.01)
