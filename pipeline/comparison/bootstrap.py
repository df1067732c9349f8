"""Intervals by resampling the test rows: what other images of the same classes would have said.

    for found in bootstrap(methods, resamples=10_000, seed=0):
        found["macro_f1"].interval                                  # BCa, 95 %
    (found["top1"] - baseline["top1"]).interval                     # paired: the same resamples

A resample draws, within each true class, one row fewer than there are, and weighs it by n/(n − 1):
drawing all n would make a mean's variance too small by that factor, which matters where a class has
few rows. All methods meet the same resamples.

References
----------
Efron, Better Bootstrap Confidence Intervals, J. Am. Stat. Assoc. 82 (1987): BCa.
Rao and Wu, Resampling Inference with Complex Survey Data, J. Am. Stat. Assoc. 83 (1988): the weights.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri
from threadpoolctl import threadpool_limits

from pipeline.records.predictions import Predictions
from pipeline.statistics import metrics
from pipeline.statistics.metrics import CONFIDENCE, Interval

SCORES = ("top1", "log_loss", "brier", "macro_f1", "calibration_error")
BATCH = 2_000_000  # counts held at a time
DENSE = 64  # classes up to which a product with a dense indicator is the faster one


@dataclass(frozen=True)
class Bootstrapped:
    """A statistic of the test rows and what became of it in resamples.

    Attributes
    ----------
    replicates : (resamples,) float64
    influence : (n,) float64
        Derivative with respect to each row's weight, less its mean within the row's class.
    """

    value: float
    replicates: NDArray[np.float64]
    influence: NDArray[np.float64]

    def __sub__(self, other: Self) -> "Bootstrapped":
        """Their difference on the same rows: paired, because the resamples are the same."""
        return Bootstrapped(
            self.value - other.value,
            self.replicates - other.replicates,
            self.influence - other.influence,
        )

    @property
    def interval(self) -> Interval:
        """The BCa interval; the value alone where no resample differs from it."""
        spread = float((self.influence**2).sum())
        if not spread:
            return Interval(self.value, self.value, self.value)
        acceleration = float((self.influence**3).sum()) / (6 * spread**1.5)
        below = (self.replicates < self.value).mean() + (self.replicates == self.value).mean() / 2
        margin = 1 / (2 * len(self.replicates))
        bias = float(ndtri(np.clip(below, margin, 1 - margin)))
        tail = float(ndtri((1 + CONFIDENCE) / 2))
        low, high = (bias + (bias + z) / (1 - acceleration * (bias + z)) for z in (-tail, tail))
        return Interval(self.value, *(float(q) for q in np.quantile(self.replicates, ndtr([low, high]))))


def resample_weights(strata: NDArray[Any], *, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """Weights of the rows in stratified resamples, (batch, n) at a time; each stratum keeps its total."""
    order = np.argsort(strata, kind="stable")
    _, first, size = np.unique(strata[order], return_index=True, return_counts=True)
    drawn = np.maximum(size - 1, 1)
    start, span = np.repeat(first, drawn), np.repeat(size, drawn).astype(np.float32)
    weight = np.empty(len(strata), np.float32)
    weight[order] = np.repeat(size / drawn, size)
    rng, n = np.random.default_rng(seed), len(strata)
    batch = max(1, BATCH // n)
    for begin in range(0, resamples, batch):
        rows = min(batch, resamples - begin)
        within = rng.random((rows, len(start)), np.float32) * span
        chosen = order[start + np.minimum(within, span - 1).astype(np.int64)]
        chosen += n * np.arange(rows)[:, None]
        yield np.bincount(chosen.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float32) * weight


class Statistic(Protocol):
    """A number that follows from the weights of the test rows."""

    name: str
    value: float  # of the rows as they are
    influence: NDArray[np.float64]  # (n,) derivative with respect to each row's weight

    def __call__(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        """Evaluate it for (batch, n) weights, each row of which sums to n; returns (batch,)."""


def bootstrap(
    methods: Sequence[Predictions], *, resamples: int, seed: int, only: Collection[str] = SCORES
) -> list[dict[str, Bootstrapped]]:
    """Resample the test rows that all methods share.

    Parameters
    ----------
    methods : of the same rows, in the same order
    only : which of `SCORES`

    Returns
    -------
    For each method, its scores by name. `calibration_error` is biased upwards, and resampling biases
    it once more: its spread is there to look at, not an interval that covers.
    """
    labels = methods[0].label
    of_methods = [[one for one in _statistics(each) if one.name in only] for each in methods]
    every = [statistic for of_one in of_methods for statistic in of_one]
    with threadpool_limits(1, "blas"):  # products as thin as these gain nothing by a second thread
        batches = [
            np.stack([statistic(weights) for statistic in every])
            for weights in resample_weights(labels, resamples=resamples, seed=seed)
        ]
    replicates = iter(np.concatenate(batches, axis=1))
    return [
        {
            statistic.name: Bootstrapped(
                statistic.value, next(replicates), _centred(statistic.influence, labels)
            )
            for statistic in of_one
        }
        for of_one in of_methods
    ]


def _centred(influence: NDArray[np.float64], strata: NDArray[Any]) -> NDArray[np.float64]:
    """Less each stratum's mean: its total weight is fixed."""
    sums, sizes = np.bincount(strata, influence), np.bincount(strata)
    return np.asarray(influence - (sums / np.maximum(sizes, 1))[strata])


def _statistics(found: Predictions) -> list[Statistic]:
    proba, label = found.proba, found.label
    return [
        _Mean("top1", found.correct),
        _Mean("log_loss", metrics.log_losses(proba, label)),
        _Mean("brier", metrics.squared_errors(proba, label)),
        _MacroF1(proba.argmax(axis=1), label, len(found.classes)),
        _CalibrationError(found),
    ]


class _Mean:
    def __init__(self, name: str, values: NDArray[Any]) -> None:
        self.name, self.values = name, values.astype(np.float64)
        self.value, self.influence = float(self.values.mean()), self.values / len(values)

    def __call__(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        # Around the mean, where a float32 product rounds nothing that matters
        around = (self.values - self.value).astype(np.float32)
        return np.asarray(self.value + (weights @ around).astype(np.float64) / len(around))


class _MacroF1:
    """Mean over classes of 2·TP / (rows of it + rows predicted as it), as `metrics.macro_f1`."""

    name = "macro_f1"

    def __init__(self, predicted: NDArray[Any], labels: NDArray[Any], n_classes: int) -> None:
        right = predicted == labels
        self.value = metrics.macro_f1(predicted, labels, n_classes)
        self.hits = _indicator(labels, n_classes, right)
        self.predicted = _indicator(predicted, n_classes, np.ones(len(labels), bool))
        self.rows = np.bincount(labels, minlength=n_classes)
        hits = np.bincount(labels[right], minlength=n_classes)
        both = np.maximum(self.rows + np.bincount(predicted, minlength=n_classes), 1)
        # The rows of a class keep their total weight, so only TP and the predicted vary
        self.influence = (
            np.where(right, (2 / both)[labels], 0) - (2 * hits / both**2)[predicted]
        ) / n_classes

    def __call__(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        both = self.rows + weights @ self.predicted
        return np.asarray((2 * (weights @ self.hits) / np.maximum(both, 1)).mean(axis=1, dtype=np.float64))


class _CalibrationError:
    """As `metrics.calibration_error`, in the bins of the rows as they are."""

    name = "calibration_error"

    def __init__(self, found: Predictions) -> None:
        self.value = metrics.calibration_error(found.proba, found.label)
        gap = (found.proba.max(axis=1) - found.correct).astype(np.float64)  # (n,)
        bins = metrics.equal_mass_bins(found.proba.max(axis=1))
        self.gaps = np.zeros((len(gap), bins.max() + 1), np.float32)
        self.gaps[np.arange(len(gap)), bins] = gap
        self.influence = np.sign(self.gaps.sum(axis=0))[bins] * gap / len(gap)

    def __call__(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(np.abs(weights @ self.gaps).sum(axis=1, dtype=np.float64) / len(self.gaps))


def _indicator(classes: NDArray[Any], n_classes: int, which: NDArray[np.bool_]) -> Any:
    """(n, n_classes): 1 in each chosen row at its class; dense or sparse, whichever multiplies faster."""
    rows = np.flatnonzero(which)
    shape = (len(classes), n_classes)
    ones = csr_array((np.ones(len(rows), np.float32), (rows, classes[rows])), shape)
    return ones.toarray() if n_classes <= DENSE else ones
