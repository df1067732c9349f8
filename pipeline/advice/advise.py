"""Advice, from cached features alone and in seconds: which way of using the network suits these images.

    python cli.py advise

Looks at every layer's features on a sample of train and validation rows, puts the data set into
one of the four scenarios of transfer learning by declared thresholds, and says what the classic
rule makes of it, what is advised here and why, and what each way would bring and cost. Where a
comparison is there, also whether the advice was right. Trains nothing. Writes
`artifacts/studies/advice.json`.

A heuristic: the scores it rests on are validated for choosing among networks, none of them for
choosing between a head and fine-tuning on one network (see `docs/advice.md`).
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from features.errors import NoAdvice
from features.files import write_json
from features.manifest import Manifest
from features.store import FeatureStore
from pipeline.advice.advice import Advice, put_together
from pipeline.advice.evidence import SEED, Evidence
from pipeline.advice.hindsight import Hindsight
from pipeline.advice.scenario import FULL, LARGE, SCRATCH, Scenario
from pipeline.advice.table import show
from pipeline.advice.ways import Way
from pipeline.project import Project
from pipeline.records.comparison import Line

DECIMALS = 4  # of what is written: far below any sampling error here, and above rounding


def advise(project: Project) -> Advice | None:
    """Write and print the advice; None where there can be none, which is written and said, too.

    Raises
    ------
    BadInput
        Where `extract` has to run first.
    """
    manifest = project.read_manifest()
    stores = {layer.name: project.store(layer, manifest) for layer in project.layers}
    path = project.studies / "advice.json"
    with project.writing(path) as scratch:
        try:
            advice = put_together(project, manifest, stores)
        except NoAdvice as reason:
            write_json(path, {"manifest": manifest.digest, "none": str(reason)}, scratch=scratch)
            print(f"advise: {reason}")
            return None
        write_json(path, _record(advice, manifest, stores), scratch=scratch)
    show(advice)
    print(f"Everything: {path}")
    return advice


def _record(advice: Advice, manifest: Manifest, stores: Mapping[str, FeatureStore]) -> dict[str, Any]:
    """Everything, and what it came from; seconds stand in `prices` and `rates` alone."""
    found = advice.scenario
    record = {
        "manifest": manifest.digest,
        "features": {name: store.attributes["fingerprint"] for name, store in stores.items()},
        "weights": {name: store.attributes["weights"] for name, store in stores.items()},
        "sample": {"seed": SEED, "train": len(advice.drawn.train), "validation": len(advice.drawn.held)},
        "chance": advice.chance,
        "scores": {each.layer: _scores(each) for each in advice.layers},
        "best_trained_layer": advice.best.layer,
        "train_images_per_class": {"mean": advice.per_class[0], "least": advice.per_class[1]},
        "large_from": LARGE,
        "similarity": [{**asdict(check), "passed": check.passed} for check in advice.checks],
        "scenario": {"large": found.large, "similar": found.similar},
        "classic": {"says": found.says, "method": advice.method(found.classic)},
        "advised": {"method": advice.method(found.advised), "reasons": list(found.reasons)},
        "published": {way: _gain(found, way) for way in (FULL, SCRATCH)},
        "expected": {way.method: _expected(way) for way in advice.ways},
        "comparison": _judgement(advice.hindsight),
        "prices": {way.method: asdict(way.price) for way in advice.ways},
        "rates": asdict(advice.rates),
    }
    rounded: dict[str, Any] = _rounded(record)
    return rounded


def _scores(each: Evidence) -> dict[str, Any]:
    return {
        "weights": each.weights,
        "width": each.width,
        "nearest_5": each.five,
        "probe": each.probe._asdict(),
        "logme": each.logme,
    }


def _expected(way: Way) -> dict[str, Any]:
    kept = ("role", "weights", "value", "low", "high", "source")
    return {name: getattr(way, name) for name in kept}


def _gain(found: Scenario, way: str) -> dict[str, Any] | None:
    gain = found.published(way)
    return gain and gain._asdict()


def _judgement(hindsight: Hindsight | str) -> dict[str, Any]:
    if isinstance(hindsight, str):
        return {"verdict": None, "why": hindsight}
    return {
        "verdict": hindsight.verdict,
        "kind": hindsight.kind,
        "test_images": hindsight.test_images,
        "advised": hindsight.advised and _line(hindsight.advised),
        "rivals": {
            name: {**_line(rival.line), "difference": rival.difference and rival.difference._asdict()}
            for name, rival in hindsight.rivals.items()
        },
    }


def _line(line: Line) -> dict[str, Any]:
    return {name: getattr(line, name) for name in ("method", "weights", "validation_top1", "top1")}


def _rounded(content: Any) -> Any:
    if isinstance(content, float):
        return round(content, DECIMALS)
    if isinstance(content, dict):
        return {name: _rounded(value) for name, value in content.items()}
    return [_rounded(value) for value in content] if isinstance(content, list | tuple) else content
