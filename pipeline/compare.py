"""All methods on the same test rows, side by side.

    python cli.py compare

Writes `metrics.json` (what an identical run repeats to the digit),
`artifacts/costs.json` (what it cost), `artifacts/comparison.json` (everything,
for the report), `artifacts/predictions/<method>.npz` and `artifacts/plots/`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import BadInput
from features.files import written_aside
from features.manifest import Manifest
from features.network import Layer
from features.weights import marked
from pipeline import finetune, plot_tables, statistics
from pipeline.budget import equal_budget
from pipeline.predictions import Predictions
from pipeline.project import Project, read_json
from pipeline.train import inputs, method_folder, method_name, read_trials

BASELINES = "finetune."  # how the names of fine-tuned methods begin
TRUST = ("imagenet", "file", "untrained", "random")  # weights: an ensemble is as good as its worst
DECIMALS = 4  # of a metric: a ten-thousandth is far below what any test set here can resolve


@dataclass(frozen=True)
class Method:
    """A trained method, as it stands in its folder."""

    name: str  # pool5.logreg, ensemble, finetune.full, majority
    card: Mapping[str, Any]
    predictions: Predictions
    validation: Predictions | None = None  # of rows that the method was not fitted on
    tried: Sequence[Mapping[str, str]] = ()  # rows of its `tuning.csv`


@dataclass(frozen=True)
class Line:
    """One line of the comparison; differences are from the baseline, None where there is none.

    Attributes
    ----------
    seconds : float
        What the method cost beyond extraction: tuning, or fine-tuning.
    extraction_seconds : float
        What computing its features cost, when they were computed.
    images_seen : int
        By a network in training, all runs together; 0 for a head.
    """

    method: str
    weights: str
    validation_top1: float | None
    validation_log_loss: float | None
    top1: float
    low: float
    high: float
    macro_f1: float
    log_loss: float
    brier: float
    calibration_error: float
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p_value: float | None
    seconds: float
    extraction_seconds: float
    trials: int
    images_seen: int
    trainable_parameters: int
    converged: bool
    chosen: str

    @property
    def label(self) -> str:
        """The method's name in pictures, marked where its layer is computed with untrained weights."""
        return marked(self.method, self.weights)


def compare(project: Project) -> list[Line]:
    """Compare every method that the settings name.

    Raises
    ------
    BadInput
        Where one has to be trained first, or was trained on something else.
    """
    manifest = project.read_manifest()
    heads = _heads(project, manifest)
    methods = [*heads, *_ensemble(project, heads), *_baselines(project, manifest)]
    lines = _lines(project, methods)
    with project.writing(project.comparison) as scratch:
        with written_aside(project.predictions, scratch=scratch) as aside:
            aside.mkdir()
            for method in methods:
                method.predictions.write(aside / f"{method.name.replace(':', '-')}.npz")
        with written_aside(project.plots, scratch=scratch) as aside:
            aside.mkdir()
            named = {method.name: method for method in methods}
            plot_tables.write_accuracies(aside, lines)
            for name, line in (("head", best_head(lines)), ("baseline", baseline_of(lines))):
                plot_tables.write_confusion(aside, name, named[line.method] if line else None)
            plot_tables.write_tuning(aside, heads)
            plot_tables.write_training(aside, project)
        record = {
            "test_images": _count(methods),
            "lines": [asdict(line) for line in lines],
            "equal_budget": [asdict(row) for row in equal_budget(project, best_head(lines))],
        }
        _write_json(project.comparison, record)
        _write_json(project.costs, {line.method: _cost(line) for line in lines})
        _write_json(project.metrics, {line.method: _metrics(line) for line in lines})
    return lines


def _heads(project: Project, manifest: Manifest) -> list[Method]:
    methods = []
    for head in project.settings.heads.named():
        for layer in (None,) if head == "majority" else project.layers:
            card = trained_card(project, head, layer, manifest)
            folder = method_folder(project, head, layer)
            held = folder / "validation.npz"
            validation = Predictions.read(held) if held.exists() else None
            test = Predictions.read(folder / "predictions.npz")
            tried = tuple(read_trials(folder))
            methods.append(Method(method_name(head, layer), card, test, validation, tried))
    return methods


def trained_card(project: Project, head: str, layer: Layer | None, manifest: Manifest) -> dict[str, Any]:
    """Read a head's card; BadInput where it is not trained, or was trained on something else."""
    folder, name = method_folder(project, head, layer), method_name(head, layer)
    if not (folder / "card.json").exists():
        raise BadInput(f"{name} is not trained; run `python cli.py train --head {head}` first")
    card = read_json(folder / "card.json")
    if card["inputs"] != inputs(project, head, layer, manifest):
        raise BadInput(
            f"{name} was trained with other settings or features; "
            f"run `python cli.py train --head {head}` first"
        )
    return card


def _ensemble(project: Project, heads: Sequence[Method]) -> list[Method]:
    """The mean of the probabilities of each layer's best head, where there are several layers."""
    best: dict[str, Method] = {}
    for method in heads:
        layer = method.card["layer"]
        if layer not in (None, "pixels") and (layer not in best or _rank(method) > _rank(best[layer])):
            best[layer] = method
    if len(best) < 2 or not project.settings.compare.ensemble:
        return []
    members = list(best.values())
    cards = [member.card for member in members]
    card = {
        "layers": list(best),
        "weights": max((card["weights"] for card in cards), key=TRUST.index),
        "validation": _validation_of(members),
        "chosen": {"mean of": " and ".join(member.name for member in members)},
        "converged": all(card["converged"] for card in cards),
        **{key: sum(card[key] for card in cards) for key in ("seconds", "trials", "trainable_parameters")},
    }
    proba = np.mean([member.predictions.proba for member in members], axis=0)
    return [Method("ensemble", card, replace(members[0].predictions, proba=proba))]


def _rank(method: Method) -> tuple[float, float]:
    return method.card["validation"]["top1"], -method.card["validation"]["log_loss"]


def _validation_of(members: Sequence[Method]) -> dict[str, float | None]:
    """Scores of members' mean on validation rows; None where some member was fitted on these."""
    if any(member.validation is None for member in members):
        return {"top1": None, "log_loss": None}
    each = [member.validation for member in members if member.validation]
    proba, label = np.mean([one.proba for one in each], axis=0), each[0].label
    return {
        "top1": float((proba.argmax(axis=1) == label).mean()),
        "log_loss": statistics.log_loss(proba, label),
    }


def _baselines(project: Project, manifest: Manifest) -> list[Method]:
    methods = []
    for mode in project.settings.finetune.modes:
        card = finetune.read_card(project, mode)
        if card["inputs"] != finetune.inputs(project, manifest, mode):
            raise BadInput(
                f"finetune.{mode} was trained with other settings or images; "
                f"run `python cli.py finetune --mode {mode}` first"
            )
        predictions = Predictions.read(project.finetune_folder(mode) / "predictions.npz")
        methods.append(Method(f"finetune.{mode}", card, predictions))
    return methods


def _count(methods: Sequence[Method]) -> int:
    return len(methods[0].predictions.label)


def _lines(project: Project, methods: Sequence[Method]) -> list[Line]:
    if not methods:
        raise BadInput("there is nothing to compare: `heads` and `finetune.modes` are both empty")
    settings = project.settings.compare
    correct = {m.name: m.predictions.correct for m in methods}
    baseline = correct.get(f"finetune.{settings.baseline}")
    others = [m.name for m in methods if m.name != f"finetune.{settings.baseline}"]
    p_values: dict[str, float] = {}
    if baseline is not None:
        raw = [statistics.mcnemar(correct[name], baseline) for name in others]
        p_values = dict(zip(others, statistics.holm(raw), strict=True))
    spent = read_json(project.extract_record)["computed_seconds"] if project.extract_record.exists() else {}
    lines = []
    for method in methods:
        p, card = method.predictions, method.card
        top1 = statistics.accuracy(correct[method.name])
        difference: tuple[float | None, float | None, float | None] = (None, None, None)
        if baseline is not None and method.name in p_values:
            difference = statistics.paired_difference(
                correct[method.name], baseline, resamples=settings.resamples, seed=settings.seed
            )
        lines.append(
            Line(
                method.name,
                card["weights"],
                card["validation"]["top1"],
                card["validation"]["log_loss"],
                *top1,
                statistics.macro_f1(p.proba.argmax(axis=1), p.label, len(p.classes)),
                statistics.log_loss(p.proba, p.label),
                statistics.brier(p.proba, p.label),
                statistics.calibration_error(p.proba, p.label),
                *difference,
                p_values.get(method.name),
                card["seconds"],
                _extraction_seconds(card, spent),
                card.get("trials", card.get("runs", 1)),
                card.get("images_seen", 0),
                card["trainable_parameters"],
                card.get("converged", True),
                ", ".join(f"{key} {value}" for key, value in card["chosen"].items()),
            )
        )
    return lines


def _extraction_seconds(card: Mapping[str, Any], spent: Mapping[str, float]) -> float:
    """What the activations cost that a method was fitted on, by layer; a baseline's, of its frozen part."""
    if "prefix" in card:
        return float(card["prefix"]["seconds"])
    return sum(spent.get(layer, 0.0) for layer in _layers_of(card))


def _layers_of(card: Mapping[str, Any]) -> list[str]:
    """The network's layers that a method needs."""
    return [] if card["weights"] == "none" else card.get("layers", [card.get("layer")])


def _metrics(line: Line) -> dict[str, Any]:
    return {
        "top1": round(line.top1, DECIMALS),
        "low": round(line.low, DECIMALS),
        "high": round(line.high, DECIMALS),
        "log_loss": round(line.log_loss, DECIMALS),
        "weights": line.weights,
    }


def _cost(line: Line) -> dict[str, Any]:
    return {
        "seconds": line.seconds,
        "extraction_seconds": line.extraction_seconds,
        "trials": line.trials,
        "images_seen": line.images_seen,
        "seconds_per_trial": round(line.seconds / line.trials, 3),
        "trainable_parameters": line.trainable_parameters,
    }


def best_head(lines: Sequence[Line], *, control: bool = False) -> Line | None:
    """The head on frozen features that validation rows choose: choosing by test rows would flatter it.

    With `control`, the best of those that use no network instead.
    """
    heads = [line for line in lines if not line.method.startswith(BASELINES)]
    heads = [line for line in heads if (line.weights == "none") == control]
    scored = [line for line in heads if line.validation_top1 is not None]
    return max(
        scored, key=lambda line: (line.validation_top1, -(line.validation_log_loss or 0.0)), default=None
    )


def baseline_of(lines: Sequence[Line]) -> Line | None:
    """The method that differences are taken from: the one that has none itself."""
    with_baseline = any(line.difference is not None for line in lines)
    alone = [line for line in lines if line.method.startswith(BASELINES) and line.difference is None]
    return alone[0] if alone and (with_baseline or len(lines) == len(alone)) else None


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with written_aside(path) as aside:
        aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_lines(project: Project) -> tuple[list[Line], int]:
    """Read the last comparison: its lines, and the number of test images."""
    if not project.comparison.exists():
        raise BadInput(f"there is no {project.comparison}; run `python cli.py compare` first")
    content = read_json(project.comparison)
    return [Line(**line) for line in content["lines"]], int(content["test_images"])


def confusion_of(project: Project, method: str) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Counts (true, predicted) of one method, and the classes' names."""
    p = Predictions.read(project.predictions / f"{method.replace(':', '-')}.npz")
    return statistics.confusion(p.proba.argmax(axis=1), p.label, len(p.classes)), p.classes.tolist()
