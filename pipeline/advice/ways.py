"""The ways of using the network on these images: what accuracy to expect of each, at what price.

for way in ways(project, manifest, known):
    way.method, way.low, way.high, way.source, way.price.total

An accuracy is measured on validation rows where the method is trained, estimated by a probe for
heads that are not, and otherwise what published tables of other networks promise, put on top.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from features.errors import BadInput
from features.manifest import Manifest
from features.network import Layer, parse_layer
from pipeline.advice.evidence import Evidence, Sample
from pipeline.advice.prices import Rates, WayPrice, extraction_seconds, finished, price
from pipeline.advice.scenario import FULL, HEAD, PARTIAL, SCRATCH, Scenario
from pipeline.finetuning.plan import Plan
from pipeline.project import Project
from pipeline.records.cards import BASELINES
from pipeline.records.heads import MAJORITY, TrainedHeads
from pipeline.statistics.metrics import Interval, accuracy

TUNED = ("finetune.dense", PARTIAL, FULL, SCRATCH)
CONTROLS = ("knn", MAJORITY)
MEASURED, PROBED, PUBLISHED, UNKNOWN = "measured", "probe", "published", "–"  # where accuracies are from


@dataclass(frozen=True)
class Way:
    """One way of using the network.

    Attributes
    ----------
    method : str
        As comparisons call it: `pool5.logreg`, `finetune.full`.
    role : str
        `head`, `control` (a head without a network), or the method's name.
    weights : str
        What it starts from: `imagenet`, `untrained`, …; `none` for no network, and from scratch.
    value, low, high : float or None
        Validation accuracy expected: the best guess, where there is one, and its range.
    source : str
        Where the accuracy is from: `measured` on validation images; `probe`, the linear probe;
        `published`, what other backbones gained over a head, on top of the head here; or nowhere.
    """

    method: str
    role: str
    weights: str
    value: float | None
    low: float | None
    high: float | None
    source: str
    price: WayPrice


class Known(NamedTuple):
    """What is known by then: the sample, all layers' scores, the best trained layer's, the scenario."""

    drawn: Sample
    layers: Sequence[Evidence]
    best: Evidence
    scenario: Scenario
    rates: Rates


def ways(project: Project, manifest: Manifest, known: Known) -> list[Way]:
    """List the head, the control where there is one, and the fine-tuned methods."""
    network = project.settings.weights.network
    trained = [each for each in known.layers if each.trained]
    head = _head(project, manifest, known, HEAD, trained, parse_layer(known.best.layer, network))
    found = [head]
    pixels = [each for each in known.layers if each.weights == "none"]
    if pixels:
        found.append(_head(project, manifest, known, "control", pixels, parse_layer("pixels", network)))
    return [*found, *_tuned(project, manifest, known, head.value or known.best.best)]


def _head(
    project: Project,
    manifest: Manifest,
    known: Known,
    role: str,
    layers: Sequence[Evidence],
    layer: Layer,
) -> Way:
    """Take the best head that is trained on these layers, else what a probe says of one of them."""
    trained = TrainedHeads(project, manifest)
    cards = [card for each in layers for card in _cards(project, trained, each.layer)]
    if cards:
        card = max(cards, key=lambda card: (card["validation"]["top1"], -card["validation"]["log_loss"]))
        once = extraction_seconds(project, card["layer"]) if card["weights"] != "none" else 0.0
        cost = WayPrice(once, None, card["seconds"], "measured")
        measured = _of(card["validation"]["top1"], _scored(project, manifest))
        return Way(card["method"], role, card["weights"], *measured, MEASURED, cost)
    of_layer = next(each for each in layers if each.layer == layer.name)
    heads = [name for name in project.settings.heads.named() if name not in CONTROLS]
    name = "logreg" if "logreg" in heads or not heads else heads[0]
    once = extraction_seconds(project, layer.name) if layer.needs_network else 0.0
    return Way(
        f"{layer.name}.{name}", role, of_layer.weights, *of_layer.probe,
        PROBED,
        WayPrice(once, None, None, "not trained yet"),
    )  # fmt: skip


def _cards(project: Project, trained: TrainedHeads, layer: str) -> Iterator[dict[str, Any]]:
    """Cards of the heads that are trained on a layer as it is now."""
    for head in project.settings.heads.named():
        if head == MAJORITY:
            continue
        try:
            yield trained.card(head, parse_layer(layer, project.settings.weights.network))
        except BadInput:
            continue


def _scored(project: Project, manifest: Manifest) -> int:
    """How many images a card's validation accuracy is a share of."""
    held = len(manifest.where("validation"))
    folds = project.settings.tuning.protocol != "validation"
    return held + len(manifest.where("train")) if folds else held


def _of(top1: float, images: int) -> Interval:
    """An accuracy that is a share of so many images, with its interval."""
    return accuracy(np.arange(images) < round(top1 * images))


def _tuned(project: Project, manifest: Manifest, known: Known, frozen: float) -> Iterator[Way]:
    """Fine-tuned methods; `frozen` is the accuracy of the head that published gains are put upon."""
    named = [f"{BASELINES}{mode}" for mode in project.settings.finetune.modes]
    for method in dict.fromkeys([*TUNED, *named]):
        top = Plan(project, manifest, method.removeprefix(BASELINES)).top
        label = "none" if method == SCRATCH else project.read_weights().label(top)
        cost = price(method, project, manifest, known.rates)
        run = finished(project, manifest, method.removeprefix(BASELINES)) if method in named else None
        if run:
            measured = _of(run["validation"]["top1"], len(manifest.where("validation")))
            yield Way(method, method, label, *measured, MEASURED, cost)
            continue
        gain = known.scenario.published(method)
        low = high = None
        if gain:
            low, high = (max(0.0, 1 - (1 - frozen) * (1 - share)) for share in gain.removed)
        yield Way(method, method, label, None, low, high, PUBLISHED if gain else UNKNOWN, cost)
