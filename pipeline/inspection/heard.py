"""What a head says of the images it was not fitted on, by row of the manifest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.manifest import Manifest
from pipeline.project import Project
from pipeline.records.cards import folder_of
from pipeline.records.comparison import Line, best_head, read_predictions
from pipeline.records.predictions import Predictions
from pipeline.records.since import outdated


@dataclass(frozen=True)
class Heard:
    """The answers of one method.

    Attributes
    ----------
    says : (n_images,) int
        Its class number for every row; -1 where the row was fitted on, or nothing is known.
    sure : (n_images,) float32
        The probability it gives that class.
    """

    method: str
    says: NDArray[np.int32]
    sure: NDArray[np.float32]

    def knows(self, row: int) -> bool:
        """Whether it was asked about a row."""
        return bool(self.says[row] >= 0)

    def accuracy_without(self, manifest: Manifest, rows: Sequence[int]) -> tuple[float, float] | None:
        """Share of right answers among all test rows, and without some; None where none is left out."""
        test = manifest.where("test")
        right = self.says[test] == manifest.labels[test]
        kept = ~np.isin(test, rows)
        if (self.says[test] < 0).any() or kept.all() or not kept.any():
            return None
        return float(right.mean()), float(right[kept].mean())


def hear(project: Project, lines: Sequence[Line], manifest: Manifest) -> Heard | None:
    """Collect the held-out answers of the head that validation rows choose; None where there is none."""
    line = best_head(lines)
    if line is None:
        return None
    held = folder_of(project, line.method) / "validation.npz"
    answers_of = {"test": read_predictions(project, line.method)}
    if held.exists() and line.method not in outdated(project):
        answers_of["validation"] = Predictions.read(held)
    says = np.full(len(manifest), -1, np.int32)
    sure = np.zeros(len(manifest), np.float32)
    for split, answers in answers_of.items():
        rows = manifest.where(split)
        same = tuple(answers.classes) == manifest.classes
        if same and answers.id.tolist() == [manifest.rows[row].id for row in rows]:
            says[rows], sure[rows] = answers.proba.argmax(axis=1), answers.proba.max(axis=1)
    return Heard(line.method, says, sure)
