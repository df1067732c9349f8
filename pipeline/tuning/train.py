"""Tune a head on every layer's store; save it and its predictions of the test rows.

    python cli.py train --head logreg

Per method: `artifacts/heads/<head>/<layer>.<head>/` with `head.safetensors`, `card.json`,
`README.md` (a model card), `tuning.csv` (all that was tried), `predictions.npz` of the test rows
and, where a head was fitted without them, `validation.npz`; `seeds.json` where `compare.seeds`
asks for several random starts.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from features import immutable
from features.errors import BadInput, Damaged
from features.files import remove, written_aside
from features.manifest import Manifest, write_csv
from features.network import Layer
from features.probe import LIBRARY
from features.store import FeatureStore
from features.weights import UNTRAINED
from pipeline.heads import HEADS
from pipeline.meter import Meter
from pipeline.project import Project
from pipeline.records.cards import CARD
from pipeline.records.heads import SCORES, chosen_in_words, inputs, layers_of, method_folder, method_name
from pipeline.records.predictions import Predictions
from pipeline.records.seeds import Seed, write_seeds
from pipeline.tuning.folds import CrossValidation, Fold, rows_of
from pipeline.tuning.model_card import model_card
from pipeline.tuning.search import Tuned, nested, tune


def train(project: Project, head: str) -> None:
    """Train one head on all layers; of one that is switched off, what was trained is removed.

    Raises
    ------
    BadInput
        For a head that `heads:` does not name; where `extract` has to run first.
    """
    heads = project.settings.heads.named()
    if head in project.settings.heads.switched_off():
        _switch_off(project, head)
        return
    if head not in heads:
        raise BadInput(f"heads: there is no {head!r} in params.yaml (there are {', '.join(heads)})")
    manifest = project.read_manifest()
    layers = layers_of(project, head)
    with project.writing(project.head_folder(head)) as scratch:
        for layer in layers:
            _train_on(project, head, layer, manifest, scratch)
        _sweep(project, head, layers)


def _train_on(project: Project, head: str, layer: Layer | None, manifest: Manifest, scratch: Path) -> None:
    name, folder = method_name(head, layer), method_folder(project, head, layer)
    store = project.store(layer, manifest) if layer else None
    depends = inputs(project, head, manifest, store.attributes["fingerprint"] if store else None)
    if _is_current(folder, depends):
        print(f"train: {name} current, nothing to do", flush=True)
        return
    started = time.monotonic()
    grid = project.settings.heads.named()[head].model_dump()
    with Meter() as meter:
        tuned, unseen = _tuned(project, head, grid, store, manifest)
    seconds = time.monotonic() - started
    classifier = tuned.classifier
    card = {
        "method": name,
        "layer": layer.name if layer else None,
        "weights": store.attributes["weights"] if store else "none",
        "views": store.features.shape[1] if store and store.features.ndim == 3 else 1,
        "numerics": store.attributes["numerics"] if store else "",
        "library": {key: store.attributes["preprocessing"][key] for key in LIBRARY} if store else {},
        "inputs": depends,
        "fitted_on": [split for split in ("train", "validation") if split not in unseen],
        "chosen": {"normalisation": tuned.chosen.normalisation, **tuned.chosen.point},
        "at_edge_of_grid": list(tuned.edges),
        "validation": {
            "top1": tuned.chosen.top1,
            "log_loss": tuned.chosen.log_loss,
            "score": tuned.chosen.score,
            "standard_error": tuned.chosen.error,
        },
        "nested_top1": tuned.nested,
        "converged": classifier.head.converged_,
        "trials": len(tuned.trials),
        "trials_not_converged": sum(not trial.converged for trial in tuned.trials),
        "seconds": round(seconds, 3),
        "cost": meter.cost,
        "trainable_parameters": classifier.head.trained_parameters,
        "versions": {package: version(package) for package in ("scikit-learn", "numpy", "scipy", "torch")},
    }
    with written_aside(folder, scratch=scratch) as aside:
        aside.mkdir()
        _write_trials(aside / "tuning.csv", tuned)
        for split, file in (("test", "predictions.npz"), ("validation", "validation.npz")):
            if split in unseen:
                rows = rows_of(store, manifest, (split,))
                Predictions.of(manifest, split, classifier.predict_proba(rows.X)).write(aside / file)
        if depends["seeds"] > 1:
            write_seeds(aside, _seeds(project, head, store, manifest, tuned))
        classifier.save(aside, card)  # which seals all of them
        text = model_card(classifier.card(card), manifest, store.attributes if store else None)
        (aside / "README.md").write_text(text, "utf-8")  # which people may edit
    _say(name, card, tuned)


def _is_current(folder: Path, depends: Mapping[str, Any]) -> bool:
    """Whether what was trained there depends on this; a damaged card is made anew."""
    try:
        return bool(immutable.read_card(folder, CARD)["inputs"] == depends)
    except Damaged:
        return False


def _tuned(
    project: Project, head: str, grid: dict[str, Any], store: FeatureStore | None, manifest: Manifest
) -> tuple[Tuned, tuple[str, ...]]:
    """Tune as the settings say; also which splits the head was not fitted on."""
    settings, refit = project.settings.tuning, project.settings.compare.refit
    normalisations = settings.normalisation if store else ("none",)
    what = (HEADS[head], grid, normalisations)
    how: dict[str, Any] = {"by": settings.score, "rule": settings.rule}
    every = ("train", "validation")
    if settings.protocol == "validation" or store is None:
        train, validation = (rows_of(store, manifest, (split,), settings.memory_gb) for split in every)
        everything = rows_of(store, manifest, every, settings.memory_gb) if refit else None
        folds = [Fold(train, validation)]
        tuned = tune(*what, folds, manifest.classes, **how, refit=everything)
        return tuned, ("test",) if refit else ("validation", "test")
    everything = rows_of(store, manifest, every, settings.memory_gb)
    cut = CrossValidation(everything, settings.folds, settings.repeats, settings.seed)
    (cut.check_nested if settings.protocol == "nested" else cut.check)(manifest.classes)
    tuned = tune(*what, cut, manifest.classes, **how, refit=everything)
    if settings.protocol == "nested":
        tuned = replace(tuned, nested=tuple(nested(*what, cut, manifest.classes, **how)))
    return tuned, ("test",)


def _seeds(
    project: Project, head: str, store: FeatureStore | None, manifest: Manifest, first: Tuned
) -> list[Seed]:
    """The head as it was tuned from its own seed, and tuned anew from the seeds after it."""
    grid = project.settings.heads.named()[head].model_dump()
    found: list[Seed] = []
    test = rows_of(store, manifest, ("test",))
    for seed in range(grid["seed"], grid["seed"] + project.settings.compare.seeds):
        tuned = _tuned(project, head, grid | {"seed": seed}, store, manifest)[0] if found else first
        right = tuned.classifier.predict_proba(test.X).argmax(axis=1) == test.y
        found.append(Seed(seed, tuned.chosen.top1, tuned.chosen.score, float(right.mean())))
    return found


def _write_trials(path: Path, tuned: Tuned) -> None:
    names = list(tuned.chosen.point)
    columns = ("normalisation", *names, *SCORES)
    rows = [
        (
            trial.normalisation,
            *(trial.point[name] for name in names),
            trial.top1,
            trial.log_loss,
            trial.score,
            trial.converged,
        )
        for trial in tuned.trials
    ]
    write_csv(path, columns, rows)


def _say(name: str, card: dict[str, Any], tuned: Tuned) -> None:
    chosen = chosen_in_words(card["chosen"])
    notes = ""
    if card["weights"] in UNTRAINED:
        notes += f" [{card['weights']} weights]"
    if not tuned.chosen.converged:
        notes += " [NOT CONVERGED]"
    if tuned.edges:
        notes += f" [at the edge of its grid: {', '.join(tuned.edges)}]"
    if tuned.nested:
        notes += f" [nested: {np.mean(tuned.nested):.4f}]"
    print(
        f"train: {name} validation top-1 {tuned.chosen.top1:.4f} with {chosen} "
        f"({len(tuned.trials)} tried, {card['seconds']:.1f} s){notes}",
        flush=True,
    )


def _switch_off(project: Project, head: str) -> None:
    """Leave a folder with a word in it, which DVC asks of every head that params.yaml names."""
    why = f"{head} is switched off (heads.{head} is null)"
    with (
        project.writing(project.head_folder(head)) as scratch,
        written_aside(project.head_folder(head), scratch=scratch) as aside,
    ):
        aside.mkdir()
        (aside / "README.md").write_text(f"{why}.\n", "utf-8")
    print(f"train: {why}", flush=True)


def _sweep(project: Project, head: str, layers: tuple[Layer | None, ...]) -> None:
    """Remove what was trained on layers that the settings no longer name."""
    wanted = {method_folder(project, head, layer) for layer in layers}
    for folder in project.head_folder(head).iterdir():
        if folder not in wanted:
            remove(folder)
