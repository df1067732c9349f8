"""Temperatures: what confidence so many images can carry, on every kind of scores, and on every path."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss as sklearn_log_loss

from pipeline.heads import HEADS
from pipeline.statistics.calibration import calibrated, log_loss, log_losses, temperature
from pipeline.tuning.folds import CrossValidation, Fold, Rows
from pipeline.tuning.search import tune

GRIDS: dict[str, dict[str, Any]] = {
    "logreg": {"C": (1e-6, 1.0, 1e5)},
    "linear-svm": {"C": (1e-6, 1.0, 1e5)},
    "rbf-svm": {"C": (1.0, 100.0), "gamma": (0.1, 1.0)},
    "mlp": {"hidden": (16,), "learning_rate": (1e-2,), "epochs": 60},
    "knn": {"k": (1, 5)},
}


def drawn(n: int, apart: float, seed: int, classes: int = 2) -> Rows:
    """Images of classes in turn; `apart` of their means, in standard deviations."""
    rng, y = np.random.default_rng(seed), (np.arange(n) % classes).astype(np.int32)
    return Rows((rng.normal(size=(n, 8)) + apart * np.eye(classes, 8)[y]).astype(np.float32), y, np.arange(n))


def jeffreys(n: int) -> float:
    return (n + 0.5) / (n + 1)


def test_likelihood_alone_is_scipys_minimum() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(400, 5)), rng.integers(5, size=400)
    scores[np.arange(400), labels] += 1.5

    def loss(inverse: float) -> float:
        return sklearn_log_loss(labels, softmax(inverse * scores, axis=1))

    expected = 1 / minimize_scalar(loss, bounds=(0.01, 10), method="bounded").x
    assert temperature(scores, labels, smoothed=0) == pytest.approx(expected, rel=1e-3)
    assert temperature(scores, labels) == pytest.approx(expected, rel=0.01)  # 400 rows: hardly any other


def test_two_classes_are_platts() -> None:
    """With as many images of both, Platt's slope without an intercept, its one image here a half."""
    scores = np.array([[1.0, -1.0], [3.0, -2.0], [0.5, 0.0], [-1.0, 2.0], [0.0, 4.0], [1.0, 3.0]])
    labels = np.repeat([0, 1], 3)
    margins = scores[:, 1] - scores[:, 0]
    targets = np.where(labels == 1, jeffreys(6), 1 - jeffreys(6))

    def loss(slope: float) -> float:
        log_proba = log_softmax(np.stack([np.zeros(6), slope * margins], axis=1), axis=1)
        return float(-(targets * log_proba[:, 1] + (1 - targets) * log_proba[:, 0]).sum())

    expected = 1 / minimize_scalar(loss, bounds=(1e-3, 10), method="bounded").x
    assert temperature(scores, labels) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("n", [2, 12, 55, 1000])
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_all_right_carries_jeffreys_confidence(n: int, classes: int) -> None:
    scores, labels = np.zeros((n, classes)), np.arange(n) % classes
    scores[np.arange(n), labels] = 1.0
    scores[np.arange(n), (labels + 1) % classes] = 0.5  # the strongest other; the rest far behind
    scores[scores == 0] = -10
    T = temperature(scores, labels)
    assert calibrated(scores, T).max(axis=1) == pytest.approx(np.full(n, jeffreys(n)), abs=1e-3)
    for scale in (1e-9, 1e9):  # margins of any size
        assert temperature(scores * scale, labels) == pytest.approx(T * scale, rel=1e-3)
    views = np.repeat(scores[:, None], 3, axis=1)
    assert temperature(views, labels) == pytest.approx(T, rel=1e-3)


def test_scores_that_say_nothing_have_a_temperature() -> None:
    assert temperature(np.zeros((5, 3)), np.zeros(5, int)) == 1
    scores = np.random.default_rng(0).normal(size=(12, 2))
    wrong = scores.argmin(axis=1)
    assert calibrated(scores, temperature(scores, wrong)).max() < 0.52  # always wrong: nearly even


def test_log_losses_are_scikit_learns() -> None:
    scores, labels = np.random.default_rng(0).normal(size=(50, 4)), np.arange(50) % 4
    assert log_loss(scores, labels) == pytest.approx(sklearn_log_loss(labels, softmax(scores, axis=1)))
    assert log_losses(scores, labels).mean() == pytest.approx(log_loss(scores, labels))


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("classes", [2, 5])
def test_twelve_right_images_do_not_make_a_head_certain(name: str, classes: int) -> None:
    train, held = drawn(60, 9.0, 0, classes), drawn(12, 9.0, 1, classes)
    tuned = tune(
        HEADS[name], GRIDS[name], ["none", "standard"], [Fold(train, held)], tuple("abcde"[:classes])
    )
    assert tuned.chosen.top1 == 1
    for trial in tuned.trials:
        assert trial.log_loss > 0.02  # none is zero: it still tells
    confidence = tuned.classifier.predict_proba(held.X).max(axis=1)
    assert confidence.mean() == pytest.approx(jeffreys(12), abs=0.03)


def test_folds_carry_together_what_all_their_images_can() -> None:
    everything = drawn(60, 9.0, 0)
    cut = CrossValidation(everything, 5, 2, 0)  # twice: the images are no more for that
    tuned = tune(HEADS["knn"], {"k": (1,)}, ["none"], cut, ("a", "b"), refit=everything)
    assert tuned.chosen.top1 == 1
    confidence = tuned.classifier.predict_proba(drawn(20, 9.0, 1).X).max(axis=1)
    np.testing.assert_allclose(confidence, jeffreys(60), atol=1e-3)
    held = drawn(12, 9.0, 2)
    again = tune(HEADS["knn"], {"k": (1,)}, ["none"], [Fold(everything, held)], ("a", "b"), refit=everything)
    confidence = again.classifier.predict_proba(drawn(20, 9.0, 1).X).max(axis=1)
    np.testing.assert_allclose(confidence, jeffreys(12), atol=1e-3)


@pytest.mark.parametrize(("apart", "classes"), [(2.2, 2), (3.0, 2), (3.3, 5)])
def test_held_out_log_loss_is_near_the_best_temperatures(apart: float, classes: int) -> None:
    """Gaussian scores, 40 draws of 12 images: likelihood alone gives away many times as much."""
    others = drawn(4000, apart, 1000, classes)
    best = log_loss(
        others.X[:, :classes] / temperature(others.X[:, :classes], others.y, smoothed=0), others.y
    )
    lost = {0.0: 0.0, 0.5: 0.0}
    for seed in range(40):
        rows = drawn(12, apart, seed, classes)
        for smoothed in lost:
            T = temperature(rows.X[:, :classes], rows.y, smoothed=smoothed)
            lost[smoothed] += (log_loss(others.X[:, :classes] / T, others.y) - best) / 40
    assert lost[0.5] < 0.1
    assert lost[0.0] > 5 * lost[0.5]
