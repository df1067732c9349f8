"""Controls: what needs no training has to be beaten."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.neighbors import NearestNeighbors

from features.errors import BadInput
from features.turns import starts_threads
from pipeline.heads.base import Array, Head, Point, first_met
from pipeline.heads.rows import in_memory
from pipeline.heads.shared import Shared

# Rows searched beyond those that vote: which of several at one distance does not hang on how many are asked
TIES = 8
TIE_BREAK = 0.1  # votes: enough to be seen in float32, whatever the temperature
MET_FIRST = 0.5  # images that are added to one of several most frequent classes


class KNN(Head):
    """The k nearest train images vote; an image is as near as the nearest of its views.

    Where classes have as many votes, the one with the nearest member answers.

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

    _nearest: Shared | None = None  # while a path lasts: as many neighbours as its largest k

    def __init__(self, k: int = 5) -> None:
        self.k = k

    @classmethod
    def path(cls, X: Any, y: Array, grid: Mapping[str, Any], views: int = 1) -> Iterator[tuple[Point, Self]]:
        """Vote among the first k of the same neighbours for every k (see `Head.path`).

        Raises
        ------
        BadInput
            For a dask array: the rows are the head, and have to fit memory.
        """
        if not in_memory(X):
            raise BadInput(
                "heads.knn keeps all train features, which do not fit tuning.memory_gb; "
                "leave heads.knn out or raise tuning.memory_gb"
            )
        with Shared(partial(nearest, rows=X, views=views, k=np.max(grid["k"]))) as found:
            for point, head in super().path(X, y, grid, views):
                head._nearest = found
                yield point, head

    @classmethod
    def complexity(cls, point: Point) -> tuple[float, ...]:
        """More neighbours are simpler (see `Head.complexity`)."""
        return (-point["k"],)

    def _fit(self, X: Array, y: Array, views: int) -> None:
        self.rows_, self.numbers_ = X, y[::views]

    def _logits(self, X: Array) -> Array:
        """Logarithms of vote shares, one vote spread over all classes so that none is impossible.

        Of classes with most votes the one with the nearest voter has a part of a vote more.
        """
        k, n_classes = min(self.k, len(self.numbers_)), len(self.classes_)
        if self._nearest is not None and self._nearest.open:
            images = self._nearest(X)[:, :k]
        else:
            images = nearest(X, self.rows_, len(self.rows_) // len(self.numbers_), k)
        voters = self.numbers_[images]  # (n, k)
        votes = np.stack([(voters == number).sum(axis=1) for number in range(n_classes)], axis=1)
        tied = votes == votes.max(axis=1, keepdims=True)  # (n, n_classes)
        first = np.take_along_axis(tied, voters, axis=1).argmax(axis=1)  # (n,) the nearest of their voters
        nearest_class = np.take_along_axis(voters, first[:, None], axis=1) == np.arange(n_classes)
        votes = votes + TIE_BREAK * (nearest_class & (tied.sum(axis=1, keepdims=True) > 1))
        return np.asarray(np.log((votes + 1 / n_classes) / (k + 1)))


def nearest(X: Array, rows: Array, views: int, k: int) -> Array:
    """Find the k nearest of images in several views, (n, min(k, images)) positions, nearest first.

    Searched by brute force, by scikit-learn in blocks: memory does not grow with n × rows.
    """
    starts_threads("scikit-learn")
    k = min(k, len(rows) // views)
    enough = (k - 1) * views + 1  # rows for k images: k - 1 images have one row fewer
    search = NearestNeighbors(n_neighbors=min(enough + TIES, len(rows)), algorithm="brute").fit(rows)
    distances, found = search.kneighbors(X)
    order = np.lexsort((found, distances))[:, :enough]  # of rows at one distance the first
    images = np.take_along_axis(found, order, axis=1) // views  # (n, enough)
    return np.array([list(dict.fromkeys(row))[:k] for row in images.tolist()])  # each image once


class Majority(Head):
    """Always the train rows' most frequent class, with their class shares as probabilities.

    Of several, the one that rows bring first: half an image is added to it.

    Attributes
    ----------
    shares_ : (n_classes,) float64
    """

    state: ClassVar[tuple[str, ...]] = ("shares_",)

    def _fit(self, X: Array, y: Array, views: int) -> None:
        counts = np.bincount(y, minlength=len(self.classes_)).astype(np.float64)
        frequent = np.flatnonzero(counts == counts.max())
        if len(frequent) > 1:
            counts[min(frequent, key=first_met(y, len(counts)).__getitem__)] += MET_FIRST
        self.shares_ = counts / counts.sum()

    def _logits(self, X: Array) -> Array:
        return np.tile(np.log(self.shares_), (len(X), 1))
