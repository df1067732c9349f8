"""How well features fit labels, without training anything: a vote of neighbours, and LogME.

    products = gram(X)                           # (n, n), the inner products of all rows
    logme(products, y)

Both depend on features only through the inner products of rows: that matrix is made once, and the
width of the features no longer matters (25,088 for `pool5` at 224 px). Work grows with the cube of
the number of rows: some thousands are meant.

Higher is better among features of the same images; scores of different images say nothing about
each other. Labels are class numbers (n,); classes without a row play no part.

References
----------
LogME: You et al., ICML 2021, arXiv:2102.11005.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar

COLUMNS = 4096  # of the features that are float64 at once
STEPS = 121  # signal-to-noise ratios at which LogME's evidence is looked at first
RANGE = (1e-8, 1e8)  # of these, in units of the mean eigenvalue

Array = NDArray[np.float64]
Labels = NDArray[Any]


def gram(A: NDArray[Any], B: NDArray[Any] | None = None) -> Array:
    """Inner products of the rows of (n, d) and (m, d) features, or of A's with each other: (n, m).

    Summed in float64: the scores look at eigenvalues that float32's rounding would drown.
    """
    total = np.zeros((len(A), len(A if B is None else B)))
    for start in range(0, A.shape[1], COLUMNS):
        part = A[:, start : start + COLUMNS].astype(np.float64)
        other = part if B is None else B[:, start : start + COLUMNS].astype(np.float64)
        total += part @ other.T
    return total


def cosines(products: Array, left: Array, right: Array) -> Array:
    """Inner products (n, m) of rows scaled to length 1; rows of zeros stay zeros.

    Parameters
    ----------
    left, right : (n,) and (m,) squared lengths of the rows
    """
    lengths = np.sqrt(np.outer(left, right))
    return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)


def neighbour_accuracy(similarity: Array, y: Labels, unit: Labels, k: int) -> float:
    """Accuracy of a vote among the k nearest other rows, leave-one-out.

    Parameters
    ----------
    similarity : (n, n)
    unit : (n,) numbers; rows of the same one (copies of an image, a group) do not vote for each other
    k : int
        Neighbours; of classes with equally many votes the one that is nearer in sum wins.
    """
    near = np.where(unit[:, None] == unit, -np.inf, similarity)
    nearest = np.argsort(-near, axis=1, kind="stable")[:, :k]  # (n, k)
    closeness = np.take_along_axis(near, nearest, axis=1)
    may_vote = np.isfinite(closeness)
    # Less than a vote, whatever the similarities: they only decide between equal numbers of votes
    weight = np.where(may_vote, 1 + np.where(may_vote, closeness, 0) / (4 * k), 0)
    classes, numbers = np.unique(y, return_inverse=True)
    votes = np.zeros((len(y), len(classes)))
    np.add.at(votes, (np.arange(len(y))[:, None], numbers[nearest]), weight)
    return float((votes.argmax(axis=1) == numbers)[may_vote.any(axis=1)].sum() / len(y))


def logme(products: Array, y: Labels) -> float:
    """Logarithm of the maximum evidence per row, a mean over classes (one against the rest).

    A class's 0 and 1 are a linear function of the features with a Gaussian prior, plus noise:
    log p(y) = log N(y; 0, K/α + I/β) with K the products, at the best α and β. Published code
    seeks them by at most 11 steps of a fixed point, which may stop short where there are fewer
    rows than features; here β is solved for and α/β searched, which finds the same maximum.
    """
    n = len(y)
    values, vectors = eigh(products)
    values = np.maximum(values, 0)
    targets = (y[:, None] == np.unique(y)).astype(np.float64)  # (n, classes)
    power = (vectors.T @ targets) ** 2  # (n, classes)
    unit = values.mean() or 1.0

    def evidence(log_ratio: float, power: Array) -> Array:
        """At one λK/unit of signal to noise, for several classes (classes,): β is the best there."""
        spread = 1 + values * (np.exp(log_ratio) / unit)  # eigenvalues of the covariance times β
        noise = (power / spread[:, None]).sum(axis=0) / n
        result: Array = -0.5 * (np.log(2 * np.pi * noise) + 1 + np.log(spread).sum() / n)
        return result

    grid = np.linspace(np.log(RANGE[0]), np.log(RANGE[1]), STEPS)
    table = np.stack([evidence(point, power) for point in grid])  # (STEPS, classes)
    best = [_highest(evidence, power[:, [k]], grid, column) for k, column in enumerate(table.T)]
    return float(np.mean(best))


def _highest(function: Callable[[float, Array], Array], power: Array, grid: Array, found: Array) -> float:
    """Refine the best point of a grid between its neighbours; returns the function there."""
    top = int(found.argmax())
    bounds = grid[max(top - 1, 0)], grid[min(top + 1, len(grid) - 1)]
    refined = minimize_scalar(lambda point: -function(point, power)[0], bounds=bounds, method="bounded")
    return float(max(-refined.fun, found[top]))
