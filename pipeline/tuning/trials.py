"""What tuning tried, point by point, and which of two points is ahead."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import Point
from pipeline.statistics.ranking import rank

ERRORS = 2  # standard errors of a difference that are more than chance


@dataclass(frozen=True)
class Trial:
    """One point that was tried, and what it scored on rows it was not fitted on: means over folds."""

    normalisation: str
    point: Point
    top1: float
    score: float  # by which it is chosen, higher is better (see `pipeline.statistics.scores`)
    error: float  # the score's standard error: over folds, or over one fold's rows
    log_loss: float  # after temperature scaling
    temperature: float  # geometric mean
    converged: bool
    rows: NDArray[np.float32] = field(compare=False, repr=False)  # what each has to do with the score

    @property
    def rank(self) -> tuple[float, float]:
        """Higher is better."""
        return rank(self.score, self.log_loss)

    def is_ahead_of(self, other: "Trial") -> bool:
        """Whether its score is higher by more than the sampling error of the difference, on the same rows.

        The standard error is that of two which are equally good: of accuracies, McNemar's.
        """
        gain = self.score - other.score
        squares = np.square(self.rows - other.rows, dtype=np.float64).sum() + gain**2 / len(self.rows)
        return gain > ERRORS * math.sqrt(squares)


def mean(trials: Sequence[Trial]) -> Trial:
    """One trial of the same point's on several folds."""
    if len(trials) == 1:
        return trials[0]
    scores = [trial.score for trial in trials]
    return Trial(
        trials[0].normalisation,
        trials[0].point,
        top1=float(np.mean([trial.top1 for trial in trials])),
        score=float(np.mean(scores)),
        error=float(np.std(scores, ddof=1) / math.sqrt(len(trials))),
        log_loss=float(np.mean([trial.log_loss for trial in trials])),
        temperature=math.exp(float(np.mean([math.log(trial.temperature) for trial in trials]))),
        converged=all(trial.converged for trial in trials),
        rows=np.concatenate([trial.rows / np.float32(len(trials)) for trial in trials], dtype=np.float32),
    )
