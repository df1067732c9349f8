"""Temperature scaling: one number, fitted on validation scores.

References
----------
Guo et al., On Calibration of Modern Neural Networks, arXiv:1706.04599.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BOUNDS = (1e-3, 1e3)  # scores of all heads, SVM margins and logits alike, need far less


def temperature(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Find T that minimises the log-loss of softmax(scores / T).

    Parameters
    ----------
    scores : (n, n_classes) of rows that the head was not fitted on
    labels : (n,) class numbers
    """
    found = minimize_scalar(
        lambda log_t: log_loss(scores / np.exp(log_t), labels), bounds=np.log(BOUNDS), method="bounded"
    )
    return float(np.exp(found.x))


def calibrated(scores: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Probabilities (n, n_classes) float64."""
    return np.asarray(softmax(scores.astype(np.float64) / temperature, axis=1))


def log_loss(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Mean negative log-likelihood, in nats, of softmax(scores)."""
    log_probabilities = log_softmax(scores.astype(np.float64), axis=1)
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())
