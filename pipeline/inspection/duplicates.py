"""Near-duplicates across splits: held-out images that a train image shows, too.

Copies of a file are found by `prepare`; this is about what only looks the same: encoded again, resized,
brightened, slightly cropped, mirrored. An accuracy on such images is partly one on train images.

A pair has to stand out twice, among features and among pixels. Each time the distance to the nearest
neighbour (1 - similarity) is compared on a logarithmic scale with what is usual in this data: median, and
spread from the closest quarter. Usual pairs of photographs of one kind of thing lie within 2 spreads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from features.network import PIXELS_SIZE
from features.positions import Positions
from pipeline.inspection.reduction import Reduction
from pipeline.inspection.thumbnails import Thumbnails

LEAST = 2.0  # spreads that a pair is closer than usual, of features and of pixels …
TOGETHER = 5.0  # … and of both in sum
ORDINARY = 200  # nearest pairs whose pixels show what is usual
FEWEST = 20  # such pairs, for anything to be called usual
CANDIDATES = 500  # pairs at most whose pixels are compared
MARGINS = (0, 1, 2, 3)  # pixels of 32 that one of the two may lack on every side
QUARTILE = 0.6745  # standard deviations from a normal distribution's median to its quartile
# What is usual is no closer than this where a set consists of near-duplicates, such as frames of a film
CLOSEST, NARROWEST = 0.02, 0.3

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Usual:
    """How close nearest neighbours usually are: of the logarithm of 1 - similarity."""

    median: float
    spread: float

    @classmethod
    def of(cls, similarity: NDArray[np.floating]) -> "Usual":
        """Learn from nearest pairs, (n,); a quarter of them may be duplicates and hardly shift it."""
        middle, close = np.quantile(_distance(similarity), [0.5, 0.25])
        spread = max((middle - close) / QUARTILE, NARROWEST)
        return cls(float(max(middle, np.log(CLOSEST))), float(spread))

    def closer(self, similarity: NDArray[np.floating]) -> NDArray[np.float64]:
        """By how many spreads pairs are closer than usual."""
        return np.asarray((self.median - _distance(similarity)) / self.spread)

    def similarity(self, spreads: float) -> float:
        """The similarity that lies so many spreads above the usual one."""
        return float(1 - np.exp(self.median - spreads * self.spread))


def _distance(similarity: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.log(np.maximum(1 - similarity.astype(np.float64), 1e-6))


@dataclass(frozen=True)
class Pair:
    """A held-out image and the train image that shows the same: rows of the manifest."""

    row: int
    train: int
    similarity: float
    correlation: float


@dataclass(frozen=True)
class Duplicates:
    """All confirmed pairs, the closest first.

    Attributes
    ----------
    compared : int
        Pairs whose pixels were compared.
    passed_over : int
        Pairs close enough that were not, beyond CANDIDATES or without a readable image.
    similarity, correlation : float
        What a pair needs at least.
    """

    pairs: tuple[Pair, ...]
    compared: int
    passed_over: int
    similarity: float
    correlation: float


def duplicates(
    reduced: Reduction, found: Positions, similarity: Array, thumbnails: Thumbnails
) -> Duplicates | None:
    """Find pairs among every image's nearest neighbours; None where too few images can be compared.

    Parameters
    ----------
    found, similarity : (n, k)
        As `search.neighbours` returns them, of the reduced rows.
    """
    there = np.flatnonzero(np.isfinite(similarity[:, 0]))
    if len(there) < FEWEST:
        return None
    usual = Usual.of(similarity[there, 0])
    left, right, close = _across(thumbnails.manifest.splits[reduced.rows], found, similarity)
    near = usual.closer(close) >= LEAST
    left, right, close = left[near][:CANDIDATES], right[near][:CANDIDATES], close[near][:CANDIDATES]
    ordinary = _spaced(there)
    everything = np.stack([np.append(ordinary, left), np.append(found[ordinary, 0], right)], axis=1)
    alike = correlations(thumbnails, reduced.rows[everything])
    basis, alike = alike[: len(ordinary)], alike[len(ordinary) :]
    if np.isfinite(basis).sum() < FEWEST:
        return None
    pixels = Usual.of(basis[np.isfinite(basis)])
    spreads = np.stack([usual.closer(close), pixels.closer(np.nan_to_num(alike))])
    confirmed = np.flatnonzero((spreads[1] >= LEAST) & (spreads.sum(axis=0) >= TOGETHER))
    confirmed = confirmed[np.argsort(-spreads[:, confirmed].sum(axis=0), kind="stable")]
    rows = reduced.rows[np.stack([left, right], axis=1)[confirmed]]  # (pairs, 2)
    values = np.stack([close, alike], axis=1)[confirmed]
    pairs = tuple(Pair(*two, *both) for two, both in zip(rows.tolist(), values.tolist(), strict=True))
    compared = int(np.isfinite(alike).sum())
    least = usual.similarity(LEAST), pixels.similarity(LEAST)
    return Duplicates(pairs, compared, int(near.sum()) - compared, *least)


def _spaced(places: Positions) -> Positions:
    """ORDINARY of them, evenly spaced; all where there are fewer."""
    spaced = np.linspace(0, len(places) - 1, min(ORDINARY, len(places))).round().astype(np.intp)
    return places[np.unique(spaced)]


def _across(
    splits: NDArray[np.integer], found: Positions, similarity: Array
) -> tuple[Positions, Positions, Array]:
    """Every held-out image and the nearest train image among its neighbours, the closest pairs first."""
    train = (splits[found] == 0) & np.isfinite(similarity)  # (n, k), nearest first
    held_out = np.flatnonzero((splits != 0) & train.any(axis=1))
    first = train[held_out].argmax(axis=1)
    close = similarity[held_out, first]
    order = np.argsort(-close, kind="stable")
    return held_out[order], found[held_out, first][order], close[order]


def correlations(thumbnails: Thumbnails, pairs: NDArray[np.intp]) -> NDArray[np.float64]:
    """Correlation of two images' grey values, the best of slight crops and mirroring; NaN without an image.

    Parameters
    ----------
    pairs : (n, 2) rows of the manifest
    """
    rows, places = np.unique(pairs, return_inverse=True)  # each picture is read once
    pictures = thumbnails.grey(rows)  # (rows, 32, 32)
    left, right = places.reshape(pairs.shape).T
    return np.array([_correlation(pictures[a], pictures[b]) for a, b in zip(left, right, strict=True)])


def _correlation(a: Array, b: Array) -> float:
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    tries = [
        float(_standard(view) @ _standard(other))
        for one, other in ((a, b), (b, a))
        for turned in (one, one[:, ::-1])
        for view in _cropped(turned)
    ]
    return max(tries)


def _cropped(picture: Array) -> Sequence[Array]:
    """The picture without a margin, enlarged to its size again, for every margin."""
    height, width = PIXELS_SIZE
    image = Image.fromarray(np.ascontiguousarray(picture))
    bilinear = Image.Resampling.BILINEAR
    return [
        np.asarray(image.resize((width, height), bilinear, box=(m, m, width - m, height - m)))
        for m in MARGINS
    ]


def _standard(picture: Array) -> Array:
    """Values as a vector of length 1 around 0; of a picture of one grey, zeros."""
    vector = picture.ravel() - picture.mean()
    length = np.linalg.norm(vector)
    return np.asarray(vector / length if length > 1e-6 else 0 * vector)
