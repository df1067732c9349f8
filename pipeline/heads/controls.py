"""Controls: what needs no training has to be beaten."""

from typing import ClassVar

import numpy as np
from sklearn.neighbors import NearestNeighbors

from pipeline.heads.base import Array, Head


class KNN(Head):
    """The k nearest train images vote; an image is as near as the nearest of its views.

    Parameters
    ----------
    k : int
        Neighbours, by Euclidean distance.

    Attributes
    ----------
    rows_ : (n × views, d)
        The train rows, the views of an image adjacent.
    numbers_ : (n,) int64
        The images' classes, as positions in `classes_`.
    """

    state: ClassVar[tuple[str, ...]] = ("rows_", "numbers_")
    given: ClassVar[tuple[str, ...]] = ("rows_", "numbers_")

    def __init__(self, k: int = 5) -> None:
        self.k = k

    def _fit(self, X: Array, y: Array, views: int) -> None:
        self.rows_, self.numbers_ = X, y[::views]

    def _logits(self, X: Array) -> Array:
        """Logarithms of vote shares, one vote spread over all classes so that none is impossible."""
        k, n_classes = min(self.k, len(self.numbers_)), len(self.classes_)
        views = len(self.rows_) // len(self.numbers_)
        enough = (k - 1) * views + 1  # rows for k images: k - 1 images have one row fewer
        search = NearestNeighbors(n_neighbors=enough, algorithm="brute").fit(self.rows_)
        images = search.kneighbors(X, return_distance=False) // views  # (n, enough), nearest first
        nearest = [list(dict.fromkeys(row))[:k] for row in images.tolist()]  # each image once
        voters = self.numbers_[nearest]  # (n, k)
        votes = np.stack([(voters == number).sum(axis=1) for number in range(n_classes)], axis=1)
        return np.log((votes + 1 / n_classes) / (k + 1))


class Majority(Head):
    """Always the train rows' most frequent class, with their class shares as probabilities.

    Attributes
    ----------
    shares_ : (n_classes,) float64
    """

    state: ClassVar[tuple[str, ...]] = ("shares_",)

    def _fit(self, X: Array, y: Array, views: int) -> None:
        self.shares_ = np.bincount(y, minlength=len(self.classes_)) / len(y)

    def _logits(self, X: Array) -> Array:
        return np.tile(np.log(self.shares_), (len(X), 1))
