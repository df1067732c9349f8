"""Learning curves: what more train images would buy, for every head, from the published stores.

    python cli.py curve
    python cli.py curve --head logreg --layer pool5 --draws 10

Writes `artifacts/studies/curve.json` (everything) and `artifacts/studies/curve.svg` (the picture), and prints
a table. How accuracy is measured stands in `pipeline.studies.learning_curve`, how it is extrapolated
in `pipeline.studies.outlook`.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from features.errors import BadInput
from features.files import write_json, written_aside
from features.manifest import Manifest
from features.network import parse_layer
from features.store import FeatureStore
from pipeline.heads import HEADS
from pipeline.plots import svg
from pipeline.project import Project
from pipeline.records.heads import MAJORITY
from pipeline.statistics import metrics
from pipeline.statistics.ranking import simplicity
from pipeline.studies.curve_plots import learning_curves
from pipeline.studies.curve_results import show
from pipeline.studies.learning_curve import Curve, Design, measure
from pipeline.studies.outlook import Outlook
from pipeline.tuning.folds import rows_of


@dataclass(frozen=True)
class CurvePlan:
    """What is to be measured, once everything that a user can get wrong was checked."""

    manifest: Manifest
    heads: tuple[str, ...]
    stores: dict[str, FeatureStore]  # by layer
    design: Design
    seed: int


def curve(
    project: Project, heads: Sequence[str] = (), layers: Sequence[str] = (), *, draws: int = 5, seed: int = 0
) -> list[Curve]:
    """Measure learning curves, write them and print them.

    Parameters
    ----------
    heads, layers : names; none for all of the settings
    draws : int
        Random orders in which each class's train images are taken, at least 2.
    seed : int
        Of these orders, and of the halves of the validation rows.

    Raises
    ------
    BadInput
        For a head or layer that there is not; where `prepare` or `extract` has to run first.
    """
    plan = _plan(project, heads, layers, draws, seed)
    path = project.studies / "curve.json"
    with project.writing(path) as scratch:
        curves = [each for layer in (*plan.stores, None) for each in _on_layer(project, plan, layer)]
        outlooks = {
            each.method: Outlook.of(each.images, each.accuracy, plan.design.validation_images)
            for each in best_of_layers(curves)
        }
        n_classes = len(plan.manifest.classes)
        picture = svg(learning_curves(curves, outlooks, n_classes, plan.design.validation_images))
        with written_aside(path.with_suffix(".svg"), scratch=scratch) as aside:
            aside.write_text(picture, "utf-8")
        write_json(path, _record(project, plan, curves, outlooks), scratch=scratch)
    show(curves, outlooks, plan.design)
    print(f"Picture: {path.with_suffix('.svg')}")
    return curves


def best_of_layers(curves: Sequence[Curve]) -> list[Curve]:
    """The best head of each layer with all train images, the best of these first."""
    best: dict[str, Curve] = {}
    for each in sorted(curves, key=lambda each: (-each.sampled.value, simplicity(each.method))):
        if each.layer:
            best.setdefault(each.layer, each)
    return list(best.values())


def _plan(project: Project, heads: Sequence[str], layers: Sequence[str], draws: int, seed: int) -> CurvePlan:
    known = tuple(project.settings.heads.named())
    for name in heads:
        if name not in known:
            raise BadInput(
                f"--head: there is no {name!r} in heads: of params.yaml (there are {', '.join(known)})"
            )
    if draws < 2:
        raise BadInput(
            f"--draws should be at least 2, since the intervals come from their spread (received {draws})"
        )
    if not 0 <= seed < 2**32:
        raise BadInput(f"--seed should be from 0 to {2**32 - 1} (received {seed})")
    manifest, network = project.read_manifest(), project.settings.weights.network
    chosen = [parse_layer(name, network) for name in dict.fromkeys(layers)] or project.layers
    stores = {layer.name: project.store(layer, manifest) for layer in chosen}
    train, validation = (rows_of(None, manifest, (split,)) for split in ("train", "validation"))
    images = len(train.y) + len(validation.y)
    for name, store in stores.items():
        _check_memory(name, images * math.prod(store.features.shape[1:]), project.settings.tuning.memory_gb)
    design = Design.draw(train.y, validation.y, validation.unit, draws=draws, seed=seed)
    return CurvePlan(manifest, tuple(dict.fromkeys(heads)) or known, stores, design, seed)


def _check_memory(layer: str, numbers: int, memory_gb: float) -> None:
    size = 4 * numbers / 1e9  # float32
    if size > memory_gb:
        raise BadInput(
            f"{layer}: a curve needs train and validation rows in memory, and these take {size:.1f} GB, "
            f"more than tuning.memory_gb = {memory_gb:g}; raise that, or choose smaller layers with --layer"
        )


def _on_layer(project: Project, plan: CurvePlan, layer: str | None) -> Iterator[Curve]:
    """Measure every head of one layer, or with None those that need no layer."""
    heads = [head for head in plan.heads if (head == MAJORITY) == (layer is None)]
    store = plan.stores[layer] if layer else None
    rows = [rows_of(store, plan.manifest, (split,)) for split in ("train", "validation")] if heads else []
    for head in heads:
        grid = project.settings.heads.named()[head].model_dump()
        normalisations = project.settings.tuning.normalisation if layer else ("none",)
        started = time.monotonic()
        by = project.settings.tuning.score
        accuracy, right = measure(HEADS[head], grid, normalisations, rows[0], rows[1], plan.design, by)
        seconds = round(time.monotonic() - started, 3)
        weights = store.attributes["weights"] if store else "none"
        sampled = metrics.accuracy(right)
        measured = Curve(layer, head, weights, plan.design.images, accuracy, sampled, seconds)
        print(
            f"curve: {measured.method} {100 * sampled.value:.1f} % with all images ({seconds:.1f} s)",
            flush=True,
        )
        yield measured


def _record(
    project: Project, plan: CurvePlan, curves: Sequence[Curve], outlooks: Mapping[str, Outlook]
) -> dict[str, Any]:
    """Everything, and what it came from."""
    named = project.settings.heads.named()
    return {
        "manifest": plan.manifest.digest,
        "features": {name: store.attributes["fingerprint"] for name, store in plan.stores.items()},
        "weights": {name: store.attributes["weights"] for name, store in plan.stores.items()},
        "tuning": project.settings.tuning.model_dump(mode="json"),
        "grids": {head: named[head].model_dump(mode="json") for head in plan.heads},
        "seed": plan.seed,
        "draws": plan.design.draws,
        "classes": len(plan.manifest.classes),
        "validation_images": plan.design.validation_images,
        "images_per_class": plan.design.sizes,
        "train_images": plan.design.images,
        "curves": [_curve_record(each) for each in curves],
        "twice_the_images": {
            method: {
                "error": outlook.error,
                "gained_from_half": outlook.gained,
                "error_with_twice": outlook.doubled and outlook.doubled._asdict(),
            }
            for method, outlook in outlooks.items()
        },
    }


def _curve_record(each: Curve) -> dict[str, Any]:
    return {
        "method": each.method,
        "layer": each.layer,
        "head": each.head,
        "weights": each.weights,
        "accuracy": each.accuracy,
        "mean": [interval.value for interval in each.intervals],
        "low": [interval.low for interval in each.intervals],
        "high": [interval.high for interval in each.intervals],
        "all_images": each.sampled._asdict(),
        "seconds": each.seconds,
    }
