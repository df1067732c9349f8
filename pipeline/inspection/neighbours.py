"""What lies nearest: a few test images with the train images most similar to them, and how classes mix."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.manifest import Manifest
from features.positions import Positions
from pipeline.inspection.heard import Heard
from pipeline.inspection.reduction import Array, Reduction

EXAMPLES = 12  # test images, half of them ones that the best head gets wrong
NEAREST = 5  # train images shown with each
MIXED = 3  # pairs of classes named

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class Example:
    """A test image and its nearest train images, rows of the manifest, with their similarities."""

    row: int
    nearest: tuple[tuple[int, float], ...]


def examples(reduced: Reduction, manifest: Manifest, heard: Heard | None) -> list[Example]:
    """Choose test images, the surest wrong answers first, and find their nearest train images exactly."""
    splits = manifest.splits[reduced.rows]
    train, test = np.flatnonzero(splits == 0), np.flatnonzero(splits == 2)
    if not len(train) or not len(test):
        return []
    chosen = _chosen(test, reduced, manifest, heard)
    similarity = reduced.unit[chosen] @ reduced.unit[train].T  # (12, train)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :NEAREST]
    close = np.take_along_axis(similarity, order, axis=1)
    rows = reduced.rows
    return [
        Example(int(rows[place]), tuple(zip(rows[train[near]].tolist(), values.tolist(), strict=True)))
        for place, near, values in zip(chosen, order, close, strict=True)
    ]


def _chosen(test: Positions, reduced: Reduction, manifest: Manifest, heard: Heard | None) -> Positions:
    """Half surest wrong answers, where there are as many; the rest evenly spaced among the right ones."""
    wrong, others = test[:0], test
    if heard:
        rows = reduced.rows[test]
        mistaken = (heard.says[rows] >= 0) & (heard.says[rows] != manifest.labels[rows])
        wrong, others = test[mistaken], test[~mistaken]
        wrong = wrong[np.argsort(-heard.sure[reduced.rows[wrong]], kind="stable")][: EXAMPLES // 2]
    count = min(EXAMPLES - len(wrong), len(others))
    spaced = others[np.linspace(0, len(others) - 1, count).round().astype(np.intp)] if count else others[:0]
    return np.concatenate([wrong, spaced])


@dataclass(frozen=True)
class Mixture:
    """How classes lie among each other.

    Attributes
    ----------
    own : float
        Share of the nearest neighbours that are of the image's own class.
    k : int
        How many neighbours of every image count.
    pairs : sequence of (class, other class, share of the class's neighbours that are of the other)
        The most mixed ones.
    """

    own: float
    k: int
    pairs: Sequence[tuple[str, str, float]]


def mixture(found: Positions, similarity: Array, labels: Labels, classes: Sequence[str]) -> Mixture:
    """Count the classes of every image's neighbours; `found` and `similarity` (n, k)."""
    there = np.isfinite(similarity)
    which, place = np.nonzero(there)
    table = np.zeros((len(classes), len(classes)))
    np.add.at(table, (labels[which], labels[found[which, place]]), 1)
    total = max(table.sum(), 1.0)
    own = float(table.trace() / total)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:MIXED]
    numbers = [divmod(int(flat), len(classes)) for flat in order]
    pairs = [(classes[a], classes[b], float(shares[a, b])) for a, b in numbers if shares[a, b] > 0]
    return Mixture(own, found.shape[1], pairs)
