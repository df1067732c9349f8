"""Temperature scaling: one number, fitted on validation scores.

Scores are (n, n_classes), or (n, k, n_classes) where each image is seen in k views:
an image's probabilities are then the mean of its views', and the temperature is fitted
on what comes of that.

Few rows cannot carry every confidence: of 12 that are all right, the likeliest temperature is zero, and
every probability 1. So targets are smoothed, as Platt does for two classes: of each row, ½ / (n + 1) goes to
the strongest other class. With all of n rows right the confidence is then about (n + ½) / (n + 1), Jeffreys'
estimate of the accuracy, and with many rows nothing is left of it. Why this and not another prior:
`python -m benchmarks.calibration`.

References
----------
Guo et al., On Calibration of Modern Neural Networks, arXiv:1706.04599.
Platt, Probabilistic Outputs for Support Vector Machines, in Advances in Large Margin Classifiers, 1999.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax

BOUNDS = (1e-3, 1e2)  # of T, in units of the scores' spread: logits, margins and votes differ in scale
SMOOTHED = 0.5  # images


def temperature(
    scores: NDArray[Any], labels: NDArray[Any], images: int | None = None, *, smoothed: float = SMOOTHED
) -> float:
    """Find T that minimises `log_loss` of scores / T under smoothed targets.

    Parameters
    ----------
    scores : (n, n_classes) or (n, k, n_classes) of images that the head was not fitted on
    labels : (n,) class numbers
    images : int, optional
        How many rows there are in all, where these are one fold of them; the targets are smoothed
        by what all can carry.
    smoothed : float
        Rows, of all together, that are taken for the strongest other class; 0 is maximum likelihood.

    Returns
    -------
    T, in the scores' own units; 1 where all classes have the same score.
    """
    spread = float(np.sqrt(scores.var(axis=-1, dtype=np.float64).mean()))
    if not spread:
        return 1.0
    rows = len(labels) if images is None else images
    share, others = smoothed / (rows + 1), _strongest_other(scores, labels)

    def loss(log_t: float) -> float:
        log_proba = log_softmax(scores / (spread * np.exp(log_t)), axis=-1)
        own, other = _of(log_proba, labels).mean(), _of(log_proba, others).mean()
        return float(-(1 - share) * own - share * other)

    low, high = np.log(BOUNDS)
    if scores.ndim == 3 and scores.shape[1] > 1:
        # One view's loss is convex in 1/T, so any descent finds its minimum; an average may have several
        grid = np.linspace(low, high, 25)
        best = int(np.argmin([loss(log_t) for log_t in grid]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = minimize_scalar(loss, bounds=(low, high), method="bounded")
    return spread * float(np.exp(found.x))


def calibrated(scores: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Probabilities (n, n_classes) float64 of scores (n, n_classes) or (n, k, n_classes)."""
    proba = softmax(scores.astype(np.float64) / temperature, axis=-1)
    return np.asarray(proba if proba.ndim == 2 else proba.mean(axis=1))


def log_losses(scores: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Negative log-likelihood of each of (n,) labels under softmax(scores), in nats, views averaged: (n,)."""
    return -_of(log_softmax(scores.astype(np.float64), axis=-1), labels)


def log_loss(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Mean of `log_losses`."""
    return float(log_losses(scores, labels).mean())


def _of(log_proba: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.float64]:
    """Log-probability of one class of each row, (n,), views averaged."""
    own = log_proba[np.arange(len(classes)), ..., classes]  # (n,) or (n, k)
    if own.ndim == 2:  # averaged among logarithms: a probability may be too small for float64
        own = logsumexp(own, axis=1) - np.log(own.shape[1])  # (n,)
    return np.asarray(own, np.float64)


def _strongest_other(scores: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.intp]:
    """Of each row the class with the highest score besides its own, (n,)."""
    others = (scores if scores.ndim == 2 else scores.mean(axis=1)).astype(np.float64)  # (n, n_classes)
    others[np.arange(len(labels)), labels] = -np.inf
    return np.asarray(others.argmax(axis=1))
