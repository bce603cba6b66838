"""The head: the optimum of logistic regression, or learned where it has hidden layers."""

import numpy as np
import pytest
import torch
from conftest import random_images
from PIL import Image
from torch import nn
from torch.nn import functional as F

import learning.head
import learning.regression
import model_utils
from images.decode import Preprocessing
from learning.activations import Activations
from learning.head import FOLDS, SMOOTHING, fit_head, fit_linear_head, learn_head, out_of_fold
from learning.resources import Resources
from learning.run import Run
from learning.views import Photographs
from network.checkpoint import build_classifier
from network.inference import for_inference
from network.layers import basic_cnn
from running.settings import Settings

# --- Solved -----------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("width", [5, 40, 200])
def test_the_solved_head_is_the_optimum(smoothing, width, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(learning.head, "L2_PENALTIES", [0.01])
    labels = torch.arange(60) % 3
    features = torch.randn(60, width) * torch.linspace(0.5, 10, width) + 3
    features[:, 0] += labels
    features[:, 4] = 2  # constant: must not divide by 0
    head = nn.Linear(width, 3)
    logits, _ = fit_linear_head(head, features.clone(), labels, smoothing)
    torch.testing.assert_close(head(features), logits, rtol=0, atol=1e-3)

    # An independent check: at the optimum the gradient of the whole objective is 0. In units
    # of the standardised features, the weights are the folded ones times the standard deviation.
    std = features.std(0, correction=0)
    weight = (head.weight.detach() * std).requires_grad_()
    bias = (head.bias + head.weight @ features.mean(0)).detach().requires_grad_()
    standard = torch.where(std > 0, (features - features.mean(0)) / std, 0)
    objective = (
        F.cross_entropy(F.linear(standard, weight, bias), labels, label_smoothing=smoothing)
        + 0.01 / 2 * weight.square().sum()
    )
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
        fit_linear_head(head, features[:90].clone(), labels[:90])
        return (head(features[90:]).argmax(1) == labels[90:]).float().mean().item()

    strong, weak = accuracy(3.0), accuracy(1e-5)
    assert strong > weak + 0.03
    assert accuracy(3.0, 1e-5) == strong


@pytest.mark.parametrize("width", [6, 100])
def test_the_plain_search_ends_at_the_same_optimum(width, monkeypatch):
    """Without whitening, and for 100 features without the detour by 60 photographs' directions."""
    torch.manual_seed(0)
    monkeypatch.setattr(learning.head, "L2_PENALTIES", [0.1])
    labels = torch.arange(60) % 3
    features = torch.randn(60, width)
    features[:, 0] += labels
    features[1] = features[0]  # directions are missing
    unseen = torch.randn(60, width)
    heads = nn.Linear(width, 3), nn.Linear(width, 3)
    fit_linear_head(heads[0], features.clone(), labels)
    monkeypatch.setattr(learning.regression, "LARGEST", 0)
    fit_linear_head(heads[1], features.clone(), labels)
    for seen in (features, unseen):
        torch.testing.assert_close(heads[0](seen), heads[1](seen), rtol=0, atol=0.05)


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


# --- Learned ----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_learned_head_takes_plain_features():
    torch.manual_seed(0)
    labels = torch.arange(90) % 3
    features = torch.randn(90, 8) * 5 + 100
    features[:, 0] += 20 * labels
    head = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
    logits = learn_head(head, features.clone(), labels)
    torch.testing.assert_close(head(features), logits, rtol=0, atol=1e-2)
    assert (head(features).argmax(1) == labels).float().mean() > 0.95
    assert not head.training


# --- Of a network -----------------------------------------------------------------------


@pytest.fixture
def bright_and_dark(tmp_path):
    """Activations and labels of pictures that a mean tells apart, and a network for them."""
    paths = []
    for i in range(12):
        pixels = random_images(1, 32, seed=i)[0].numpy() // 2 + 127 * (i % 2)
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    labels = np.arange(12) % 2

    def build(hidden_units=(), **resources):
        torch.manual_seed(0)
        preprocessing = Preprocessing(32, 32, (127.5,) * 3, (64.0,) * 3)
        body = nn.Sequential(*basic_cnn()[:3], nn.AdaptiveAvgPool2d(1))
        model = build_classifier(body, [], 16, hidden_units, 2, preprocessing)
        views = Photographs(paths, preprocessing, resources=Resources(**resources))
        run = Run(Settings(), model, preprocessing, "weights", -1)
        return run, Activations(for_inference(model, torch.float32), 0, views), labels

    return build


@pytest.mark.parametrize("hidden_units", [(), pytest.param((8,), marks=pytest.mark.slow)])
def test_the_head_of_a_network_is_fitted_and_its_logits_are_summed(bright_and_dark, hidden_units):
    run, activations, labels = bright_and_dark(hidden_units)
    model = run.model
    body = {key: value.clone() for key, value in model.body.state_dict().items()}
    loss, sums = fit_head(run, activations, labels)
    assert all(value.equal(body[key]) for key, value in model.body.state_dict().items())
    fast = for_inference(model, torch.float32)
    logits = model_utils.compute_logits(fast, activations.in_order())
    targets = torch.from_numpy(labels)
    assert (logits.argmax(1) == targets).all()
    expected = F.cross_entropy(logits, targets, label_smoothing=SMOOTHING).item()
    assert loss == pytest.approx(expected, abs=1e-2)
    direct = torch.stack([logits[targets == c].sum(0) for c in (0, 1)])
    torch.testing.assert_close(sums.sums, direct, rtol=1e-2, atol=0.1)
