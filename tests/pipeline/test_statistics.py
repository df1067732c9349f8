"""Statistics, against scikit-learn, hand-computed cases and simulation."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics

from pipeline import statistics
from pipeline.calibration import calibrated, log_loss, temperature

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 500)
PROBA = softmax(RNG.normal(size=(500, 4)) + 2 * np.eye(4)[LABELS], axis=1)


def bits(text: str) -> np.ndarray:
    return np.array([letter == "1" for letter in text])


def test_scores_are_scikit_learns() -> None:
    predicted = PROBA.argmax(axis=1)
    assert statistics.log_loss(PROBA, LABELS) == pytest.approx(metrics.log_loss(LABELS, PROBA))
    assert statistics.macro_f1(predicted, LABELS, 4) == pytest.approx(
        metrics.f1_score(LABELS, predicted, average="macro")
    )
    np.testing.assert_array_equal(
        statistics.confusion(predicted, LABELS, 4), metrics.confusion_matrix(LABELS, predicted)
    )
    assert statistics.brier(PROBA[:, :2] / PROBA[:, :2].sum(1, keepdims=True), LABELS % 2) == pytest.approx(
        2 * metrics.brier_score_loss(LABELS % 2, PROBA[:, 1] / PROBA[:, :2].sum(1))
    )


def test_log_loss_of_impossible_truth_is_finite() -> None:
    assert statistics.log_loss(np.array([[1.0, 0.0]], np.float32), np.array([1])) == pytest.approx(
        34.54, abs=0.01
    )


def test_wilson_interval_by_hand() -> None:
    # 9 of 10: centre (9 + z²/2) / (10 + z²), half width z·√(0.9·0.1·10 + z²/4) / (10 + z²), z = 1.95996
    value, low, high = statistics.accuracy(bits("1111111110"))
    assert (value, low, high) == pytest.approx((0.9, 0.59585, 0.98212), abs=1e-5)
    assert statistics.accuracy(bits("111")).high == pytest.approx(1)
    assert statistics.accuracy(bits("111")).low == pytest.approx(0.4385, abs=1e-4)


def test_mcnemar_by_hand() -> None:
    # 5 images only the one gets right, 1 only the other: 2 · (C(6,0) + C(6,1)) / 2⁶
    a, b = bits("111110" + "1" * 9), bits("000001" + "1" * 9)
    assert statistics.mcnemar(a, b) == pytest.approx(2 * 7 / 64)
    assert statistics.mcnemar(b, a) == statistics.mcnemar(a, b)
    assert statistics.mcnemar(a, a) == 1


def test_holm_by_hand() -> None:
    assert statistics.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert statistics.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert statistics.holm([]) == []


def test_paired_difference_is_a_bootstrap_of_image_pairs() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(300) < 0.9, rng.random(300) < 0.8
    value, low, high = statistics.paired_difference(a, b, resamples=20_000, seed=0)
    assert value == pytest.approx(a.mean() - b.mean())
    picks = rng.integers(0, 300, (20_000, 300))
    plain = a[picks].mean(axis=1) - b[picks].mean(axis=1)
    np.testing.assert_allclose((low, high), np.quantile(plain, [0.025, 0.975]), atol=0.004)
    assert statistics.paired_difference(a, a, resamples=100, seed=0) == (0, 0, 0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_intervals_cover_the_truth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    covered = paired = 0
    for _ in range(1000):
        a = rng.random(400) < 0.9
        b = np.where(rng.random(400) < 0.8, a, rng.random(400) < 0.8)
        low, high = statistics.accuracy(a)[1:]
        covered += low <= 0.9 <= high
        low, high = statistics.paired_difference(a, b, resamples=1000, seed=0)[1:]
        paired += low <= 0.9 - (0.8 * 0.9 + 0.2 * 0.8) <= high
    assert 930 <= covered <= 970
    assert 930 <= paired <= 970


def test_calibration_error_of_known_cases() -> None:
    confident = np.tile([0.9, 0.1], (1000, 1))
    labels = (np.arange(1000) % 10 == 0).astype(int)  # right nine times of ten, evenly
    assert statistics.calibration_error(confident, labels, bins=10) == pytest.approx(0, abs=0.005)
    assert statistics.calibration_error(confident, np.ones(1000, int)) == pytest.approx(0.9)


def test_temperature_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 5)) * 2
    labels = (softmax(logits, axis=1).cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    assert temperature(logits * 3, labels) == pytest.approx(3, rel=0.03)
    assert temperature(logits / 50, labels) == pytest.approx(1 / 50, rel=0.03)
    best = log_loss(logits, labels)
    assert best == pytest.approx(metrics.log_loss(labels, calibrated(logits, 1.0)))
