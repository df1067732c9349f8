"""How sure a number is: intervals, paired tests, correction for many comparisons.

All intervals are 95 % and about which test images were drawn; they say nothing
of the spread over random starts.

References
----------
Wilson, Probable inference, J. Am. Stat. Assoc. 22 (1927); McNemar, Psychometrika
12 (1947), in its exact form; Holm, Scand. J. Stat. 6 (1979).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, t

CONFIDENCE = 0.95
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


def paired_difference(
    correct: NDArray[np.bool_], baseline: NDArray[np.bool_], *, resamples: int, seed: int
) -> Interval:
    """Difference of two methods' accuracies on the same images, by paired bootstrap (percentiles).

    An image contributes −1, 0 or 1, so a resample is one draw from a multinomial.
    """
    n = len(correct)
    better, worse = int((correct & ~baseline).sum()), int((~correct & baseline).sum())
    draws = np.random.default_rng(seed).multinomial(
        n, np.array([better, worse, n - better - worse]) / n, size=resamples
    )
    differences = (draws[:, 0] - draws[:, 1]) / n
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return Interval((better - worse) / n, float(low), float(high))


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


def log_loss(proba: NDArray[Any], labels: NDArray[Any]) -> float:
    """Mean negative log-probability of the true class, in nats."""
    own = proba[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(own, PROBABILITY_FLOOR)).mean())


def brier(proba: NDArray[Any], labels: NDArray[Any]) -> float:
    """Mean squared distance from the one-hot truth, 0 … 2."""
    return float(((proba - np.eye(proba.shape[1])[labels]) ** 2).sum(axis=1).mean())


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


def calibration_error(proba: NDArray[Any], labels: NDArray[Any], bins: int = 15) -> float:
    """Expected calibration error of the top class, over bins that hold equally many rows."""
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]
    gaps = [len(group) * abs(confidence[group].mean() - right[group].mean()) for group in groups]
    return float(sum(gaps) / len(labels))
