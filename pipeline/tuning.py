"""Choose normalisation and hyper-parameters on validation rows; test rows are never seen here.

tuned = tune(LogReg, {"C": [0.1, 1.0]}, ["l2", "standard"], train, validation)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput
from pipeline.calibration import log_loss, temperature
from pipeline.classifier import Classifier
from pipeline.heads.base import Head, Point
from pipeline.heads.normalisation import Normalisation


class Rows(NamedTuple):
    """Features (n, d) float32 and class numbers (n,) of one split."""

    X: NDArray[np.float32]
    y: NDArray[np.int32]


@dataclass(frozen=True)
class Trial:
    """One point that was tried, and what it scored on validation rows."""

    normalisation: str
    point: Point
    top1: float
    log_loss: float  # after temperature scaling
    converged: bool

    @property
    def rank(self) -> tuple[float, float]:
        """Higher is better: accuracy, ties decided by log-loss."""
        return self.top1, -self.log_loss


@dataclass(frozen=True)
class Tuned:
    """The winner, ready to use, and everything that was tried."""

    classifier: Classifier
    chosen: Trial
    trials: tuple[Trial, ...]

    @property
    def edges(self) -> list[str]:
        """Parameters whose chosen value is the first or last of several: the grid may be too narrow."""
        found = []
        for name, value in self.chosen.point.items():
            tried = sorted({trial.point[name] for trial in self.trials})
            if len(tried) > 2 and value in (tried[0], tried[-1]) and name != "epochs":
                found.append(f"{name} = {value:g}")
        return found


def tune(
    head: type[Head],
    grid: Mapping[str, Any],
    normalisations: Sequence[str],
    train: Rows,
    validation: Rows,
    classes: Sequence[str],
) -> Tuned:
    """Fit every point on train rows, keep the best on validation rows, fit its temperature there.

    Raises
    ------
    BadInput
        For train rows that lack a class.
    """
    missing = set(range(len(classes))) - set(train.y.tolist())
    if missing:
        raise BadInput(f"class {classes[missing.pop()]!r} has no image in train; run `prepare` again")
    trials: list[Trial] = []
    best: tuple[Trial, Classifier] | None = None
    for kind in normalisations:
        normalise = Normalisation(kind).fit(train.X)
        X, X_validation = normalise(train.X), normalise(validation.X)
        for point, fitted in head.path(X, train.y, grid):
            scores = fitted.logits(X_validation)
            top1 = float((scores.argmax(axis=1) == validation.y).mean())
            T = temperature(scores, validation.y)
            trial = Trial(kind, point, top1, log_loss(scores / T, validation.y), fitted.converged_)
            trials.append(trial)
            if best is None or trial.rank > best[0].rank:
                best = trial, Classifier(normalise, fitted, T, tuple(classes))
    assert best is not None  # noqa: S101 - grids and normalisations are never empty
    return Tuned(best[1], best[0], tuple(trials))
