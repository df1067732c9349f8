"""How far a linear head is from its optimum, from scikit-learn's definition alone, in float64.

Both objectives are 1-strongly convex in the weights: the minimum is at least F − ½‖∇F‖² where F is
taken at an optimal intercept. Neither solver's own account is used.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lstsq

Array = NDArray[np.float64]


def softmax_gap(X: Array, y: NDArray[Any], C: float, W: Array, b: Array) -> float:
    """Relative gap of a multinomial logistic regression; W is (k, d)."""
    Y = np.eye(len(b))[y]
    S = X @ W.T

    def at(b: Array) -> tuple[float, Array]:
        Z = S + b
        top = Z.max(1, keepdims=True)
        E = np.exp(Z - top)
        loss = np.log(E.sum(1)) + top[:, 0] - Z[np.arange(len(y)), y]
        return float((W**2).sum() / 2 + C * loss.sum()), E / E.sum(1, keepdims=True)

    given, P = at(b)
    lowest = given
    for _ in range(50):  # Newton's method in the intercept
        gradient = (P - Y).sum(0)
        step = lstsq(np.diag(P.sum(0)) - P.T @ P, gradient, cond=1e-13)[0]
        while at(b - step)[0] > lowest and np.abs(step).max() > 1e-14:
            step = step / 2
        b = b - step
        lowest, P = at(b)
        if np.abs(step).max() < 1e-12:
            break
    G = W + C * (P - Y).T @ X
    bound = lowest - (G**2).sum() / 2
    return (given - bound) / max(bound, 1e-300) if bound > 0 else np.inf


def hinge_gap(X: Array, y: NDArray[Any], C: float, W: Array, b: Array) -> float:
    """Largest relative gap of the one-vs-rest SVMs with squared hinge and penalised intercept."""
    signs = np.where(np.arange(len(b)) == y[:, None], 1.0, -1.0)
    short = np.maximum(1 - signs * (X @ W.T + b), 0)
    F = ((W**2).sum(1) + b**2) / 2 + C * (short**2).sum(0)
    G = W - 2 * C * (signs * short).T @ X
    g = b - 2 * C * (signs * short).sum(0)
    bound = F - ((G**2).sum(1) + g**2) / 2
    return float(np.where(bound > 0, (F - bound) / np.where(bound > 0, bound, 1), np.inf).max())
