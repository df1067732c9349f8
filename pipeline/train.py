"""Tune a head on every layer's store; save it and its predictions of the test rows.

    python cli.py train --head logreg

Per method: `artifacts/heads/<head>/<layer>.<head>/` with `head.safetensors`,
`card.json`, `tuning.csv` (all that was tried) and `predictions.npz`.
"""

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import BadInput
from features.files import remove, written_aside
from features.manifest import Manifest, write_csv
from features.network import Layer
from features.store import FeatureStore
from pipeline.heads import HEADS
from pipeline.predictions import Predictions
from pipeline.project import Project, read_json
from pipeline.tuning import Rows, Tuned, tune


def train(project: Project, head: str) -> None:
    """Train one head on all layers.

    Raises
    ------
    BadInput
        For a head that `heads:` does not name; where `extract` has to run first.
    """
    heads = project.settings.heads.named()
    if head not in heads:
        raise BadInput(f"heads: there is no {head!r} in params.yaml (there are {', '.join(heads)})")
    manifest = project.read_manifest()
    layers = (None,) if head == "majority" else project.layers
    with project.writing(project.head_folder(head)) as scratch:
        for layer in layers:
            _train_on(project, head, layer, manifest, scratch)
        _sweep(project, head, layers)


def method_name(head: str, layer: Layer | None) -> str:
    """`pool5.logreg`; a bare `majority`, which needs no layer."""
    return f"{layer.name}.{head}" if layer else head


def method_folder(project: Project, head: str, layer: Layer | None) -> Path:
    """Where a method's card and predictions lie."""
    return project.head_folder(head) / method_name(head, layer).replace(":", "-")


def inputs(project: Project, head: str, layer: Layer | None, manifest: Manifest) -> dict[str, Any]:
    """Everything a trained head depends on: it is current while this is unchanged."""
    grid = project.settings.heads.named()[head].model_dump(mode="json")
    fingerprint = project.store(layer, manifest).attributes["fingerprint"] if layer else None
    return {
        "manifest": manifest.digest,
        "features": fingerprint,
        "grid": grid,
        "tuning": project.settings.tuning.model_dump(mode="json") if layer else None,
    }


def _train_on(project: Project, head: str, layer: Layer | None, manifest: Manifest, scratch: Path) -> None:
    name, folder = method_name(head, layer), method_folder(project, head, layer)
    depends = inputs(project, head, layer, manifest)
    if (folder / "card.json").exists() and read_json(folder / "card.json").get("inputs") == depends:
        print(f"train: {name} current, nothing to do", flush=True)
        return
    store = project.store(layer, manifest) if layer else None
    rows = {split: _rows(store, manifest, split) for split in ("train", "validation")}
    normalisations = project.settings.tuning.normalisation if layer else ("none",)
    grid = project.settings.heads.named()[head].model_dump()
    started = time.monotonic()
    tuned = tune(HEADS[head], grid, normalisations, rows["train"], rows["validation"], manifest.classes)
    seconds = time.monotonic() - started
    proba = tuned.classifier.predict_proba(_rows(store, manifest, "test").X)
    card = {
        "method": name,
        "layer": layer.name if layer else None,
        "weights": store.attributes["weights"] if store else "none",
        "views": rows["train"].views,
        "inputs": depends,
        "chosen": {"normalisation": tuned.chosen.normalisation, **tuned.chosen.point},
        "at_edge_of_grid": tuned.edges,
        "validation": {"top1": tuned.chosen.top1, "log_loss": tuned.chosen.log_loss},
        "converged": tuned.chosen.converged,
        "trials": len(tuned.trials),
        "trials_not_converged": sum(not trial.converged for trial in tuned.trials),
        "seconds": round(seconds, 3),
        "trainable_parameters": tuned.classifier.head.trained_parameters,
        "versions": {package: version(package) for package in ("scikit-learn", "numpy", "scipy")},
    }
    with written_aside(folder, scratch=scratch) as aside:
        aside.mkdir()
        tuned.classifier.save(aside, card)
        _write_trials(aside / "tuning.csv", tuned)
        Predictions.of_test(manifest, proba).write(aside / "predictions.npz")
    _say(name, card, tuned)


def _rows(store: FeatureStore | None, manifest: Manifest, split: str) -> Rows:
    """Read one split's features, of all views; a head without a layer sees a single constant."""
    numbers = manifest.where(split)
    X = store.rows(numbers) if store else np.zeros((len(numbers), 1), np.float32)
    return Rows(X, manifest.labels[numbers])


def _write_trials(path: Path, tuned: Tuned) -> None:
    names = list(tuned.chosen.point)
    columns = ("normalisation", *names, "validation_top1", "validation_log_loss", "converged")
    rows = [
        (
            trial.normalisation,
            *(trial.point[name] for name in names),
            trial.top1,
            trial.log_loss,
            trial.converged,
        )
        for trial in tuned.trials
    ]
    write_csv(path, columns, rows)


def _say(name: str, card: dict[str, Any], tuned: Tuned) -> None:
    chosen = ", ".join(f"{key} {value}" for key, value in card["chosen"].items())
    notes = ""
    if card["weights"] in ("untrained", "random"):
        notes += f" [{card['weights']} weights]"
    if not tuned.chosen.converged:
        notes += " [NOT CONVERGED]"
    if tuned.edges:
        notes += f" [at the edge of its grid: {', '.join(tuned.edges)}]"
    print(
        f"train: {name} validation top-1 {tuned.chosen.top1:.4f} with {chosen} "
        f"({len(tuned.trials)} tried, {card['seconds']:.1f} s){notes}",
        flush=True,
    )


def _sweep(project: Project, head: str, layers: tuple[Layer | None, ...]) -> None:
    """Remove what was trained on layers that the settings no longer name."""
    wanted = {method_folder(project, head, layer) for layer in layers}
    for folder in project.head_folder(head).iterdir():
        if folder not in wanted:
            remove(folder)
