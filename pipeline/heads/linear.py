"""Linear heads: multinomial logistic regression and the one-vs-rest linear SVM.

Both have a penalty ½‖W‖² that rotations of the features leave unchanged. With
fewer rows than features the solution therefore lies in the rows' span, and the
problem is solved there, in n instead of d dimensions: exactly, and d/n times
faster.
"""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from joblib import Parallel, delayed
from scipy.linalg import eigh
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from pipeline.heads.base import Array, Head, Point, two_columns

# Largest entry of the gradient of the mean loss. scikit-learn's default of 1e-4 stops far from the
# optimum for large C (2 % above it at C = 100 on 178 rows); 1e-6 takes three times as long.
TOLERANCE = 1e-5
# Bounds the price of the largest C on ill-conditioned features: 1,000 took minutes per point on 3,000
# photographs. A point that stopped here is recorded as not converged, and marked where it is chosen.
MAX_ITERATIONS = 300
# LIBLINEAR's are passes over the rows, and its default leaves the digits' best point converged.
MAX_PASSES = 1000


class LinearHead(Head):
    """A linear score per class; subclasses choose the loss.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty: ½‖W‖² + C · Σ loss, where an image's loss is the mean of its views'.

    Attributes
    ----------
    coef_ : (n_classes, d) float64
    intercept_ : (n_classes,) float64
    """

    state: ClassVar[tuple[str, ...]] = ("coef_", "intercept_")
    jobs: ClassVar[int] = 1  # processes that share a path: the solver uses all cores by itself

    def __init__(self, C: float = 1.0) -> None:
        self.C = C

    @classmethod
    def path(
        cls, X: Array, y: Array, grid: Mapping[str, Any], views: int = 1
    ) -> Iterator[tuple[Point, Self]]:
        """Fit every C on the same rotated features (see `Head.path`)."""
        Z, back = rotated(X)
        heads = (cls(C) for C in grid["C"])
        yield from Parallel(n_jobs=cls.jobs)(delayed(head._fitted)(Z, y, back, views) for head in heads)

    def _fit(self, X: Array, y: Array, views: int) -> None:
        self._solve(*rotated(X), y, views)

    def _fitted(self, Z: Array, y: Array, back: Array | None, views: int) -> tuple[Point, Self]:
        self.classes_, numbers = np.unique(y, return_inverse=True)
        self.n_features_in_ = Z.shape[1] if back is None else back.shape[1]
        self._solve(Z, back, numbers, views)
        return {"C": self.C}, self

    def _solve(self, Z: Array, back: Array | None, y: Array, views: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # `converged_` says it
            model = self._model(self.C / views).fit(Z, y)
        self.converged_ = bool(np.max(model.n_iter_) < model.max_iter)
        self.coef_, self.intercept_ = model.coef_, model.intercept_
        if len(self.coef_) == 1:  # two classes: scikit-learn fits one score
            self.coef_ = two_columns(self.coef_[0]).T
            self.intercept_ = two_columns(self.intercept_)[0]
        if back is not None:
            self.coef_ = self.coef_ @ back

    def _model(self, C: float) -> Any:
        raise NotImplementedError

    def _logits(self, X: Array) -> Array:
        return np.asarray(X @ self.coef_.T.astype(X.dtype) + self.intercept_.astype(X.dtype))


class LogReg(LinearHead):
    """Multinomial logistic regression, scikit-learn's objective; the intercept is not penalised."""

    def _model(self, C: float) -> Any:
        return LogisticRegression(C=C, max_iter=MAX_ITERATIONS, tol=TOLERANCE)


class LinearSVM(LinearHead):
    """One-vs-rest SVM with squared hinge loss; the intercept is penalised, as in LIBLINEAR."""

    # LIBLINEAR uses one core. Processes, not threads: its random numbers are global to
    # a process, so that threads would draw from each other's and no run equal the next.
    jobs: ClassVar[int] = -1

    def _model(self, C: float) -> Any:
        return LinearSVC(C=C, max_iter=MAX_PASSES, dual=True, random_state=0)


def rotated(X: Array) -> tuple[Array, Array | None]:
    """Express rows in a basis of their span where that is smaller: X = Z @ back.

    Returns
    -------
    Z : (n, r) float64
    back : (r, d) float64 with orthonormal rows; None where n ≥ d, and Z is X
    """
    X = X.astype(np.float64)
    n, d = X.shape
    if n >= d:
        return X, None
    values, vectors = eigh(X @ X.T, overwrite_a=True)
    # Directions below rounding of the largest carry nothing but noise
    keep = values > values[-1] * n * np.finfo(np.float64).eps
    roots = np.sqrt(values[keep])
    return vectors[:, keep] * roots, (vectors[:, keep] / roots).T @ X
