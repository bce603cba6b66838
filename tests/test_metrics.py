"""metrics.py against figures worked out by hand or in another way."""

import io

import metrics
import numpy as np
import pytest
from PIL import Image


def noisy_logits(count: int, scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of 10 categories, too certain by the scale, and labels drawn from the honest ones."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, (count, 10))
    labels = (honest + rng.gumbel(size=honest.shape)).argmax(1)  # distributed as the softmax
    return (scale * honest).astype(np.float32), labels


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_a_scale(scale):
    logits, labels = noisy_logits(5000, scale)
    temperature = metrics.fit_temperature(logits, labels)
    assert temperature == pytest.approx(scale, rel=0.05)

    def likelihood(t):
        chosen = metrics.softmax(logits / t)[np.arange(len(labels)), labels]
        return np.log(chosen).sum() - np.log(t) ** 2 / 2

    assert likelihood(temperature) > max(
        likelihood(temperature * 1.01), likelihood(temperature / 1.01)
    )


def test_a_few_photographs_named_rightly_do_not_make_certain():
    logits = 5 * np.eye(3, dtype=np.float32)
    assert 0.2 < metrics.fit_temperature(logits, np.arange(3)) < 1


def test_temperatures_keep_the_names():
    logits, labels = noisy_logits(300, 3.0)
    assert (metrics.cross_fit(logits, labels).argmax(1) == logits.argmax(1)).all()


def test_a_fold_is_calibrated_by_the_others():
    logits, labels = noisy_logits(500, 2.0)
    result = metrics.cross_fit(logits, labels)
    labels[::5] = logits[::5].argmin(1)  # the first fold: every name is wrong
    np.testing.assert_array_equal(metrics.cross_fit(logits, labels)[::5], result[::5])
    assert (metrics.cross_fit(logits, labels)[1::5] != result[1::5]).any()


def test_calibration_error_by_hand():
    # Bins of 1/15: 0.95 and 0.97 share one, with a right and a wrong name; 0.5 has its own.
    certainty, right = np.array([0.95, 0.97, 0.5]), np.array([True, False, True])
    assert metrics.calibration_error(certainty, right) == pytest.approx((0.92 + 0.5) / 3)
    assert metrics.calibration_error(np.ones(2), np.ones(2, bool)) == 0


def test_calibration_knows_honest_from_boastful():
    honest, boastful = (metrics.calibration(*noisy_logits(3000, scale)) for scale in (1, 4))
    assert (
        honest["expected_calibration_error"] < 0.03 < 0.1 < (boastful["expected_calibration_error"])
    )
    low, high = boastful["interval"]
    assert low < boastful["expected_calibration_error"] < high
    assert honest["negative_log_likelihood"] < boastful["negative_log_likelihood"]


def test_ranks_agree_with_argmax_also_between_equals():
    scores = np.array([[3, 3, 1], [3, 3, 1], [1, 2, 3]])
    assert metrics.rank_of(scores, np.array([0, 1, 1])).tolist() == [0, 1, 1]


@pytest.fixture
def summary():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    scores = np.eye(4)[[0, 0, 0, 1, 1, 0, 2]]
    return metrics.summarise(
        labels,
        scores.argmax(1),
        metrics.rank_of(scores, labels),
        ["1", "2", "3", "4"],
        ["rose", "lily", "iris", "poppy"],
    )


def test_summary_by_hand(summary):
    assert summary["photographs"] == 7
    assert summary["top1"] == {"right": 5, "share": 5 / 7}
    assert summary["top5"] == {"right": 7, "share": 1}
    assert summary["mean_category_accuracy"] == pytest.approx((0.75 + 0.5 + 1) / 3)  # no poppies
    assert [row["name"] for row in summary["hardest"]] == ["lily", "rose"]
    assert summary["confused"] == [
        {"categories": ["1", "2"], "names": ["rose", "lily"], "times": 2}
    ]
    rose, lily, iris, poppy = summary["categories"]
    assert rose == {
        "category": "1",
        "name": "rose",
        "photographs": 4,
        "taken_for_it": 4,
        "right": 3,
        "precision": 0.75,
        "recall": 0.75,
        "f1": 0.75,
    }
    assert (lily["precision"], lily["recall"], lily["f1"]) == (0.5, 0.5, 0.5)
    assert iris["f1"] == 1
    assert poppy["precision"] is poppy["recall"] is poppy["f1"] is None  # neither there nor named


def test_summary_in_words(summary):
    assert list(metrics.summary_lines("test accuracy", summary)) == [
        "test accuracy: 71.43% (5 of 7)",
        "among the best five: 100.00% (7 of 7); mean of the categories: 75.00%",
        "hardest: lily (1 of 2 right), rose (3 of 4 right)",
        "most confused: rose and lily (2 times)",
    ]


def test_nothing_is_hard_where_all_is_right():
    labels = np.arange(3)
    summary = metrics.summarise(labels, labels, np.zeros(3, int), list("123"), list("abc"))
    assert len([*metrics.summary_lines("test accuracy", summary)]) == 2


def test_pictures_are_drawn():
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    photo = rng.integers(255, size=(32, 32, 3), dtype=np.uint8)
    names = [f"flower ${i} with a name that is rather long" for i in range(102)]
    history = [
        {"epoch": i, "train_loss": 1 / (i + 1), "valid_loss": 2 / (i + 1), "valid_accuracy": 0.5}
        for i in range(3)
    ]
    labels, predictions = rng.integers(102, size=(2, 500))
    for figure in (
        metrics.plot_curves(history),
        metrics.plot_confusion(labels, predictions, names),
        metrics.plot_photographs([photo] * 10, names[:10]),
        metrics.plot_photographs([photo] * 8, names[:8], names[8:16]),
        metrics.plot_guesses(photo, names[:5], [0.5, 0.3, 0.1, 0.05, 0.05]),
    ):
        file = io.BytesIO()
        figure.savefig(file)
        with Image.open(file) as image:
            assert min(image.size) > 200 and image.convert("L").getextrema()[0] < 255
        titles = [axes.title.get_window_extent() for axes in figure.axes]
        assert max(title.y1 for title in titles) <= figure.bbox.height  # is not cut
    metrics.plot_photographs([], []).savefig(io.BytesIO())  # the mistakes of a run without any
