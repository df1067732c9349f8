"""Accuracy against the number of train images, measured on validation rows alone.

    design = Design.draw(train.y, validation.y, validation.unit, draws=5, seed=0)
    accuracy, right = measure(LogReg, {"C": [0.1, 1.0]}, ["l2"], train, validation, design)

Test rows are never seen here. Validation rows both choose and score, but no row is scored
by what was chosen on it (`cross_fitted`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput
from pipeline.heads.base import Head
from pipeline.heads.normalisation import Normalisation
from pipeline.statistics.calibration import calibrated, log_loss, temperature
from pipeline.statistics.metrics import Interval, mean_of_runs
from pipeline.statistics.ranking import rank
from pipeline.statistics.scores import score
from pipeline.tuning.folds import Rows

STEPS = (1, 2, 5)  # per decade: nearly even on a logarithmic axis
NEARLY_ALL = 0.8  # of the largest class: draws of more are nearly the same images, and cost the most


@dataclass(frozen=True)
class Curve:
    """What one head reached on one layer.

    Attributes
    ----------
    layer : str or None
        None for a head that needs none.
    weights : str
        What the layer is computed with: `imagenet`, `untrained`, `random`, `file`, `none`.
    images : (sizes,) int
        Train images.
    accuracy : (sizes, draws) float
        Shares of validation images that were right.
    sampled : Interval
        With all train images: the interval is about which validation images were drawn.
    seconds : float
        What measuring it took.
    """

    layer: str | None
    head: str
    weights: str
    images: tuple[int, ...]
    accuracy: tuple[tuple[float, ...], ...]
    sampled: Interval
    seconds: float

    @property
    def method(self) -> str:
        """`pool5.logreg`; a bare `majority`."""
        return f"{self.layer}.{self.head}" if self.layer else self.head

    @property
    def intervals(self) -> list[Interval]:
        """Mean accuracy at each size, with its interval over draws."""
        return [over_draws(values) for values in self.accuracy]


@dataclass(frozen=True)
class Design:
    """Which rows every point of a curve is fitted and scored on, the same for all heads and layers.

    Attributes
    ----------
    sizes : tuple of int
        Images per class, ascending; a smaller class gives all it has, and the last size is all rows.
    places : (draws, n_train) int
        Each train row's place, from 0, in its class's random order: subsets of a draw are nested.
    second : (n_validation,) bool
        The half that a validation row is in.
    """

    sizes: tuple[int, ...]
    places: NDArray[np.intp]
    second: NDArray[np.bool_]

    @classmethod
    def draw(
        cls,
        train: NDArray[np.int32],
        validation: NDArray[np.int32],
        units: NDArray[Any],
        *,
        draws: int,
        seed: int,
    ) -> Self:
        """Draw subsets and halves.

        Parameters
        ----------
        train, validation : (n,) int32 class numbers
        units : (n_validation,)
            Of what must not be parted between the halves: copies, and images of a group.
        draws : int
            Random orders of the train rows.
        seed : int
            Of all of them; one more draw leaves the others as they are.
        """
        orders = [np.random.default_rng([seed, 1 + number]) for number in range(draws)]
        places = np.stack([shuffled_places(train, rng) for rng in orders])
        second = halves(validation, units, np.random.default_rng([seed, 0]))
        return cls(sizes(int(np.bincount(train).max())), places, second)

    @property
    def draws(self) -> int:
        """How many subsets of each size there are."""
        return len(self.places)

    @property
    def validation_images(self) -> int:
        """How many images every accuracy is a share of."""
        return len(self.second)

    def subset(self, size: int, draw: int) -> NDArray[np.intp]:
        """Train rows, ascending: at most `size` of each class."""
        return np.flatnonzero(self.places[draw] < size)

    @property
    def images(self) -> tuple[int, ...]:
        """Train images at each size."""
        return tuple(len(self.subset(size, 0)) for size in self.sizes)


def sizes(most: int) -> tuple[int, ...]:
    """1, 2, 5, 10, 20, 50, … while well below `most`, then `most` itself."""
    steps = (step * 10**decade for decade in range(len(str(most))) for step in STEPS)
    return (*(size for size in steps if size <= NEARLY_ALL * most), most)


def shuffled_places(y: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.intp]:
    """Shuffle each class by itself; returns every row's place in its class, (n,) from 0."""
    order = np.lexsort((rng.permutation(len(y)), y))  # by class, at random within
    sorted_y = y[order]
    places = np.empty(len(y), np.intp)
    places[order] = np.arange(len(y)) - np.searchsorted(sorted_y, sorted_y)
    return places


def halves(y: NDArray[np.int32], units: NDArray[Any], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Split rows into two halves, stratified by class, that no unit stands in both of: (n,) bool.

    Raises
    ------
    BadInput
        For a single unit.
    """
    _, first, numbers = np.unique(units, return_index=True, return_inverse=True)
    if len(first) < 2:
        raise BadInput("all validation rows are of one group, so they cannot be halved; give validation more")
    order = np.lexsort((rng.permutation(len(first)), y[first]))  # units by class, at random within
    second = np.empty(len(first), np.bool_)
    second[order] = np.arange(len(first)) % 2 == 1
    return np.asarray(second[numbers])


def measure(
    head: type[Head],
    grid: Mapping[str, Any],
    normalisations: Sequence[str],
    train: Rows,
    validation: Rows,
    design: Design,
    by: str = "top1",
) -> tuple[tuple[tuple[float, ...], ...], NDArray[np.bool_]]:
    """Fit the whole grid on every subset; `by` is the score that chooses (`tuning.score`).

    Returns
    -------
    accuracy : (sizes, draws)
        Shares of validation rows that were right.
    right : (n_validation,) bool
        Which were, with all train rows.
    """

    def fit(rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        return cross_fitted(head, grid, normalisations, train.take(rows), validation, design.second, by)

    accuracy = [
        tuple(float(fit(design.subset(size, draw)).mean()) for draw in range(design.draws))
        for size in design.sizes[:-1]
    ]
    right = fit(np.arange(len(train.y)))  # the same rows in every draw: fitted once
    return (*accuracy, (float(right.mean()),) * design.draws), right


def cross_fitted(
    head: type[Head],
    grid: Mapping[str, Any],
    normalisations: Sequence[str],
    train: Rows,
    validation: Rows,
    second: NDArray[np.bool_],
    by: str = "top1",
) -> NDArray[np.bool_]:
    """Which validation rows are right, (n,) bool, where the other half of them chose.

    Every point (normalisation and hyper-parameters) is fitted on the train rows. The one
    with the best score on one half, ties decided as in tuning, answers for the other half,
    and the other way round. So no row is scored by a point that was chosen on it, and every
    row is scored once.
    """
    rows = train.flat()
    best: dict[bool, tuple[_Place, NDArray[np.bool_]]] = {}  # by the half that chooses
    for kind in normalisations:
        normalise = Normalisation(kind).fit(rows.X)
        X, X_validation = normalise(rows.X), normalise(validation.X)
        for point, fitted in head.path(X, rows.y, grid, train.views):
            scores = fitted.logits_by_view(X_validation)  # (n, n_classes) or (n, k, n_classes)
            right = calibrated(scores, 1.0).argmax(axis=1) == validation.y
            for half in (False, True):
                own = second == half
                place = _Place(head.complexity(point), by, scores[own], validation.y[own])
                if half not in best or place.is_before(best[half][0]):
                    best[half] = place, right
    return np.where(second, best[False][1], best[True][1])


class _Place:
    """Where one point stands among others, on the rows that choose."""

    def __init__(
        self, complexity: tuple[float, ...], by: str, scores: NDArray[Any], labels: NDArray[np.int32]
    ) -> None:
        self.complexity, self.scores, self.labels = complexity, scores, labels
        self.value = score(by, scores, labels).value if by != "log-loss" else -self.log_loss

    @cached_property
    def log_loss(self) -> float:
        """After temperature scaling, which takes much longer than all else: only ties need it."""
        return log_loss(self.scores / temperature(self.scores, self.labels), self.labels)

    def is_before(self, other: "_Place") -> bool:
        """Whether it is the better, or of equals the simpler one."""
        if self.value != other.value:
            return self.value > other.value
        mine, theirs = (rank(each.value, each.log_loss) for each in (self, other))
        return mine > theirs or (mine == theirs and self.complexity < other.complexity)


def over_draws(values: Sequence[float]) -> Interval:
    """Mean of some draws' values with its 95 % t-interval: what depends on which images were drawn."""
    mean, low, high = mean_of_runs(values)
    return Interval(mean, max(low, 0.0), min(high, 1.0))
