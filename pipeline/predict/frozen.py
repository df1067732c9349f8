"""Heads on frozen features, opened to be used on new images (see `pipeline.predict.method.Method`).

    method = Frozen(project, "pool5.logreg", {"pool5.logreg": folder})

A head gets what it was trained on: activations of the same weights, preprocessing, views and
precision, rounded as the store rounds them. That is checked by the fingerprint in its card, so
that the stores themselves are not needed.
"""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.batches import Decoder
from features.engines.choice import Choice, choose, is_current
from features.engines.create import create
from features.errors import BadInput
from features.forward import forward
from features.network import Layer, parse_layer
from features.probe import Library
from features.recipe import Recipe
from features.turns import turn
from pipeline.heads.inference import open_head
from pipeline.made_with import in_words, or_back
from pipeline.predict.method import OTHER_PILLOW, Scored, cards_of, identity_of, note_of
from pipeline.project import Project
from pipeline.records.comparison import TRUST
from pipeline.stores.recipe import recipe_of


class Frozen:
    """A head on frozen features, or the mean of several (see `Method`)."""

    def __init__(self, project: Project, name: str, folders: Mapping[str, Path]) -> None:
        cards = cards_of(folders)
        network = project.settings.weights.network
        self.name, self.members, self.folders = name, tuple(folders), tuple(folders.values())
        try:
            self.heads = [open_head(folder) for folder in folders.values()]
        finally:  # a head that is being replaced may look damaged
            self.identity = identity_of(folders, cards)
        self.classes = self.heads[0].classes
        # A head without a layer looks at nothing, but only images that can be read have an answer
        self.layers = [parse_layer(card["layer"] or "pixels", network) for card in cards]
        self.layer_names = tuple(card["layer"] for card in cards if card["layer"])
        self.weights = max((card["weights"] for card in cards), key=TRUST.index)
        trained_on = [
            _engine(card) for card, layer in zip(cards, self.layers, strict=True) if layer.needs_network
        ]
        self.choice = _choice(project, trained_on)
        self.recipe = recipe = recipe_of(project, self.layers, choice=self.choice)
        self.views, self.dtype, self.preprocessing = recipe.views, recipe.dtype, recipe.preprocessing
        _check_features(name, recipe, cards, project)
        here = self.choice.numerics.partition("/")[0]
        others = [engine for engine in trained_on if engine != here]
        libraries = {Library(**card["library"]) for card in cards if card["layer"]}
        self.note = note_of(
            f"trained on features of {others[0]}, here it is {here}" if others else "",
            OTHER_PILLOW if libraries - {self.preprocessing.library} else "",
        )
        computed = [layer for layer in dict.fromkeys(self.layers) if layer.needs_network]
        compiled = project.cache_root / "compiled"
        network = (self.choice, computed, recipe.weights, self.preprocessing, compiled)
        self.engine = create(*network, light=True) if computed else None

    def scored(self, decoder: Decoder) -> Iterator[Scored]:
        """See `Method`."""
        k = len(self.views)
        for computed in forward(self.engine, decoder, np.arange(len(decoder.manifest) * k), self.layers):
            rows = {name: self._stored(values) for name, values in computed.rows.items()}
            whole = np.all([np.isfinite(X).reshape(len(X), -1).all(axis=1) for X in rows.values()], axis=0)
            proba = np.full((len(whole), len(self.classes)), np.nan)
            if whole.any():
                proba[whole] = self._proba({name: X[whole] for name, X in rows.items()})
            yield Scored(proba, rows)

    def _stored(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Round as the store does; one row per image, or one of each view."""
        with np.errstate(over="ignore"):  # becomes infinite, and the image has no answer
            rounded = values.astype(self.dtype).astype(np.float32)
        k = len(self.views)
        return rounded if k == 1 else rounded.reshape(-1, k, rounded.shape[1])

    def _proba(self, rows: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
        pairs = zip(self.heads, self.layers, strict=True)
        with turn:  # while it searches neighbours, scikit-learn sets how many threads all of BLAS has
            found = [head.predict_proba(rows[layer.name]) for head, layer in pairs]
        return np.asarray(np.mean(found, axis=0))


def _check_features(name: str, recipe: Recipe, cards: Sequence[Mapping[str, Any]], project: Project) -> None:
    """BadInput where heads had other features than these settings give, however they are computed."""
    for layer, card in zip(recipe.layers, cards, strict=True):
        if not card["layer"]:
            continue
        engine, precision = _engine(card).split("-") if layer.needs_network else ("", "")
        then = replace(
            recipe,
            preprocessing=replace(recipe.preprocessing, library=Library(**card["library"])),
            choice=Choice(engine, "", precision, "") if engine else recipe.choice,
        )
        if not is_current(card["numerics"]) or then.fingerprint(layer) != card["inputs"]["features"]:
            raise BadInput(_of_others(name, layer, cards, project))


def _engine(card: Mapping[str, Any]) -> str:
    """What computed a head's features: `winograd-fp32`; without a network `pillow`, or nothing."""
    return str(card["numerics"]).partition("/")[0]


def _of_others(name: str, layer: Layer, cards: Sequence[Mapping[str, Any]], project: Project) -> str:
    """Say what the features of a head were that these settings do not give, and what helps."""
    heads = " ".join(dict.fromkeys(f"--head {card['head']}" for card in cards))
    commands = f"python cli.py extract` and `python cli.py train {heads}"
    for card in cards:
        if card["layer"] == layer.name and (
            others := project.others_of_store(layer, card["inputs"]["features"])
        ):
            return f"{name} was trained on features of {in_words(others)}; {or_back(commands, others)}"
    return (
        f"{name} was trained on other features than these settings give (weights, image size, "
        f"views or dtype); run `{commands}` first"
    )


def _choice(project: Project, trained_on: Sequence[str]) -> Choice:
    """The engine that the features came from, where it is at hand; else the one that the settings choose."""
    settings = project.settings.extract
    at_hand = importlib.util.find_spec("numba") is not None and settings.engine != "torch"
    if set(trained_on) <= {"winograd-fp32"} and at_hand and project.settings.device in ("auto", "cpu"):
        # Known without torch, which is slow to import
        return Choice("winograd", "cpu", "fp32", "as in training")
    return choose(settings.engine, project.settings.device, settings.precision)
