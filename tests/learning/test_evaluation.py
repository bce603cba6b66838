"""How good a network is: figures of a split, and what its certainty is worth."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import model_utils
from data_utils import find_data, load_batches
from formats.schema import KEEP
from learning.evaluation import EACH, calibrate, final_report
from learning.resources import Resources
from learning.run import Run
from network.ood import LogitSums, centre, ood_score
from reporting.calibration import calibration_report, cross_fit, fit_temperature


@pytest.fixture
def splits(drawn):
    return find_data(drawn).splits


def logits_of(folder, split) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits of a run's network on a split, and the labels, by way of `model_utils` alone."""
    model, info = model_utils.load_checkpoint(folder / "checkpoint.pth")
    batches = load_batches(split.paths, info.preprocessing, batch_size=5)
    return model_utils.compute_logits(model, batches), torch.from_numpy(split.labels)


@pytest.mark.parametrize("network", ["cnn", "trained"])
def test_the_figures_of_valid_are_those_of_the_reloaded_network(splits, network, request):
    """Also where frozen layers were cached; weighted by photograph, not by batch."""
    folder = request.getfixturevalue(network)
    valid = Run.load(folder / "last.pth").valid
    logits, labels = logits_of(folder, splits["valid"])
    temperature = fit_temperature(valid.logits, splits["valid"].labels)
    np.testing.assert_allclose(valid.logits, logits * temperature, rtol=0.02, atol=0.1)
    assert valid.accuracy == (logits.argmax(1) == labels).double().mean().item()
    assert valid.loss == pytest.approx(F.cross_entropy(logits, labels).item(), abs=0.02)


@pytest.mark.parametrize("network", ["cnn", "trained"])
def test_the_class_means_are_those_of_the_network_that_is_kept(splits, network, request):
    """Not of the weights that were still learning, on augmented views."""
    folder = request.getfixturevalue(network)
    model, _ = model_utils.load_checkpoint(folder / "checkpoint.pth")
    logits, labels = logits_of(folder, splits["train"])
    first = torch.cat([torch.where(labels == c)[0][:EACH] for c in range(4)])
    sums = LogitSums(4)
    sums.add(labels[first], logits[first])
    torch.testing.assert_close(model.class_means, sums.class_means(), rtol=0, atol=0.01)


def test_the_report_is_of_test_and_of_the_calibrated_network(splits, trained):
    report = json.loads((trained / "report.json").read_text())
    model, info = model_utils.load_checkpoint(trained / "checkpoint.pth")
    logits, labels = logits_of(trained, splits["test"])
    assert report["top1"]["right"] == (logits.argmax(1) == labels).sum()
    expected = calibration_report(logits.numpy(), splits["test"].labels)
    for key, value in expected.items():
        assert report["calibration"]["test"][key] == pytest.approx(value, abs=0.02)
    enough = ood_score(logits, model.class_means) >= info.calibration.ood_threshold()
    assert report["accepted_share"] == {"valid": KEEP, "test": enough.float().mean().item()}


def test_without_test_the_cross_fitted_logits_of_valid_have_to_do(splits, cnn):
    """Else the temperature would be judged by the photographs that it was fitted to."""
    model, info = model_utils.load_checkpoint(cnn / "checkpoint.pth")
    valid = Run.load(cnn / "last.pth").valid
    some = {name: splits[name] for name in ("train", "valid")}
    report, evaluated = final_report(model, info, valid, some, Resources())
    assert report["split"] == "valid"
    assert (evaluated.logits == cross_fit(valid.logits, splits["valid"].labels)).all()
    assert report["calibration"].keys() == {"valid, cross-fitted"}
    assert report["accepted_share"] == {"valid": KEEP}


@pytest.mark.parametrize("scale", [0.3, 4.0])
def test_calibration_finds_the_temperature_and_the_ood_threshold(scale):
    """Of logits that are too unsure or too certain."""
    labels, rng = np.arange(200) % 3, np.random.default_rng(0)
    logits = scale * (rng.normal(size=(200, 3)) + 1.5 * np.eye(3)[labels])
    logits, class_means = logits.astype(np.float32), centre(torch.eye(3))
    calibration = calibrate(logits, labels, class_means)
    assert calibration.temperature == fit_temperature(logits, labels)
    assert (calibration.temperature > 1) == (scale > 1)
    scores = ood_score(torch.from_numpy(logits), class_means).numpy()
    assert calibration.quantiles[[0, -1]].tolist() == [scores.min(), scores.max()]
    assert (scores >= calibration.ood_threshold()).mean() == pytest.approx(KEEP, abs=0.006)
