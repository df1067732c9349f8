"""The tables that `dvc plots` draws, in `artifacts/plots`, with the templates of `.dvc/plots`."""

import csv
from collections.abc import Sequence
from pathlib import Path

from features.files import read_text
from features.manifest import write_csv
from pipeline.comparison.methods import TrainedMethod
from pipeline.project import Project
from pipeline.records.comparison import Line
from pipeline.records.heads import MAJORITY
from pipeline.records.natural import in_order
from pipeline.records.runs import read_history

ACCURACY = ("method", "top1", "low", "high", "weights")
TUNING = ("method", "normalisation", "C", "validation_top1")
TRAINING = ("method", "recipe", "epoch", "train_loss", "validation_top1")
CONFUSION = ("actual", "predicted", "actual_place", "predicted_place")


def write_accuracies(folder: Path, lines: Sequence[Line]) -> None:
    """Write accuracies with intervals; without the majority class, which would press all others together."""
    shown = [line for line in lines if line.method != MAJORITY]
    rows = [(line.label, line.top1, line.low, line.high, line.weights) for line in shown]
    write_csv(folder / "accuracy.csv", ACCURACY, rows)


def write_confusion(folder: Path, name: str, method: TrainedMethod | None) -> None:
    """Write `confusion_<name>.csv`: true and predicted class of each test image, no rows for no method.

    With the places of both among the classes in natural order, by which the template sorts.
    """
    rows: list[tuple[str, str, int, int]] = []
    if method is not None:
        found = method.predictions
        names = found.classes.tolist()
        places = {number: place for place, number in enumerate(in_order(names))}
        for actual, answer in zip(found.label.tolist(), found.proba.argmax(axis=1).tolist(), strict=True):
            rows.append((names[actual], names[answer], places[actual], places[answer]))
    write_csv(folder / f"confusion_{name}.csv", CONFUSION, rows)


def write_tuning(folder: Path, methods: Sequence[TrainedMethod]) -> None:
    """Write what was tried of the heads whose only parameter is C."""
    rows = []
    for method in methods:
        if set(method.card["chosen"]) == {"normalisation", "C"}:
            rows += [(method.name, *(trial[column] for column in TUNING[1:])) for trial in method.tried]
    write_csv(folder / "tuning.csv", TUNING, rows)


def read_tuning(project: Project) -> list[dict[str, str]]:
    """Read `artifacts/plots/tuning.csv` of the last comparison: a mapping for each row."""
    return _read(project.plots / "tuning.csv")


def read_training(project: Project) -> list[dict[str, str]]:
    """Read `artifacts/plots/training.csv` of the last comparison, which may have none: as `read_tuning`."""
    path = project.plots / "training.csv"
    return _read(path) if path.exists() else []


def write_training(folder: Path, project: Project) -> None:
    """Write every epoch of every baseline's hyper-parameters."""
    rows = []
    for mode in project.settings.finetune.modes:
        for epoch in read_history(project, mode):
            recipe = f"rate {float(epoch['learning_rate']):g}, decay {float(epoch['weight_decay']):g}"
            rows.append((f"finetune.{mode}", recipe, *(epoch[column] for column in TRAINING[2:])))
    write_csv(folder / "training.csv", TRAINING, rows)


def _read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(read_text(path).splitlines()))
