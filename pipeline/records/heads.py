"""What `train` leaves: where a head's folder is, its card, what was tried, and whether it is current.

name = method_name("logreg", layer)                     # pool5.logreg
card = TrainedHeads(project, manifest).card("logreg", layer)    # BadInput where `train` has to run first
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.errors import BadInput
from features.files import naming
from features.manifest import Manifest
from features.network import Layer
from pipeline import heads
from pipeline.made_with import Other, differing, in_words, or_back
from pipeline.project import Project
from pipeline.records.cards import command_of, folder_of, is_there, read_card

# Of `tuning.csv`, besides what was tried
SCORES = ("validation_top1", "validation_log_loss", "validation_score", "converged")
MAJORITY = "majority"  # the head that needs no layer


def layers_of(project: Project, head: str) -> tuple[Layer | None, ...]:
    """What a head is trained on: every layer of the settings, or, once, none."""
    return (None,) if head == MAJORITY else project.layers


def method_name(head: str, layer: Layer | None) -> str:
    """`pool5.logreg`; a bare `majority`, which needs no layer."""
    return f"{layer.name}.{head}" if layer else head


def method_folder(project: Project, head: str, layer: Layer | None) -> Path:
    """Where a method's card and predictions lie."""
    return folder_of(project, method_name(head, layer))


def inputs(project: Project, head: str, manifest: Manifest, features: str | None) -> dict[str, Any]:
    """Everything a trained head depends on: it is current while this is unchanged.

    `features` is the fingerprint of its layer's store; None for a head without one.
    """
    grid = project.settings.heads.named()[head].model_dump(mode="json")
    # How rows are read changes no result
    tuning = project.settings.tuning.model_dump(mode="json", exclude={"memory_gb"})
    return {
        "manifest": manifest.digest,
        "features": features,
        "grid": grid,
        "tuning": tuning if features else {"score": tuning["score"]},  # there is nothing to choose
        "revision": heads.REVISION,
        "refit": project.settings.compare.refit,
        "seeds": project.settings.compare.seeds if "seed" in grid else 1,
    }


class TrainedHeads:
    """What was trained on the features of a manifest; each layer's store is opened once."""

    def __init__(self, project: Project, manifest: Manifest) -> None:
        self.project, self.manifest = project, manifest
        self._features: dict[Layer, str] = {}

    def card(self, head: str, layer: Layer | None) -> dict[str, Any]:
        """Read a head's card; BadInput where it is not trained, or was trained on something else."""
        folder, name = method_folder(self.project, head, layer), method_name(head, layer)
        if not is_there(folder):
            raise BadInput(f"{name} is not trained; run `{command_of(name)}` first")
        card = read_card(folder, command_of(name))
        features = self._fingerprint(layer) if layer else None
        check_inputs(name, card, inputs(self.project, head, self.manifest, features), f"heads.{head}", "grid")
        return card

    def _fingerprint(self, layer: Layer) -> str:
        if layer not in self._features:
            self._features[layer] = self.project.store(layer, self.manifest).attributes["fingerprint"]
        return self._features[layer]


def read_trials(folder: Path) -> list[dict[str, str]]:
    """Read what was tried, `tuning.csv` of a method's folder: a mapping for each row."""
    path = folder / "tuning.csv"
    with naming(path), path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def chosen_in_words(chosen: Mapping[str, Any]) -> str:
    """What was chosen, for people: `normalisation l2, C 0.3162`."""
    return ", ".join(
        f"{key} {value:.6g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in chosen.items()
    )


def check_inputs(
    name: str, card: Mapping[str, Any], asked: Mapping[str, Any], section: str, recorded: str
) -> None:
    """Refuse what was trained on something else than the settings of now say: BadInput with what differs.

    Parameters
    ----------
    section, recorded : str
        Of params.yaml, and where the card's inputs have that.
    """
    if card["inputs"] == asked:
        return
    others = _others(card["inputs"], asked, section, recorded)
    words = in_words(others) if others else "other images or features, or by an older version"
    raise BadInput(f"{name} was trained with {words}; {or_back(command_of(name), others)}")


def _others(
    made: Mapping[str, Any], asked: Mapping[str, Any], section: str, recorded: str
) -> Sequence[Other]:
    """Which parameters differ between a card's inputs and those of now; what else differs is no parameter."""

    def parameters(inputs: Mapping[str, Any]) -> dict[str, Any]:
        shared = {key: inputs[key] for key in ("refit", "seeds") if key in inputs}
        return {"compare": shared, "tuning": inputs.get("tuning") or {}, section: inputs[recorded]}

    return differing(parameters(made), parameters(asked))
