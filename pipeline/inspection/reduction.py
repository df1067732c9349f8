"""Features of one layer, reduced once for all that is asked of them: few columns, and not too many rows.

reduced = reduce(store, manifest)
reduced.unit @ reduced.unit.T       # cosine similarities of the centred, reduced features

Rows are scaled to length 1, centred, and projected onto their principal components; a similarity is
the cosine of two rows there. Features after a ReLU all point into one corner of their space, where
every two images are alike: centred, they are compared by what tells them apart.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from features.manifest import SPLITS, Manifest
from features.positions import Positions
from features.store import FeatureStore
from pipeline.heads.inference import to_unit_length

ROWS = 20_000  # compared with each other: the work grows with their square
STORED = 1 << 30  # bytes of a store that are read
COMPONENTS = 128
FIT = 1500  # rows that the components are fitted on
BLOCK = 2048  # rows projected at once
SEED = 0

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Reduction:
    """Images in few dimensions.

    Attributes
    ----------
    rows : (n,) row numbers of the manifest, ascending
    coordinates : (n, at most COMPONENTS) float32
        Principal components, the largest first.
    variance : (at most COMPONENTS,) float64
        The components' shares of the variance.
    total : int
        How many images there are, of which n are looked at.
    """

    layer: str
    rows: Positions
    coordinates: Array
    variance: NDArray[np.float64]
    total: int

    @cached_property
    def unit(self) -> Array:
        """The coordinates scaled to length 1; a row of zeros stays one."""
        return to_unit_length(self.coordinates)

    @property
    def words(self) -> str:
        """Which images and features everything here is about."""
        n, kept = len(self.rows), self.variance.sum()
        which = (
            f"all {n:,} images"
            if n == self.total
            else f"{n:,} of the {self.total:,} images, a fixed sample from every split"
        )
        return (
            f"Computed from the cached {self.layer} features of {which}: scaled to length 1, centred, and "
            f"reduced to {self.coordinates.shape[1]} principal components, which hold "
            f"{100 * kept:.0f} % of their variance. Similarity is the cosine of two images there, at most 1."
        )


def reduce(store: FeatureStore, manifest: Manifest, layer: str) -> Reduction:
    """Read and reduce a store; of several views the first.

    Raises
    ------
    BadInput
        Where the store is damaged.
    """
    rows = sample(store, manifest)
    X = np.empty((len(rows), store.features.shape[-1]), np.float16)  # half the memory; values are below 1
    start = 0
    for _, part in store.stream(rows, view=0):
        X[start : start + len(part)] = to_unit_length(part)
        start += len(part)
    mean, components, variance = principal_components(X)
    coordinates = np.empty((len(rows), components.shape[1]), np.float32)
    for start in range(0, len(rows), BLOCK):
        coordinates[start : start + BLOCK] = (X[start : start + BLOCK] - mean) @ components
    return Reduction(layer, rows, coordinates, variance, len(manifest))


def sample(store: FeatureStore, manifest: Manifest) -> Positions:
    """At most ROWS rows, ascending, from every split in proportion: the same ones every time.

    Where the store is large, drawn from evenly spaced chunks of it: what lies in one is read as a whole.
    """
    features = store.features
    chunk = features.chunks[0]
    size = features.dtype.itemsize * int(np.prod(features.shape[1:]))  # bytes of an image
    step = -(-len(manifest) * size // STORED)
    chunks = np.arange(len(manifest)) // chunk
    at_hand = np.flatnonzero(chunks % step == 0)
    share = ROWS / len(at_hand)
    if share >= 1:
        return at_hand
    rng = np.random.default_rng(SEED)
    drawn = [
        rng.choice(rows, round(share * len(rows)), replace=False)
        for rows in (at_hand[manifest.splits[at_hand] == split] for split in range(len(SPLITS)))
    ]
    return np.sort(np.concatenate(drawn))


def principal_components(X: NDArray[np.float16]) -> tuple[Array, Array, NDArray[np.float64]]:
    """Mean (d,), components (d, k) and their shares of the variance (k,), of evenly spaced rows of X (n, d).

    From the rows' products with each other, so that the features' width costs little, by a randomised
    decomposition with a fixed start (Halko, Martinsson and Tropp, arXiv:0909.4061): to rounding the same
    as the exact one, which takes ten times as long.
    """
    rows = X[np.unique(np.linspace(0, len(X) - 1, min(FIT, len(X))).round().astype(np.intp))]
    centred = rows.astype(np.float32)
    mean = centred.mean(axis=0)
    centred -= mean
    products = (centred @ centred.T).astype(np.float64)
    top = min(COMPONENTS, len(rows) - 1)
    with threadpool_limits(1, "blas"):  # of its many small steps each would wait for all threads: 4 s for 0.4
        vectors, values, _ = randomized_svd(products, top, n_iter=7, random_state=SEED)
    kept = values > 1e-6 * products.trace()  # beyond is rounding; none where all rows are equal
    components = centred.T @ (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)  # (d, k)
    return mean, components, values[kept] / (products.trace() or 1)
