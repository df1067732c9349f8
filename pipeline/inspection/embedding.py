"""Maps of the images in two dimensions.

The first two principal components, whose distances can be believed as far as they go; and, where
`umap-learn` is installed (`pip install 'penultimate[umap]'`), UMAP, which keeps neighbours together and
says nothing by how far apart its clusters lie. It needs about 6 s, nearly all of it to be compiled:
where many images are compared with each other, that time is theirs.

References
----------
McInnes, Healy, Melville: UMAP, arXiv:1802.03426.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.manifest import Manifest
from features.positions import Positions
from pipeline.inspection.reduction import Array, Reduction
from pipeline.inspection.search import neighbours
from pipeline.records.natural import natural

POINTS = 1000  # more lie on top of each other, and each can show its picture
COLOURS = 10  # that can be told apart
SPAN = 1000  # of the larger side: whole numbers are short, and finer than a screen
UMAP_NEIGHBOURS = 15  # the method's default
UMAP_IMAGES = (200, 5000)  # between so many: with fewer a neighbourhood is much of the whole set
EPOCHS = 200
SEED = 0


@dataclass(frozen=True)
class Embedding:
    """Where the points lie.

    Attributes
    ----------
    name : str
    words : str
        What it shows, and what not.
    places : (n, 2) integers from 0 to SPAN
    """

    name: str
    words: str
    places: NDArray[np.int64]


@dataclass(frozen=True)
class Map:
    """Points, one an image; `rows` of the manifest (n,)."""

    rows: Positions
    layouts: tuple[Embedding, ...]

    def legend(self, manifest: Manifest) -> tuple[list[str], list[int]]:
        """Classes that have a colour, and for every point which, len(classes) for one of the others.

        All of them up to COLOURS, else the COLOURS - 1 with the most points; in natural order.
        """
        labels = manifest.labels[self.rows]
        numbers, counts = np.unique(labels, return_counts=True)
        if len(numbers) > COLOURS:
            numbers = numbers[np.argsort(-counts, kind="stable")[: COLOURS - 1]]
        named = sorted(numbers.tolist(), key=lambda number: natural(manifest.classes[number]))
        place = {number: k for k, number in enumerate(named)}
        names = [manifest.classes[number] for number in place]
        return names, [place.get(int(label), len(names)) for label in labels]


def draw(reduced: Reduction) -> Map:
    """Lay out evenly spaced rows, which leaves every class its share: a manifest is sorted by path."""
    n = len(reduced.rows)
    chosen = np.unique(np.linspace(0, n - 1, min(POINTS, n)).round().astype(np.intp))
    first = reduced.coordinates[chosen, :2]
    share = 100 * reduced.variance[:2].sum()
    words = f"The first two principal components: {share:.0f} % of the variance, seen from its widest side."
    layouts = [Embedding("PCA", words, _spanned(first))]
    unit = reduced.unit[chosen]
    small = UMAP_IMAGES[0] <= n <= UMAP_IMAGES[1]
    if small and (places := _umap(unit, first)) is not None:
        words = (
            "UMAP keeps images near those that are nearest to them; distances between clusters, and their "
            "sizes, mean nothing."
        )
        layouts.append(Embedding("UMAP", words, _spanned(places)))
    return Map(reduced.rows[chosen], tuple(layouts))


def _spanned(places: Array) -> NDArray[np.int64]:
    """Whole numbers, from 0; one scale for both axes, the second upwards."""
    low, high = places.min(axis=0), places.max(axis=0)
    scale = SPAN / max(float((high - low).max()), 1e-9)
    turned = np.stack([places[:, 0] - low[0], high[1] - places[:, 1]], axis=1)
    return np.rint(turned * scale).astype(np.int64)


def _umap(unit: Array, start: Array) -> Array | None:
    """Lay out with UMAP from the principal components; None where it is not installed."""
    try:
        from umap import UMAP  # noqa: PLC0415 - optional, and seconds to import
    except ImportError:
        return None
    k = UMAP_NEIGHBOURS - 1
    found, similarity = neighbours(unit, np.arange(len(unit)), k)
    itself = np.arange(len(unit))[:, None]
    near = np.concatenate([itself, found], axis=1).astype(np.int32)
    distance = np.sqrt(np.maximum(2 - 2 * similarity, 0))  # Euclidean, of rows of length 1
    distances = np.concatenate([np.zeros_like(distance[:, :1]), distance], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no new points can be added, and that a seed means one thread
        model = UMAP(
            n_neighbors=UMAP_NEIGHBOURS,
            n_epochs=EPOCHS,
            init=10 * start / np.abs(start).max(),
            precomputed_knn=(near, distances, None),
            random_state=SEED,
        )
        return np.asarray(model.fit_transform(unit), np.float32)
