"""Temperature scaling: one number, fitted on validation scores.

Scores are (n, n_classes), or (n, k, n_classes) where each image is seen in k views:
an image's probabilities are then the mean of its views', and the temperature is fitted
on what comes of that.

References
----------
Guo et al., On Calibration of Modern Neural Networks, arXiv:1706.04599.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax

BOUNDS = (1e-3, 1e3)  # scores of all heads, SVM margins and logits alike, need far less


def temperature(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Find T that minimises `log_loss` of scores / T.

    Parameters
    ----------
    scores : (n, n_classes) or (n, k, n_classes) of images that the head was not fitted on
    labels : (n,) class numbers
    """

    def loss(log_t: float) -> float:
        return log_loss(scores / np.exp(log_t), labels)

    low, high = np.log(BOUNDS)
    if scores.ndim == 3 and scores.shape[1] > 1:
        # One view's loss is convex in 1/T, so any descent finds its minimum; an average may have several
        grid = np.linspace(low, high, 25)
        best = int(np.argmin([loss(log_t) for log_t in grid]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = minimize_scalar(loss, bounds=(low, high), method="bounded")
    return float(np.exp(found.x))


def calibrated(scores: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Probabilities (n, n_classes) float64 of scores (n, n_classes) or (n, k, n_classes)."""
    proba = softmax(scores.astype(np.float64) / temperature, axis=-1)
    return np.asarray(proba if proba.ndim == 2 else proba.mean(axis=1))


def log_loss(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Mean negative log-likelihood, in nats, of (n,) labels under softmax(scores), averaged over views."""
    log_proba = log_softmax(scores.astype(np.float64), axis=-1)
    own = log_proba[np.arange(len(labels)), ..., labels]  # (n,) or (n, k)
    if own.ndim == 2:  # averaged among logarithms: a probability may be too small for float64
        own = logsumexp(own, axis=1) - np.log(own.shape[1])  # (n,)
    return float(-own.mean())
