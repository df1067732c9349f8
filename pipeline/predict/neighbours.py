"""The train images that a method finds most alike: an explanation by examples.

    neighbours = Neighbours(project, method, k=5)
    neighbours(scored)[0][0]        # Neighbour("cats/17.jpg", "cat", 0.93), of the first image

Alike is the cosine of two images' features in the method's layer, normalised as the head
normalises them, of the images as they are where there are several views.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput
from features.reading import Features
from features.turns import turn
from pipeline.heads.inference import to_unit_length
from pipeline.predict.frozen import Frozen
from pipeline.predict.method import Method, Scored
from pipeline.project import Project


@dataclass(frozen=True)
class Neighbour:
    """A train image: its path and label, and its cosine similarity, at most 1."""

    path: str
    label: str
    similarity: float


class Neighbours:
    """Finds the k nearest train images; the store is read a shard at a time, once a round of images.

    Raises
    ------
    BadInput
        For a method that is not on one layer; where that layer has no current store.
    """

    def __init__(self, project: Project, method: Method, k: int) -> None:
        if not isinstance(method, Frozen) or len(method.heads) != 1 or not method.layer_names:
            raise BadInput(
                f"--neighbours needs a head on one layer, which {method.name} is not; name a --method"
            )
        self.manifest = project.read_manifest()
        self.layer, self.normalise = method.layers[0], method.heads[0].normalisation
        self.store = project.store(self.layer, self.manifest)
        self.train = self.store.where("train")
        self.k = min(k, len(self.train))

    def __call__(self, scored: Scored) -> list[tuple[Neighbour, ...]]:
        """Nearest first, for each image of a round."""
        X = np.nan_to_num(scored.rows[self.layer.name])  # an image without an answer may be infinite
        X = self._unit(X if X.ndim == 2 else X[:, 0])  # (n, d)
        similarity: NDArray[np.float32] = np.empty((len(X), 0), np.float32)
        found: NDArray[np.intp] = np.empty((len(X), 0), np.intp)
        for numbers, rows in self.store.stream(self.train, view=0):
            with turn:  # the same bits however many threads ask (see `features.turns`)
                cosines = X @ self._unit(rows).T
            similarity = np.hstack([similarity, cosines])
            found = np.hstack([found, np.broadcast_to(numbers, (len(X), len(numbers)))])
            best = np.argsort(-similarity, axis=1, kind="stable")[:, : self.k]
            similarity = np.take_along_axis(similarity, best, axis=1)
            found = np.take_along_axis(found, best, axis=1)
        return [
            tuple(self._neighbour(*pair) for pair in zip(own.tolist(), alike.tolist(), strict=True))
            for own, alike in zip(found, similarity, strict=True)
        ]

    def _unit(self, X: Features) -> NDArray[np.float32]:
        return to_unit_length(self.normalise(X))

    def _neighbour(self, number: int, similarity: float) -> Neighbour:
        row = self.manifest.rows[number]
        return Neighbour(row.path, row.label, similarity)
