"""The Gaussian-kernel SVM, on squared distances computed once for all C and gamma."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, ClassVar, Self

import numpy as np
from joblib import Parallel, delayed
from sklearn.svm import SVC

from pipeline.heads.base import Array, Head, Point, two_columns


class RbfSVM(Head):
    """SVM with kernel exp(−γ‖x − x'‖²), one against one, as LIBSVM solves it.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty, on losses of images (see `LinearHead`).
    gamma : float
        γ in units of 1 / (features × their variance): 1 is scikit-learn's `scale`.

    Attributes
    ----------
    support_ : (n_support, d) float32
        The support vectors.
    dual_ : (n_support, n_pairs) float64
        Coefficients of each pair of classes (i, j), i < j: positive scores speak for i.
    intercept_ : (n_pairs,) float64
    gamma_ : () float64
        γ in absolute units.
    """

    state: ClassVar[tuple[str, ...]] = ("support_", "dual_", "intercept_", "gamma_")
    given: ClassVar[tuple[str, ...]] = ("support_", "gamma_")

    def __init__(self, C: float = 1.0, gamma: float = 1.0) -> None:
        self.C = C
        self.gamma = gamma

    @classmethod
    def path(
        cls, X: Array, y: Array, grid: Mapping[str, Any], views: int = 1
    ) -> Iterator[tuple[Point, Self]]:
        """Fit every (gamma, C), sharing the distances (see `Head.path`)."""
        classes, numbers = np.unique(y, return_inverse=True)
        distances, unit = squared_distances(X, X), _unit(X)
        for gamma in grid["gamma"]:
            K = np.exp(-gamma * unit * distances)
            heads = [cls(C, gamma) for C in grid["C"]]
            # Threads: LIBSVM releases the interpreter's lock, and K is shared.
            Parallel(n_jobs=-1, prefer="threads")(
                delayed(head._solve)(K, X, numbers, gamma * unit, views) for head in heads
            )
            for head in heads:
                head.classes_, head.n_features_in_ = classes, X.shape[1]
                yield {"C": head.C, "gamma": gamma}, head

    def _fit(self, X: Array, y: Array, views: int) -> None:
        gamma = self.gamma * _unit(X)
        self._solve(np.exp(-gamma * squared_distances(X, X)), X, y, gamma, views)

    def _solve(self, K: Array, X: Array, y: Array, gamma: float, views: int) -> None:
        model = SVC(C=self.C / views, kernel="precomputed").fit(K, y)
        self.gamma_ = np.asarray(gamma, np.float64)
        self.support_ = X[model.support_]
        self.dual_ = _pairwise(model.dual_coef_, model.n_support_)
        self.intercept_ = model.intercept_.astype(np.float64)
        if len(model.n_support_) == 2:  # scikit-learn turns the sign of the only pair
            self.dual_, self.intercept_ = -self.dual_, -self.intercept_

    def _logits(self, X: Array) -> Array:
        K = np.exp(-self.gamma_ * squared_distances(X, self.support_))
        pairs = K @ self.dual_ + self.intercept_
        if pairs.shape[1] == 1:
            return two_columns(-pairs[:, 0])
        return votes(pairs, len(self.classes_))


def _unit(X: Array) -> float:
    """1 / (features × variance); 1 for constant features, as in scikit-learn's `scale`."""
    variance = float(X.var(dtype=np.float64))
    return 1 / (X.shape[1] * variance) if variance else 1.0


def squared_distances(A: Array, B: Array) -> Array:
    """‖a − b‖² for all rows, (n, m) float64."""
    A, B = A.astype(np.float64), B.astype(np.float64)
    squares = (A**2).sum(1)[:, None] - 2 * (A @ B.T) + (B**2).sum(1)
    return np.asarray(np.maximum(squares, 0))


def _pairwise(dual_coef: Array, n_support: Array) -> Array:
    """Turn LIBSVM's (n_classes − 1, n_support) coefficients into one column per pair of classes."""
    ends = np.cumsum(n_support)
    rows = [slice(end - count, end) for end, count in zip(ends, n_support, strict=True)]
    columns = []
    for i, j in combinations(range(len(n_support)), 2):
        column = np.zeros(dual_coef.shape[1])
        column[rows[i]] = dual_coef[j - 1, rows[i]]
        column[rows[j]] = dual_coef[i, rows[j]]
        columns.append(column)
    return np.stack(columns, axis=1)


def votes(pairs: Array, n_classes: int) -> Array:
    """Turn pairwise scores into one per class: votes, ties broken by confidence below ⅓.

    scikit-learn's `decision_function_shape="ovr"`.
    """
    count = np.zeros((len(pairs), n_classes))
    confidence = np.zeros((len(pairs), n_classes))
    for column, (i, j) in enumerate(combinations(range(n_classes), 2)):
        score = pairs[:, column]
        count[:, i] += score > 0
        count[:, j] += score <= 0
        confidence[:, i] += score
        confidence[:, j] -= score
    return np.asarray(count + confidence / (3 * (np.abs(confidence) + 1)))
