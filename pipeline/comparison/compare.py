"""All methods on the same test rows, side by side.

    python cli.py compare

Writes `metrics.json` (what an identical run repeats to the digit),
`artifacts/costs.json` (what it cost), `artifacts/comparison.json` (everything,
for the report), `artifacts/per_class.csv`, `artifacts/predictions/<method>.npz` and
`artifacts/plots/`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from features.errors import BadInput
from features.files import sha256_file, write_json, written_aside
from features.manifest import Manifest, write_csv
from pipeline.comparison import plot_tables
from pipeline.comparison.bootstrap import Bootstrapped, bootstrap
from pipeline.comparison.budget import equal_budget
from pipeline.comparison.methods import TrainedMethod, methods_of
from pipeline.project import Project, read_json
from pipeline.records.cards import BASELINES
from pipeline.records.comparison import DIFFERENCES, ENSEMBLE, Line, baseline_of, best_head
from pipeline.records.heads import chosen_in_words
from pipeline.records.natural import in_order
from pipeline.records.prices import price_of
from pipeline.records.since import identity
from pipeline.statistics import metrics

DECIMALS = 4  # of a metric: a ten-thousandth is far below what any test set here can resolve
PER_CLASS = ("method", "class", "images", "precision", "recall", "f1")


def compare(project: Project) -> list[Line]:
    """Compare every method that the settings name.

    Raises
    ------
    BadInput
        Where one has to be trained first, or was trained on something else.
    """
    manifest = project.read_manifest()
    methods = methods_of(project, manifest)
    lines = _lines(project, methods, _frequent(manifest))
    digests: dict[str, str] = {}
    with project.writing(project.comparison) as scratch:
        with written_aside(project.predictions, scratch=scratch) as aside:
            aside.mkdir()
            for method in methods:
                file = aside / project.predictions_file(method.name).name
                method.predictions.write(file)
                digests[method.name] = sha256_file(file)
        with written_aside(project.plots, scratch=scratch) as aside:
            aside.mkdir()
            named = {method.name: method for method in methods}
            plot_tables.write_accuracies(aside, lines)
            for name, line in (("head", best_head(lines)), ("baseline", baseline_of(lines))):
                plot_tables.write_confusion(aside, name, named[line.method] if line else None)
            plot_tables.write_tuning(aside, methods)
            plot_tables.write_training(aside, project)
        record = {
            "test_images": len(methods[0].predictions.label),
            "resamples": project.settings.compare.resamples,
            "lines": [asdict(line) for line in lines],
            "ensemble": next((method.card["members"] for method in methods if method.name == ENSEMBLE), []),
            "manifest": manifest.digest,
            "identities": _identities(methods),
            "predictions": digests,
            "agreement": _agreement(methods),
            "equal_budget": [asdict(row) for row in equal_budget(project, best_head(lines))],
        }
        write_json(project.comparison, record)
        write_json(project.costs, {line.method: _cost(line) for line in lines})
        write_csv(project.per_class, PER_CLASS, _per_class(methods))
        write_json(project.metrics, {line.method: _metrics(line) for line in lines})
    return lines


def _lines(project: Project, methods: Sequence[TrainedMethod], frequent: int) -> list[Line]:
    if not methods:
        raise BadInput("there is nothing to compare: `heads` and `finetune.modes` are both empty")
    settings = project.settings.compare
    found = bootstrap(
        [method.predictions for method in methods], resamples=settings.resamples, seed=settings.seed
    )
    names = [method.name for method in methods]
    against: dict[str, dict[str, Any]] = {}
    baseline = f"{BASELINES}{settings.baseline}"
    if baseline in names:
        against = _differences(project, methods, found, names.index(baseline))
    trial = next((_seconds_per_trial(method.card) for method in methods if method.name == baseline), None)
    spent = read_json(project.extract_record)["computed_seconds"] if project.extract_record.exists() else {}
    return [
        Line(
            method=method.name,
            weights=method.card["weights"],
            **_choice(method.card, project.settings.tuning.score),
            **_test_scores(method, scores),
            **against.get(method.name, dict.fromkeys(DIFFERENCES)),
            **_against_majority(method, frequent),
            **_spent(method.card, spent, trial),
        )
        for method, scores in zip(methods, found, strict=True)
    ]


def _choice(card: Mapping[str, Any], score: str) -> dict[str, Any]:
    """What validation rows chose, and what they say of it."""
    return {
        **{f"validation_{key}": card["validation"][key] for key in ("top1", "log_loss", "score")},
        "chosen_by": score,
        "chosen": chosen_in_words(card["chosen"]),
        "epoch": card["chosen"].get("epoch"),
        "converged": card.get("converged", True),
    }


def _test_scores(method: TrainedMethod, scores: Mapping[str, Bootstrapped]) -> dict[str, Any]:
    """Test rows: accuracy with Wilson's interval, all other scores with resampled ones."""
    top1 = metrics.accuracy(method.predictions.correct)
    return {
        "top1": top1.value,
        "low": top1.low,
        "high": top1.high,
        **{key: scores[key].value for key in ("macro_f1", "log_loss", "brier", "calibration_error")},
        "intervals": {name: list(each.interval[1:]) for name, each in scores.items()},
        "missed": _missed(method),
        "seed_top1": [seed.test_top1 for seed in method.seeds],
    }


def _against_majority(method: TrainedMethod, frequent: int) -> dict[str, Any]:
    always = method.predictions.label == frequent  # where the most frequent class would be right
    return {
        "majority": str(method.predictions.classes[frequent]),
        "majority_top1": float(always.mean()),
        "majority_p_value": metrics.mcnemar(method.predictions.correct, always),
    }


def _spent(card: Mapping[str, Any], spent: Mapping[str, float], trial: float | None) -> dict[str, Any]:
    """What the method cost, beside one more run of the baseline."""
    extraction = _extraction_seconds(card, spent)
    return {
        "seconds": card["seconds"],
        "extraction_seconds": extraction,
        "trials": _trials(card),
        "images_seen": card.get("images_seen", 0),
        "trainable_parameters": card["trainable_parameters"],
        "price": price_of(card, _seconds_per_trial(card), extraction, trial),
    }


def _differences(
    project: Project,
    methods: Sequence[TrainedMethod],
    found: Sequence[Mapping[str, Bootstrapped]],
    baseline: int,
) -> dict[str, dict[str, Any]]:
    """How every other method differs from the baseline: `DIFFERENCES` by name."""
    settings, reference = project.settings.compare, methods[baseline].predictions
    others = [number for number in range(len(methods)) if number != baseline]
    right = [methods[number].predictions.correct for number in others]
    exact = metrics.holm([metrics.mcnemar(each, reference.correct) for each in right])
    losses = [metrics.log_losses(method.predictions.proba, reference.label) for method in methods]
    permuted = [1.0] * len(others)
    if others:
        columns = np.stack([losses[number] - losses[baseline] for number in others], axis=1)
        permuted = metrics.permutation(columns, resamples=settings.resamples, seed=settings.seed)
    differences = {}
    for number, each, *p_values in zip(others, right, exact, metrics.holm(permuted), strict=True):
        top1 = (found[number]["top1"] - found[baseline]["top1"]).interval
        log_loss = (found[number]["log_loss"] - found[baseline]["log_loss"]).interval
        counts = int((each & ~reference.correct).sum()), int((~each & reference.correct).sum())
        values = (*top1, p_values[0], *counts, *log_loss, p_values[1])
        differences[methods[number].name] = dict(zip(DIFFERENCES, values, strict=True))
    return differences


def _identities(methods: Sequence[TrainedMethod]) -> dict[str, str]:
    """Which cards the numbers are of, by method (see `pipeline.records.since`)."""
    cards = {method.name: method.card for method in methods}
    members = {method.name: method.card.get("members", [method.name]) for method in methods}
    return {name: identity([cards[member] for member in members[name]]) for name in cards}


def _frequent(manifest: Manifest) -> int:
    """The most frequent class of the train rows."""
    return int(np.bincount(manifest.labels[manifest.where("train")]).argmax())


def _missed(method: TrainedMethod) -> list[str]:
    """Classes that have test images, none of which the method is right about."""
    found = method.predictions
    missed = np.setdiff1d(found.label, found.label[found.correct])
    return [str(name) for name in found.classes[missed]]


def _agreement(methods: Sequence[TrainedMethod]) -> dict[str, Any]:
    """On what share of the test images two methods give the same answer."""
    answers = np.stack([method.predictions.proba.argmax(axis=1) for method in methods])
    share = np.round(metrics.agreement(answers), DECIMALS)
    return {"methods": [method.name for method in methods], "share": share.tolist()}


def _per_class(methods: Sequence[TrainedMethod]) -> list[tuple[Any, ...]]:
    """Rows of `PER_CLASS`."""
    rows = []
    for method in methods:
        p = method.predictions
        scores = metrics.per_class(metrics.confusion(p.proba.argmax(axis=1), p.label, len(p.classes)))
        columns = [scores["images"], *(np.round(scores[name], DECIMALS) for name in PER_CLASS[3:])]
        names = p.classes.tolist()
        rows += [(method.name, names[k], *(values[k] for values in columns)) for k in in_order(names)]
    return rows


def _trials(card: Mapping[str, Any]) -> int:
    """Points of a head's grid that were tried, or runs of a baseline."""
    return int(card.get("trials", card.get("runs", 1)))


def _seconds_per_trial(card: Mapping[str, Any]) -> float:
    return float(card["seconds"]) / _trials(card)


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
        "trainable_parameters": line.trainable_parameters,
        **line.price,
    }
