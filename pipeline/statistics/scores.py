"""A score of rows that a head or a network was not fitted on, as `tuning.score` names it.

    found = score("macro-f1", scores / temperature, labels)
    found.value, found.error        # higher is better; its standard error

What chooses by it: `pipeline.statistics.ranking`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics import metrics
from pipeline.statistics.calibration import calibrated, log_losses


@dataclass(frozen=True)
class Score:
    """A score of n rows, and what each row has to do with it.

    Attributes
    ----------
    value : float
        Higher is better: the accuracy, the macro F1, or the negative log-loss.
    rows : (n,) float32
        Its derivative with respect to each row's weight; they sum to zero.
    """

    value: float
    rows: NDArray[np.float32]

    @property
    def error(self) -> float:
        """Standard error, over which rows were drawn: of an accuracy p, √(p (1 - p) / n)."""
        return float(np.sqrt(np.square(self.rows, dtype=np.float64).sum()))


def score(name: str, scores: NDArray[Any], labels: NDArray[Any]) -> Score:
    """Score some rows.

    Parameters
    ----------
    name : {"top1", "macro-f1", "log-loss"}
    scores : (n, n_classes) or (n, k, n_classes), divided by their temperature
    labels : (n,) class numbers
    """
    if name == "log-loss":
        return _mean(-log_losses(scores, labels))
    answers = calibrated(scores, 1.0).argmax(axis=1)
    return _macro_f1(answers, labels, scores.shape[-1]) if name == "macro-f1" else _mean(answers == labels)


def _mean(values: NDArray[Any]) -> Score:
    mean = float(values.mean())
    return Score(mean, ((values - mean) / len(values)).astype(np.float32))


def _macro_f1(answers: NDArray[Any], labels: NDArray[Any], n_classes: int) -> Score:
    """Of all classes: one that is neither there nor answered counts 0, as in `metrics.macro_f1`."""
    table = metrics.confusion(answers, labels, n_classes)
    both = np.maximum(table.sum(axis=0) + table.sum(axis=1), 1)  # TP + FN and TP + FP
    f1 = 2 * np.diag(table) / both
    gained = np.where(answers == labels, (2 / both)[labels], 0)
    rows = (gained - (f1 / both)[labels] - (f1 / both)[answers]) / n_classes
    return Score(float(f1.mean()), rows.astype(np.float32))
