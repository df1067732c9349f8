"""Several views per image: each weighs 1/k in the loss, and probabilities are averaged over them."""

import numpy as np
import pytest
from scipy.special import softmax

from pipeline.calibration import BOUNDS, calibrated, log_loss, temperature


def test_probabilities_of_two_views_by_hand() -> None:
    scores = np.log([[[0.5, 0.5], [0.9, 0.1]]])  # softmax of them: the numbers themselves
    np.testing.assert_allclose(calibrated(scores, 1.0), [[0.7, 0.3]])
    np.testing.assert_allclose(calibrated(scores, 0.5), [[(0.5 + 0.81 / 0.82) / 2, (0.5 + 0.01 / 0.82) / 2]])
    assert log_loss(scores, np.array([1])) == pytest.approx(-np.log(0.3))


@pytest.mark.parametrize("k", [1, 2, 10])
@pytest.mark.parametrize("size", [-2, 0, 2])
def test_temperature_minimises_the_averaged_log_loss(k: int, size: int) -> None:
    rng = np.random.default_rng(k)
    labels = rng.integers(0, 4, 60)
    own = 2 * np.eye(4)[labels]  # the right class scores higher, and so do others at times
    scores = 10.0**size * (own[:, None] + rng.normal(size=(60, 1, 4)) + rng.normal(size=(60, k, 4)))
    grid = np.geomspace(*BOUNDS, 600)
    losses = [
        -np.log(softmax(scores / T, axis=2).mean(1)[np.arange(60), labels] + 1e-300).mean() for T in grid
    ]
    T = temperature(scores, labels)
    assert log_loss(scores / T, labels) <= min(losses) + 1e-9


def test_temperature_is_not_caught_in_a_lesser_minimum() -> None:
    rng = np.random.default_rng(0)
    # Ten images at a time, whose views contradict each other
    own = 2 * np.eye(4)[rng.integers(0, 4, (60, 10))]
    for right in own:
        labels = right.argmax(axis=1)
        scores = right[:, None] + rng.normal(size=(10, 5, 4)) * rng.uniform(1, 3)
        least = min(log_loss(scores / T, labels) for T in np.geomspace(*BOUNDS, 120))
        assert log_loss(scores / temperature(scores, labels), labels) <= least + 2e-3


def test_extreme_scores_have_finite_losses() -> None:
    scores = np.array([[[0.0, 1e6], [0.0, 2e6]]], np.float32)
    assert log_loss(scores, np.array([0])) == pytest.approx(1e6 + np.log(2))
    np.testing.assert_array_equal(calibrated(scores, 1.0), [[0, 1]])
