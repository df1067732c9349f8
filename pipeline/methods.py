"""What there is to compare: the trained heads, their ensemble, the fine-tuned baselines.

for method in methods_of(project, manifest):
    method.name, method.predictions.proba
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from features.errors import BadInput
from features.manifest import Manifest
from features.network import Layer
from pipeline import finetune, meter, seeds, statistics
from pipeline.lines import ENSEMBLE, TRUST
from pipeline.made_with import Other, differing, in_words, or_back
from pipeline.predictions import Predictions
from pipeline.project import Project, read_json
from pipeline.ranking import rank_of_methods
from pipeline.scores import score
from pipeline.train import inputs, method_folder, method_name, read_trials


@dataclass(frozen=True)
class Method:
    """A trained method, as it stands in its folder."""

    name: str  # pool5.logreg, ensemble, finetune.full, majority
    card: Mapping[str, Any]
    predictions: Predictions
    validation: Predictions | None = None  # of rows that the method was not fitted on
    tried: Sequence[Mapping[str, str]] = ()  # rows of its `tuning.csv`
    starts: Sequence[seeds.Start] = ()  # this one and other random starts, where there are several


def methods_of(project: Project, manifest: Manifest) -> list[Method]:
    """Collect every method that the settings name: heads, their ensemble, baselines.

    Raises
    ------
    BadInput
        Where one has to be trained first, or was trained on something else.
    """
    heads = _heads(project, manifest)
    return [*heads, *_ensemble(project, heads), *_baselines(project, manifest)]


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
            starts = seeds.read(folder)
            methods.append(Method(method_name(head, layer), card, test, validation, tried, starts))
    return methods


def trained_card(project: Project, head: str, layer: Layer | None, manifest: Manifest) -> dict[str, Any]:
    """Read a head's card; BadInput where it is not trained, or was trained on something else."""
    folder, name = method_folder(project, head, layer), method_name(head, layer)
    if not (folder / "card.json").exists():
        raise BadInput(f"{name} is not trained; run `python cli.py train --head {head}` first")
    card = read_json(folder / "card.json")
    if card["inputs"] != (asked := inputs(project, head, layer, manifest)):
        others = _others(card["inputs"], asked, f"heads.{head}", "grid")
        raise BadInput(_trained_otherwise(name, others, f"python cli.py train --head {head}"))
    return card


def _others(made: Mapping[str, Any], asked: Mapping[str, Any], section: str, recorded: str) -> list[Other]:
    """Which parameters differ between a card's inputs and those of now; what else differs is no parameter."""

    def parameters(inputs: Mapping[str, Any]) -> dict[str, Any]:
        shared = {key: inputs[key] for key in ("refit", "seeds") if key in inputs}
        return {"compare": shared, "tuning": inputs.get("tuning") or {}, section: inputs[recorded]}

    return differing(parameters(made), parameters(asked))


def _trained_otherwise(name: str, others: Sequence[Other], command: str) -> str:
    """Say with which settings, where these are what differs."""
    words = in_words(others) if others else "other images or features, or by an older version"
    return f"{name} was trained with {words}; {or_back(command, others)}"


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
        "members": [member.name for member in members],
        "weights": max((card["weights"] for card in cards), key=TRUST.index),
        "validation": _validation_of(members, project.settings.tuning.score),
        "chosen": {"mean of": " and ".join(member.name for member in members)},
        "converged": all(card["converged"] for card in cards),
        **{key: sum(card[key] for card in cards) for key in ("seconds", "trials", "trainable_parameters")},
        "cost": meter.together([card.get("cost", meter.UNKNOWN) for card in cards]),
    }
    proba = np.mean([member.predictions.proba for member in members], axis=0)
    return [Method(ENSEMBLE, card, replace(members[0].predictions, proba=proba))]


def _rank(method: Method) -> tuple[float, float]:
    return rank_of_methods(method.card["validation"]["score"], method.card["validation"]["log_loss"])


def _validation_of(members: Sequence[Method], by: str) -> dict[str, float | None]:
    """Scores of members' mean on validation rows; None where some member was fitted on these."""
    if any(member.validation is None for member in members):
        return {"top1": None, "log_loss": None, "score": None}
    each = [member.validation for member in members if member.validation]
    proba, label = np.mean([one.proba for one in each], axis=0), each[0].label
    return {
        "top1": float((proba.argmax(axis=1) == label).mean()),
        "log_loss": statistics.log_loss(proba, label),
        "score": score(by, np.log(np.maximum(proba, statistics.PROBABILITY_FLOOR)), label).value,
    }


def _baselines(project: Project, manifest: Manifest) -> list[Method]:
    methods = []
    for mode in project.settings.finetune.modes:
        card = finetune.read_card(project, mode)
        if card["inputs"] != (asked := finetune.inputs(project, manifest, mode)):
            others = _others(card["inputs"], asked, "finetune", "finetune")
            raise BadInput(
                _trained_otherwise(f"finetune.{mode}", others, f"python cli.py finetune --mode {mode}")
            )
        folder, wanted = project.finetune_folder(mode), project.settings.compare.seeds
        starts = seeds.read(folder)
        if (trained := max(len(starts), 1)) != wanted:
            raise BadInput(
                f"finetune.{mode} was trained from {trained} seeds, and compare.seeds is {wanted}; "
                f"run `python cli.py finetune --mode {mode}` first"
            )
        predictions = Predictions.read(folder / "predictions.npz")
        methods.append(Method(f"finetune.{mode}", card, predictions, starts=starts))
    return methods
