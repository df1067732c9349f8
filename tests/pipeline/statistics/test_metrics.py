"""Statistics, against scikit-learn, hand-computed cases and simulation."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn import metrics as published

from pipeline.statistics import metrics
from pipeline.statistics.calibration import calibrated, log_loss, temperature

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 500)
PROBA = softmax(RNG.normal(size=(500, 4)) + 2 * np.eye(4)[LABELS], axis=1)


def bits(text: str) -> np.ndarray:
    return np.array([letter == "1" for letter in text])


def test_scores_are_scikit_learns() -> None:
    predicted = PROBA.argmax(axis=1)
    assert metrics.log_loss(PROBA, LABELS) == pytest.approx(published.log_loss(LABELS, PROBA))
    assert metrics.macro_f1(predicted, LABELS, 4) == pytest.approx(
        published.f1_score(LABELS, predicted, average="macro")
    )
    np.testing.assert_array_equal(
        metrics.confusion(predicted, LABELS, 4), published.confusion_matrix(LABELS, predicted)
    )
    two = PROBA[:, :2] / PROBA[:, :2].sum(1, keepdims=True)
    assert metrics.squared_errors(two, LABELS % 2).mean() == pytest.approx(
        2 * published.brier_score_loss(LABELS % 2, two[:, 1])
    )


def test_log_loss_of_impossible_truth_is_finite() -> None:
    assert metrics.log_loss(np.array([[1.0, 0.0]], np.float32), np.array([1])) == pytest.approx(
        34.54, abs=0.01
    )


def test_wilson_interval_by_hand() -> None:
    # 9 of 10: centre (9 + z²/2) / (10 + z²), half width z·√(0.9·0.1·10 + z²/4) / (10 + z²), z = 1.95996
    value, low, high = metrics.accuracy(bits("1111111110"))
    assert (value, low, high) == pytest.approx((0.9, 0.59585, 0.98212), abs=1e-5)
    assert metrics.accuracy(bits("111")).high == pytest.approx(1)
    assert metrics.accuracy(bits("111")).low == pytest.approx(0.4385, abs=1e-4)


def test_mcnemar_by_hand() -> None:
    # 5 images only the one gets right, 1 only the other: 2 · (C(6,0) + C(6,1)) / 2⁶
    a, b = bits("111110" + "1" * 9), bits("000001" + "1" * 9)
    assert metrics.mcnemar(a, b) == pytest.approx(2 * 7 / 64)
    assert metrics.mcnemar(b, a) == metrics.mcnemar(a, b)
    assert metrics.mcnemar(a, a) == 1


def test_holm_by_hand() -> None:
    assert metrics.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert metrics.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert metrics.holm([]) == []


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_wilson_intervals_cover_the_truth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    covered = sum(low <= 0.9 <= high for _, low, high in map(metrics.accuracy, rng.random((1000, 400)) < 0.9))
    assert 930 <= covered <= 970


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_corrected_tests_raise_false_alarms_seldom(seed: int) -> None:
    """Ten methods exactly as good as the baseline, 1,000 times: at most 5 % have any of them differ."""
    rng = np.random.default_rng(seed)
    alarms = 0
    for _ in range(1000):
        baseline = rng.random(300) < 0.9
        others = np.where(rng.random((10, 300)) < 0.7, baseline, rng.random((10, 300)) < 0.9)
        alarms += min(metrics.holm([metrics.mcnemar(other, baseline) for other in others])) < 0.05
    assert alarms <= 50 + 2 * (1000 * 0.05 * 0.95) ** 0.5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_permutation_test_raises_as_many_false_alarms_as_it_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    differences = rng.standard_t(3, size=(100, 1000))  # heavy tails, no true difference
    p_values = np.array(metrics.permutation(differences, resamples=1000, seed=seed))
    assert (p_values < 0.05).mean() == pytest.approx(0.05, abs=2.5 * (0.05 * 0.95 / 1000) ** 0.5)


def test_permutation_by_hand_and_against_mcnemar() -> None:
    # Four rows that all say the same: 2 of the 2⁴ signings are as far from zero
    assert metrics.permutation(np.ones((4, 1)), resamples=20_000, seed=0)[0] == pytest.approx(
        2 / 16, abs=0.01
    )
    a, b = bits("1" * 22 + "0" * 10 + "1" * 60), bits("1" * 12 + "0" * 14 + "1" * 66)
    difference = (a.astype(float) - b)[:, None]
    exact = metrics.mcnemar(a, b)
    assert metrics.permutation(difference, resamples=20_000, seed=0)[0] == pytest.approx(exact, abs=0.01)


def test_so_many_images_find_the_difference_four_times_of_five() -> None:
    rng = np.random.default_rng(0)
    better, worse, images = 12, 8, 372
    needed = metrics.images_needed(better, worse, images, alpha=0.05)
    assert needed is not None
    found = 0
    for b, c, _ in rng.multinomial(needed, [better / images, worse / images, 1 - 20 / images], size=2000):
        found += binomtest(b, b + c).pvalue < 0.05
    assert found / 2000 == pytest.approx(0.8, abs=0.04)
    assert metrics.images_needed(5, 5, 100, alpha=0.05) is None
    assert metrics.images_needed(60, 0, 100, alpha=0.05) < 100
    assert metrics.images_needed(12, 8, 372, alpha=0.005) > needed


def test_per_class_is_scikit_learns() -> None:
    predicted = PROBA.argmax(axis=1)
    found = metrics.per_class(metrics.confusion(predicted, LABELS, 4))
    expected = published.precision_recall_fscore_support(LABELS, predicted)
    for name, values in zip(("precision", "recall", "f1", "images"), expected, strict=True):
        np.testing.assert_allclose(found[name], values)
    absent = metrics.per_class(np.array([[3, 0], [0, 0]]))  # a class with neither images nor answers
    assert np.isnan(absent["precision"][1])
    assert np.isnan(absent["recall"][1])


def test_agreement_by_hand() -> None:
    shares = metrics.agreement(np.array([[0, 1, 2, 2], [0, 1, 1, 2], [1, 1, 1, 1]]))
    np.testing.assert_array_equal(shares, [[1, 0.75, 0.25], [0.75, 1, 0.5], [0.25, 0.5, 1]])


def test_calibration_error_of_known_cases() -> None:
    confident = np.tile([0.9, 0.1], (1000, 1))
    labels = (np.arange(1000) % 10 == 0).astype(int)  # right nine times of ten, evenly
    assert metrics.calibration_error(confident, labels, bins=10) == pytest.approx(0, abs=0.005)
    assert metrics.calibration_error(confident, np.ones(1000, int)) == pytest.approx(0.9)


def test_temperature_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 5)) * 2
    labels = (softmax(logits, axis=1).cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    assert temperature(logits * 3, labels) == pytest.approx(3, rel=0.03)
    assert temperature(logits / 50, labels) == pytest.approx(1 / 50, rel=0.03)
    best = log_loss(logits, labels)
    assert best == pytest.approx(published.log_loss(labels, calibrated(logits, 1.0)))
