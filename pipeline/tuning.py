"""Choose normalisation and hyper-parameters on validation rows; test rows are never seen here.

tuned = tune(LogReg, {"C": [0.1, 1.0]}, ["l2", "standard"], train, validation)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput
from pipeline.calibration import calibrated, log_loss, temperature
from pipeline.classifier import Classifier
from pipeline.heads.base import Head, Point
from pipeline.heads.normalisation import Normalisation


class Rows(NamedTuple):
    """Features of one split's images, (n, d) or (n, k, d) float32 for k views, and class numbers (n,)."""

    X: NDArray[np.float32]
    y: NDArray[np.int32]

    @property
    def views(self) -> int:
        """Views per image."""
        return 1 if self.X.ndim == 2 else self.X.shape[1]

    def flat(self) -> "Rows":
        """One row per view, (n × k, d) and (n × k,), the views of an image adjacent."""
        return Rows(self.X.reshape(-1, self.X.shape[-1]), self.y.repeat(self.views))


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

    Each of an image's k views weighs 1/k in fitting; scored are the images, by
    probabilities averaged over their views.

    Raises
    ------
    BadInput
        For train rows that lack a class.
    """
    missing = set(range(len(classes))) - set(train.y.tolist())
    if missing:
        raise BadInput(f"class {classes[missing.pop()]!r} has no image in train; run `prepare` again")
    rows = train.flat()
    trials: list[Trial] = []
    best: tuple[Trial, Classifier] | None = None
    for kind in normalisations:
        normalise = Normalisation(kind).fit(rows.X)
        X, X_validation = normalise(rows.X), normalise(validation.X)
        for point, fitted in head.path(X, rows.y, grid, train.views):
            scores = fitted.logits_by_view(X_validation)  # (n, n_classes) or (n, k, n_classes)
            T = temperature(scores, validation.y)
            top1 = float((calibrated(scores, T).argmax(axis=1) == validation.y).mean())
            trial = Trial(kind, point, top1, log_loss(scores / T, validation.y), fitted.converged_)
            trials.append(trial)
            if best is None or trial.rank > best[0].rank:
                best = trial, Classifier(normalise, fitted, T, tuple(classes))
    assert best is not None  # noqa: S101 - grids and normalisations are never empty
    return Tuned(best[1], best[0], tuple(trials))
