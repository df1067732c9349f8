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
from pipeline.finetuning.plan import Plan
from pipeline.project import Project
from pipeline.records import prices
from pipeline.records.cards import BASELINES, check_files, command_of
from pipeline.records.comparison import ENSEMBLE, TRUST
from pipeline.records.heads import (
    TrainedHeads,
    check_inputs,
    layers_of,
    method_folder,
    method_name,
    read_trials,
)
from pipeline.records.predictions import Predictions
from pipeline.records.runs import read_run
from pipeline.records.seeds import Seed, read_seeds
from pipeline.statistics import metrics
from pipeline.statistics.ranking import rank_of_methods
from pipeline.statistics.scores import score

# Files of a method that a comparison looks at
READ = ("predictions.npz", "validation.npz", "tuning.csv", "seeds.json")


@dataclass(frozen=True)
class TrainedMethod:
    """A trained method, as it stands in its folder."""

    name: str  # pool5.logreg, ensemble, finetune.full, majority
    card: Mapping[str, Any]
    predictions: Predictions
    validation: Predictions | None = None  # of rows that the method was not fitted on
    tried: Sequence[Mapping[str, str]] = ()  # rows of its `tuning.csv`
    seeds: Sequence[Seed] = ()  # this one and other random starts, where there are several


def methods_of(project: Project, manifest: Manifest) -> list[TrainedMethod]:
    """Collect every method that the settings name: heads, their ensemble, baselines.

    Raises
    ------
    BadInput
        Where one has to be trained first, or was trained on something else.
    """
    heads = _heads(project, manifest)
    return [*heads, *_ensemble(project, heads), *_baselines(project, manifest)]


def _heads(project: Project, manifest: Manifest) -> list[TrainedMethod]:
    methods, trained = [], TrainedHeads(project, manifest)
    for head in project.settings.heads.named():
        for layer in layers_of(project, head):
            card = trained.card(head, layer)
            folder = method_folder(project, head, layer)
            held = folder / "validation.npz"
            validation = Predictions.read(held) if held.exists() else None
            test = Predictions.read(folder / "predictions.npz")
            tried = tuple(read_trials(folder))
            found, name = read_seeds(folder), method_name(head, layer)
            check_files(folder, card, name, READ)  # all of one training, whoever trains meanwhile
            methods.append(TrainedMethod(name, card, test, validation, tried, found))
    return methods


def _ensemble(project: Project, heads: Sequence[TrainedMethod]) -> list[TrainedMethod]:
    """The mean of the probabilities of each layer's best head, where there are several layers."""
    best: dict[str, TrainedMethod] = {}
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
        "cost": prices.together([card.get("cost", prices.UNKNOWN) for card in cards]),
    }
    proba = np.mean([member.predictions.proba for member in members], axis=0)
    return [TrainedMethod(ENSEMBLE, card, replace(members[0].predictions, proba=proba))]


def _rank(method: TrainedMethod) -> tuple[float, float]:
    return rank_of_methods(method.card["validation"]["score"], method.card["validation"]["log_loss"])


def _validation_of(members: Sequence[TrainedMethod], by: str) -> dict[str, float | None]:
    """Scores of members' mean on validation rows; None where some member was fitted on these."""
    if any(member.validation is None for member in members):
        return {"top1": None, "log_loss": None, "score": None}
    each = [member.validation for member in members if member.validation]
    proba, label = np.mean([one.proba for one in each], axis=0), each[0].label
    return {
        "top1": float((proba.argmax(axis=1) == label).mean()),
        "log_loss": metrics.log_loss(proba, label),
        "score": score(by, np.log(np.maximum(proba, metrics.PROBABILITY_FLOOR)), label).value,
    }


def _baselines(project: Project, manifest: Manifest) -> list[TrainedMethod]:
    methods = []
    for mode in project.settings.finetune.modes:
        card, asked = read_run(project, mode), Plan(project, manifest, mode).facts
        name = f"{BASELINES}{mode}"
        check_inputs(name, card, asked, "finetune", "finetune")
        folder, wanted = project.finetune_folder(mode), project.settings.compare.seeds
        found = read_seeds(folder)
        if (trained := max(len(found), 1)) != wanted:
            raise BadInput(
                f"{name} was trained from {trained} seeds, and compare.seeds is {wanted}; "
                f"run `{command_of(name)}` first"
            )
        predictions = Predictions.read(folder / "predictions.npz")
        check_files(folder, card, name, READ)
        methods.append(TrainedMethod(name, card, predictions, seeds=found))
    return methods
