"""How sure a number is: intervals, paired tests, correction for many comparisons.

All intervals are 95 % and about which test images were drawn; they say nothing
of the spread over random starts (`mean_of_runs`). Intervals by resampling: `pipeline.comparison.bootstrap`.

References
----------
Wilson, Probable inference, J. Am. Stat. Assoc. 22 (1927); McNemar, Psychometrika
12 (1947), in its exact form; Holm, Scand. J. Stat. 6 (1979); Connor, Sample size for
testing differences in proportions for the paired-sample design, Biometrics 43 (1987);
Phipson and Smyth, Permutation p-values should never be zero, Stat. Appl. Genet. Mol. Biol. 9 (2010).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, t

CONFIDENCE = 0.95
BINS = 15  # of equally many rows, by confidence (Guo et al., arXiv:1706.04599)
PROBABILITY_FLOOR = 1e-15  # float32 probabilities reach zero; the log-loss must not reach infinity


class Interval(NamedTuple):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def accuracy(correct: NDArray[np.bool_]) -> Interval:
    """Share of correct answers with its Wilson interval, which holds near 100 % where others collapse."""
    hits, n = int(correct.sum()), len(correct)
    interval = binomtest(hits, n).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(hits / n, float(interval.low), float(interval.high))


def mean_of_runs(values: Sequence[float]) -> Interval:
    """Mean over repeated runs with its t-interval; of a single one the value alone."""
    mean = float(np.mean(values))
    if len(values) == 1:
        return Interval(mean, mean, mean)
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return Interval(mean, mean - half, mean + half)


def mcnemar(correct: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> float:
    """Two-sided exact p-value of "both are right equally often", from the images on which they differ."""
    better, worse = int((correct & ~baseline).sum()), int((~correct & baseline).sum())
    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: p-values adjusted for the number of comparisons, in the order given."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, position in enumerate(np.argsort(p_values, kind="stable")):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = running
    return adjusted


def permutation(differences: NDArray[Any], *, resamples: int, seed: int) -> list[float]:
    """Two-sided p-values of "a row's difference might as well have the other sign", for each column.

    Parameters
    ----------
    differences : (n, k) of k methods from the baseline, row by row: of log-losses, say. For top-1 this
        is the exact McNemar test, which needs no resampling.

    Returns
    -------
    k p-values, (1 + resamples at least as far from 0) / (1 + resamples)
    """
    n, rng = len(differences), np.random.default_rng(seed)
    columns = differences.astype(np.float32)
    observed = np.abs(columns.sum(axis=0))
    as_far = np.zeros(columns.shape[1], np.int64)
    batch = max(1, 2_000_000 // n)
    for begin in range(0, resamples, batch):
        bits = np.unpackbits(
            rng.integers(0, 256, (min(batch, resamples - begin), -(-n // 8)), np.uint8), axis=1
        )
        signs = 2 * bits[:, :n].astype(np.float32) - 1
        # Ties (n small, equal differences) count as far: rounding must not hide them
        as_far += (np.abs(signs @ columns) >= observed * (1 - 1e-5)).sum(axis=0)
    return [float(p) for p in (1 + as_far) / (1 + resamples)]


def images_needed(better: int, worse: int, images: int, *, alpha: float, power: float = 0.8) -> int | None:
    """Test images at which McNemar's test would find a difference like the one seen, so often.

    Parameters
    ----------
    better, worse : int
        Images, of `images`, that only the one or only the other method is right about.
    alpha : float
        The test's level, after correction for the number of comparisons.
    power : float
        The wanted chance of finding it.

    Returns
    -------
    The number of images, None where no difference was seen (Connor 1987).
    """
    if better == worse:
        return None
    differ, difference = (better + worse) / images, abs(better - worse) / images
    z_alpha, z_power = norm.isf(alpha / 2), norm.ppf(power)
    root = z_alpha * differ**0.5 + z_power * (differ - difference**2) ** 0.5
    return math.ceil(float(root / difference) ** 2)


def log_losses(proba: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Negative log-probability of each row's true class, (n,), in nats."""
    own = proba[np.arange(len(labels)), labels].astype(np.float64)
    return np.asarray(-np.log(np.maximum(own, PROBABILITY_FLOOR)))


def log_loss(proba: NDArray[Any], labels: NDArray[Any]) -> float:
    """Mean negative log-probability of the true class, in nats."""
    return float(log_losses(proba, labels).mean())


def squared_errors(proba: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Each row's squared distance from its one-hot truth, (n,), 0 … 2; their mean is the Brier score."""
    own = proba[np.arange(len(labels)), labels].astype(np.float64)
    return np.asarray(np.square(proba, dtype=np.float64).sum(axis=1) + 1 - 2 * own)


def macro_f1(predicted: NDArray[Any], labels: NDArray[Any], n_classes: int) -> float:
    """Unweighted mean over classes of 2·TP / (2·TP + FP + FN)."""
    table = confusion(predicted, labels, n_classes)
    hits = np.diag(table)
    return float((2 * hits / np.maximum(table.sum(axis=0) + table.sum(axis=1), 1)).mean())


def confusion(predicted: NDArray[Any], labels: NDArray[Any], n_classes: int) -> NDArray[np.int64]:
    """Counts, (true class, predicted class)."""
    table = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(table, (labels, predicted), 1)
    return table


def per_class(table: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Per class of a confusion table: `images` (true), `precision`, `recall` and `f1`, (n_classes,) each.

    Precision is NaN for a class that is never predicted, recall for one without test images.
    """
    hits, true, predicted = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    with np.errstate(invalid="ignore"):
        precision, recall = hits / predicted, hits / true
    return {
        "images": true,
        "precision": precision,
        "recall": recall,
        "f1": 2 * hits / np.maximum(true + predicted, 1),
    }


def agreement(answers: NDArray[Any]) -> NDArray[np.float64]:
    """Share of rows on which two methods give the same class, (k, k), of (k, n) answers."""
    return np.stack([(answers == row).mean(axis=1) for row in answers])


def equal_mass_bins(confidence: NDArray[Any], bins: int = BINS) -> NDArray[np.int64]:
    """Number of each row's bin, (n,): bins that hold equally many rows, by rising confidence."""
    numbers = np.empty(len(confidence), np.int64)
    order = np.argsort(confidence, kind="stable")
    for number, group in enumerate(np.array_split(order, min(bins, len(order)))):
        numbers[group] = number
    return numbers


def calibration_error(proba: NDArray[Any], labels: NDArray[Any], bins: int = BINS) -> float:
    """Expected calibration error of the top class, over bins that hold equally many rows.

    Biased upwards: within a bin chance alone parts confidence from accuracy (Nixon et al.,
    arXiv:1904.01685).
    """
    gap = proba.max(axis=1).astype(np.float64) - (proba.argmax(axis=1) == labels)
    return float(np.abs(np.bincount(equal_mass_bins(proba.max(axis=1), bins), gap)).sum() / len(labels))
