"""Linear heads: multinomial logistic regression and the one-vs-rest linear SVM.

Both minimise ½‖W‖² + C · Σ loss, exactly, for a whole grid of C at once (see
`pipeline.heads.linear.path`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np

from pipeline.heads.base import Array, Head, Point, is_axis, two_columns
from pipeline.heads.linear.finish import Fitted
from pipeline.heads.linear.path import solve
from pipeline.heads.rows import row_weights

H = TypeVar("H", bound="LinearHead")


class LinearHead(Head):
    """A linear score per class; subclasses choose the loss.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty: ½‖W‖² + C · Σ loss, where an image's loss is the mean of its views'.
    class_weight : None or "balanced"
        What an image's loss counts: 1, or n / (n_classes × images of its class).
    tol : float
        How far above its minimum the objective may be, relative to itself. From 1e-5
        down everything is computed in float64, at twice the price and more.

    Attributes
    ----------
    coef_ : (n_classes, d), intercept_ : (n_classes,)
        float32, or float64 where it took that.
    gap_ : float
        How far above its minimum the objective is at most, relative to itself.
    """

    state: ClassVar[tuple[str, ...]] = ("coef_", "intercept_", "gap_")
    given: ClassVar[tuple[str, ...]] = ("gap_",)
    extends: ClassVar[tuple[str, ...]] = ("C",)
    loss: ClassVar[Literal["softmax", "squared hinge"]]

    def __init__(self, C: float = 1.0, class_weight: str | None = None, tol: float = 1e-4) -> None:
        self.C = C
        self.class_weight = class_weight
        self.tol = tol

    @classmethod
    def path(
        cls, X: Array, y: Array, grid: Mapping[str, Any], views: int = 1
    ) -> Iterator[tuple[Point, Self]]:
        """Fit every C side by side (see `Head.path`); X may be a dask array."""
        Cs = grid["C"] if is_axis(grid["C"]) else (grid["C"],)
        heads = [cls(**{**grid, "C": C}) for C in Cs]
        classes, numbers = np.unique(y, return_inverse=True)
        for head in heads:
            head.classes_, head.n_features_in_ = classes, X.shape[1]
        for head in _solved(heads, X, numbers, views):
            yield {"C": head.C}, head

    def _fit(self, X: Array, y: Array, views: int) -> None:
        for _ in _solved([self], X, y, views):
            pass

    def _take(self, fitted: Fitted) -> None:
        self.coef_, self.intercept_, self.gap_ = fitted.coef, fitted.intercept, np.asarray(fitted.gap)
        if len(self.coef_) == 1:
            self.coef_, self.intercept_ = two_columns(self.coef_[0]).T, two_columns(self.intercept_)[0]
        self.converged_ = fitted.gap <= self.tol

    @staticmethod
    def _factor(n_classes: int) -> float:
        return 1.0

    def _logits(self, X: Array) -> Array:
        return np.asarray(X @ self.coef_.T.astype(X.dtype) + self.intercept_.astype(X.dtype))


def _solved(heads: Sequence[H], X: Array, y: Array, views: int) -> Iterator[H]:
    """Fit heads that differ in C only, side by side; y are class numbers."""
    shared = heads[0]
    n_classes = len(shared.classes_)
    weights = row_weights(y, shared.classes_, views, shared.class_weight)
    strengths = [head.C * head._factor(n_classes) for head in heads]
    found = solve(X, y, n_classes, strengths, weights, shared.loss, shared.tol)
    for head, fitted in zip(heads, found, strict=True):
        head._take(fitted)
        yield head


class LogReg(LinearHead):
    """Multinomial logistic regression, scikit-learn's objective; the intercept is not penalised.

    With two classes that is the binomial one: half the penalty of the multinomial, since the
    two columns of weights are each other's negative.
    """

    loss = "softmax"

    @staticmethod
    def _factor(n_classes: int) -> float:
        return 0.5 if n_classes == 2 else 1.0


class LinearSVM(LinearHead):
    """One-vs-rest SVM with squared hinge loss; the intercept is penalised, as in LIBLINEAR."""

    loss = "squared hinge"
