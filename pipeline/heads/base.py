"""What every head is: a scikit-learn classifier whose fitted state is plain arrays.

for point, head in LogReg.path(X, y, {"C": [0.1, 1.0]}):
    scores = head.logits(X_validation)

Rows may be views of images: the same number of each, the views of one image adjacent.
An image then weighs the same as without views, each of its k views 1/k.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import ParameterGrid
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

Array = NDArray[Any]
Point = dict[str, Any]  # one point of a grid: parameter → value


class Head(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Base of all heads.

    A subclass names its fitted arrays in `state`, fits them in `_fit` and scores
    with them in `_logits`, so that saving and loading need nothing else.

    Attributes
    ----------
    classes_ : (n_classes,) array
        The labels seen in `fit`, sorted.
    converged_ : bool
        Whether the solver reached its tolerance.
    """

    state: ClassVar[tuple[str, ...]] = ()
    given: ClassVar[tuple[str, ...]] = ()  # of these, what is copied from the train rows, not learned
    extends: ClassVar[tuple[str, ...]] = ()  # parameters whose grid tuning may extend: a geometric one
    converged_: bool = True

    def fit(self, X: Array, y: Array, views: int = 1) -> Self:
        """Fit on (n, d) features and (n,) labels; returns self.

        Parameters
        ----------
        X, y : (n, d) features and (n,) labels of n / views images
        views : int
            Rows per image, adjacent and of the same label.

        Raises
        ------
        ValueError
            For NaN or infinite features and for a single class.
        """
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"{type(self).__name__} needs at least two classes, got 1 class")
        self._fit(X, numbers, views)
        return self

    def logits(self, X: Array) -> Array:
        """Score (n, d) features: (n, n_classes), softmax of it are uncalibrated probabilities."""
        check_is_fitted(self, self.state)
        return self._logits(validate_data(self, X, dtype=[np.float32, np.float64], reset=False))

    def logits_by_view(self, X: Array) -> Array:
        """Score (…, d) features, be the rows images (n, d) or views (n, k, d): (…, n_classes)."""
        scores = self.logits(X.reshape(-1, X.shape[-1]))  # (rows, n_classes)
        return scores.reshape(*X.shape[:-1], -1)

    def predict_proba(self, X: Array) -> Array:
        """Probabilities (n, n_classes), not calibrated (see `pipeline.statistics.calibration`)."""
        return np.asarray(softmax(self.logits(X), axis=1))

    def predict(self, X: Array) -> Array:
        """Most likely label per row, (n,)."""
        best = self.logits(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def _fit(self, X: Array, y: Array, views: int) -> None:
        raise NotImplementedError

    def _logits(self, X: Array) -> Array:
        raise NotImplementedError

    @classmethod
    def path(
        cls, X: Array, y: Array, grid: Mapping[str, Any], views: int = 1
    ) -> Iterator[tuple[Point, Self]]:
        """Fit every point of a grid; heads that can share work between points override this.

        Parameters
        ----------
        X, y : (n, d) float32 features and (n,) labels of the train rows
        grid : mapping
            Lists are axes of the grid, other values are the same at every point.
        views : int
            Rows per image (see `fit`).
        """
        fixed = {name: value for name, value in grid.items() if not is_axis(value)}
        axes = {name: value for name, value in grid.items() if is_axis(value)}
        for point in ParameterGrid(axes):
            yield point, cls(**fixed, **point).fit(X, y, views)

    @classmethod
    def complexity(cls, point: Point) -> tuple[float, ...]:
        """Orders points: of two heads, the simpler one has the smaller."""
        return tuple(point.values())

    def arrays(self) -> dict[str, Array]:
        """The fitted state: everything that scoring needs."""
        return {name: np.ascontiguousarray(getattr(self, name)) for name in self.state}

    @property
    def trained_parameters(self) -> int:
        """How many numbers were learned."""
        return sum(array.size for name, array in self.arrays().items() if name not in self.given)

    def restore(self, arrays: Mapping[str, Array], classes: Sequence[Any]) -> Self:
        """Put a fitted state back; returns self, ready to score."""
        for name in self.state:
            setattr(self, name, arrays[name])
        self.classes_ = np.asarray(classes)
        return self


def first_met(y: Array, n_classes: int) -> Array:
    """Place of each class in the order in which rows bring them, (n_classes,).

    What has to be drawn or decided for classes goes by this, and not by their numbers, which are their
    names' order: another name is no other answer.
    """
    _, first = np.unique(np.concatenate([y, np.arange(n_classes)]), return_index=True)  # each is there
    return np.asarray(first.argsort(kind="stable").argsort(kind="stable"))


def is_axis(value: object) -> bool:
    """Whether a grid's value lists several to try."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def two_columns(scores: Array) -> Array:
    """One score for the second of two classes, (n,) → (n, 2), with the same odds under softmax."""
    return np.stack([-scores / 2, scores / 2], axis=1)
