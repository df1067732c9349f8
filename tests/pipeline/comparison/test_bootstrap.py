"""Intervals by resampling, against scipy, hand-computed variances and simulation."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.special import softmax

from pipeline.comparison.bootstrap import Bootstrapped, bootstrap, resample_weights
from pipeline.records.predictions import Predictions
from pipeline.statistics import metrics


def predictions(proba: NDArray[np.float64], label: NDArray[np.int64]) -> Predictions:
    names = np.array([f"class {number}" for number in range(proba.shape[1])])
    ids = np.arange(len(label)).astype(str)
    return Predictions(ids, label.astype(np.int32), proba.astype(np.float32), names)


def drawn(rng: np.random.Generator, label: NDArray[np.int64], skill: float) -> Predictions:
    n_classes = label.max() + 1
    return predictions(
        softmax(rng.normal(size=(len(label), n_classes)) + skill * np.eye(n_classes)[label], 1), label
    )


def test_weights_keep_every_stratum_and_have_the_variance_of_a_mean() -> None:
    strata = np.array([0] * 3 + [2] * 40 + [1] * 7)[np.random.default_rng(0).permutation(50)]
    weights = np.concatenate(list(resample_weights(strata, resamples=20_000, seed=0)))
    for stratum, size in ((0, 3), (1, 7), (2, 40)):
        np.testing.assert_allclose(weights[:, strata == stratum].sum(axis=1), size, rtol=1e-5)
    values = np.random.default_rng(1).normal(size=50)
    means = weights @ values / 50
    # of a stratified mean: Σ n_c · s_c² / n², s_c² with n_c − 1 below
    by_hand = sum((strata == c).sum() * values[strata == c].var(ddof=1) for c in range(3)) / 50**2
    assert means.mean() == pytest.approx(values.mean(), abs=0.003)
    assert means.var() == pytest.approx(by_hand, rel=0.03)


def test_a_stratum_of_one_row_keeps_it() -> None:
    weights = np.concatenate(list(resample_weights(np.array([0, 1, 1, 1]), resamples=50, seed=0)))
    assert (weights[:, 0] == 1).all()


def test_bca_is_scipys() -> None:
    """One stratum, skewed values: scipy draws n rows where we draw n − 1, which is little of 200."""
    values = np.random.default_rng(0).exponential(size=200)
    ours = Bootstrapped(
        float(values.mean()),
        np.concatenate(
            [w @ values / 200 for w in resample_weights(np.zeros(200, int), resamples=40_000, seed=0)]
        ),
        (values - values.mean()) / 200,
    ).interval
    theirs = stats.bootstrap((values,), np.mean, n_resamples=40_000, method="BCa", rng=1)
    np.testing.assert_allclose(ours[1:], theirs.confidence_interval, atol=0.006)
    assert ours.high - ours.value > ours.value - ours.low  # skewed as the values are


@pytest.mark.parametrize("n_classes", [2, 4, 80])  # dense and sparse
def test_statistics_of_resamples_are_those_of_the_rows_drawn(n_classes: int) -> None:
    """With whole weights a resample is a list of rows: the plain statistics of these rows."""
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(n_classes), 2)  # of two rows one is drawn, and counts twice
    found = drawn(rng, label, 1.5)
    replicates = bootstrap([found], resamples=30, seed=3)[0]
    for number, weights in enumerate(np.concatenate(list(resample_weights(label, resamples=30, seed=3)))):
        rows = np.repeat(np.arange(len(label)), np.rint(weights).astype(int))
        proba, labels = found.proba[rows], label[rows]
        predicted = proba.argmax(axis=1)
        expected = {
            "top1": (predicted == labels).mean(),
            "log_loss": metrics.log_loss(proba, labels),
            "brier": metrics.squared_errors(proba, labels).mean(),
            "macro_f1": metrics.macro_f1(predicted, labels, n_classes),
        }
        for name, value in expected.items():
            assert replicates[name].replicates[number] == pytest.approx(value, rel=1e-5), name


def test_influence_is_the_derivative() -> None:
    rng = np.random.default_rng(2)
    label = rng.integers(0, 5, 60)
    found = drawn(rng, label, 1.0)
    bootstrapped = bootstrap([found], resamples=2, seed=0)[0]
    predicted, table = found.proba.argmax(axis=1), np.zeros((5, 5))
    np.add.at(table, (label, predicted), 1)

    def macro_f1(row: int, step: float) -> float:
        """Of a row weighing 1 + step, its class's other rows making up for it."""
        moved, others = table.copy(), label == label[row]
        moved[label[row], predicted[row]] += step
        for other in np.flatnonzero(others):
            moved[label[other], predicted[other]] -= step / others.sum()
        return float((2 * np.diag(moved) / (moved.sum(0) + moved.sum(1))).mean())

    slopes = [(macro_f1(row, 1e-5) - macro_f1(row, -1e-5)) / 2e-5 for row in range(60)]
    np.testing.assert_allclose(bootstrapped["macro_f1"].influence, slopes, atol=1e-8)


def test_pairs_are_kept() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 300)
    one = drawn(rng, label, 2.0)
    same, other = bootstrap([one, one], resamples=200, seed=0)
    assert (same["log_loss"] - other["log_loss"]).interval == (0, 0, 0)


def test_what_never_varies_is_a_point() -> None:
    label = np.arange(100) % 2
    assert bootstrap([predictions(np.eye(2)[label], label)], resamples=50, seed=0)[0]["top1"].interval == (
        1,
        1,
        1,
    )


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_intervals_cover_the_truth(seed: int) -> None:
    """1,000 experiments with known accuracies: how often is the truth within?"""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(4), (60, 80, 120, 140))
    chance, same = np.array([0.75, 0.85, 0.9, 0.98])[label], 0.8  # of being right; of the two agreeing
    truth = chance.mean(), chance.mean() - (same * chance + (1 - same) * 0.8).mean()
    covered = np.zeros(2)
    for _ in range(1000):
        right = rng.random(400) < chance
        baseline = np.where(rng.random(400) < same, right, rng.random(400) < 0.8)
        methods = [predictions(np.eye(4)[np.where(hits, label, (label + 1) % 4)], label)
                   for hits in (right, baseline)]  # fmt: skip
        one, other = bootstrap(methods, resamples=800, seed=seed)
        found = one["top1"].interval, (one["top1"] - other["top1"]).interval
        covered += [low <= true <= high for true, (_, low, high) in zip(truth, found, strict=True)]
    assert (covered >= 930).all(), covered
    assert (covered <= 970).all(), covered
