"""How good a network is: figures of a split, what is better, and what its certainty is worth."""

import numpy as np
import pytest
import torch
from conftest import small_info
from torch.nn import functional as F

import model_utils
from data_utils import Split, find_data, load_batches
from formats.schema import KEEP, QUANTILES
from learning.activations import Activations
from learning.evaluation import Evaluation, calibrate, evaluate, final_report
from learning.resources import Resources
from learning.views import Photographs
from network.checkpoint import new_model
from network.inference import for_inference
from network.ood import LogitSums, centre, ood_score
from reporting.calibration import calibration_report, cross_fit, fit_temperature


@pytest.fixture(scope="module")
def splits(drawn):
    return find_data(drawn).splits


@pytest.fixture(scope="module")
def small_model():
    torch.manual_seed(0)
    model, preprocessing, _ = new_model("cnn", 4, 32)
    return for_inference(model, torch.float32), preprocessing


def activations_of(small_model, paths, num_frozen=0, **resources) -> Activations:
    model, preprocessing = small_model
    views = Photographs(paths, preprocessing, resources=Resources(**resources))
    return Activations(model, num_frozen, views)


def noisy(count: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too certain or too unsure, and labels that they often find."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    logits = rng.normal(size=(count, 3)) + 1.5 * np.eye(3)[labels]
    return (scale * logits).astype(np.float32), labels


def test_the_better_epoch_is_more_accurate_or_else_surer():
    result = Evaluation(0.5, 0.5, 0.9, None)
    assert Evaluation(0.9, 0.9, 0.91, None).is_better(result)
    assert Evaluation(0.9, 0.4, 0.9, None).is_better(result)  # unsure, but for the temperature
    assert not Evaluation(0.4, 0.4, 0.89, None).is_better(result)
    assert not Evaluation(0.4, 0.6, 0.9, None).is_better(result)
    assert not result.is_better(result)


def test_evaluation_is_weighted_by_photograph_not_by_batch(splits, small_model):
    # 17 photographs are batches of 8, 8 and 1: a mean over batches would count one 8 times.
    split = Split(splits["train"].paths[::2][:17], splits["train"].labels[::2][:17])
    model, preprocessing = small_model
    result = evaluate(model, activations_of(small_model, split.paths), split.labels)
    (batch,) = load_batches(split.paths, preprocessing, batch_size=17)
    with torch.inference_mode():
        logits = model(torch.from_numpy(batch))
        log_probabilities = logits.log_softmax(1).double().numpy()
    assert result.accuracy == (log_probabilities.argmax(1) == split.labels).sum() / 17
    assert result.loss == pytest.approx(-log_probabilities[range(17), split.labels].mean())
    np.testing.assert_allclose(result.logits, logits.numpy(), atol=1e-4)
    temperature = fit_temperature(result.logits, split.labels)
    calibrated = F.cross_entropy(logits / temperature, torch.from_numpy(split.labels)).item()
    assert result.calibrated_loss == pytest.approx(calibrated, rel=1e-4)
    assert result.calibrated_loss != result.loss


def test_a_cut_makes_no_difference(splits, small_model):
    split, model = splits["valid"], small_model[0]
    whole = evaluate(model, activations_of(small_model, split.paths), split.labels)
    # The part behind the cut sees what it would see anyway; without depths there is no cut.
    lite0, preprocessing, _ = new_model("efficientnet_lite0", 4, 32)
    lite0 = for_inference(lite0, torch.float32)
    results = [
        evaluate(
            lite0, activations_of((lite0, preprocessing), split.paths, num_frozen), split.labels
        )
        for num_frozen in (0, 3)
    ]
    np.testing.assert_allclose(results[0].logits, results[1].logits, rtol=1e-3, atol=1e-3)
    assert whole.logits.shape == results[0].logits.shape == (16, 4)


@pytest.mark.parametrize("scale", [0.3, 4.0])
def test_the_calibration_is_the_temperature_and_how_familiar_valid_is(scale):
    logits, labels = noisy(200, scale)
    class_means = centre(torch.eye(3))
    calibration = calibrate(logits, labels, class_means)
    assert calibration.temperature == fit_temperature(logits, labels)
    assert (calibration.temperature > 1) == (scale > 1)
    ood_scores = ood_score(torch.from_numpy(logits), class_means).sort().values.numpy()
    assert calibration.quantiles.shape == (QUANTILES,)
    assert calibration.quantiles.dtype == np.float32
    assert calibration.quantiles[0] == ood_scores[0]
    assert calibration.quantiles[-1] == ood_scores[-1]
    share = (ood_scores >= calibration.ood_threshold()).mean()
    assert share == pytest.approx(KEEP, abs=0.006)


@pytest.fixture
def saved(splits, small_model, tmp_path):
    """A checkpoint as the best epoch leaves it, loaded, and how it did on valid."""
    model, preprocessing = small_model
    valid = splits["valid"]
    best = evaluate(model, activations_of(small_model, valid.paths), valid.labels)
    sums = LogitSums(4)
    sums.add(torch.from_numpy(valid.labels), torch.from_numpy(best.logits))
    class_means = sums.class_means()
    calibration = calibrate(best.logits, valid.labels, class_means)

    info = small_info(preprocessing, categories=[*"1234"], names=[*"abcd"], calibration=calibration)
    path = tmp_path / "checkpoint.pth"
    model_utils.save_checkpoint(path, model, info, class_means)
    return (*model_utils.load_checkpoint(path, precision=torch.float32), best)


def test_a_network_is_judged_on_test(splits, saved):
    model, info, best = saved
    report, evaluated = final_report(model, info, best, splits, Resources())
    paths, labels = splits["test"]
    batches = load_batches(paths, info.preprocessing)
    expected = model_utils.compute_logits(model, batches).numpy()
    assert report["split"] == "test"
    np.testing.assert_allclose(evaluated.logits, expected, atol=1e-5)
    assert report["temperature"] == info.calibration.temperature == model.temperature
    assert report["calibration"].keys() == {"valid, cross-fitted", "test"}
    assert report["calibration"]["test"] == calibration_report(evaluated.logits, labels)
    valid = cross_fit(best.logits, splits["valid"].labels)
    assert report["calibration"]["valid, cross-fitted"] == calibration_report(
        valid, splits["valid"].labels
    )
    ood_scores = ood_score(torch.from_numpy(evaluated.logits), model.class_means)
    accepted = (ood_scores >= info.calibration.ood_threshold()).float().mean().item()
    assert report["accepted_share"] == {"valid": KEEP, "test": accepted}


def test_without_test_the_cross_fitted_logits_of_valid_have_to_do(splits, saved, monkeypatch):
    model, info, best = saved
    monkeypatch.setattr("learning.evaluation.evaluate", None)  # valid has been evaluated
    some = {name: splits[name] for name in ("train", "valid")}
    report, evaluated = final_report(model, info, best, some, Resources())
    assert report["split"] == "valid"
    assert (evaluated.logits == cross_fit(best.logits, splits["valid"].labels)).all()
    assert report["calibration"].keys() == {"valid, cross-fitted"}
    assert report["accepted_share"] == {"valid": KEEP}
