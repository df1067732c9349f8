"""A trained method, opened to be used on new images: from pixels to calibrated probabilities.

    method = open_method(project, "pool5.logreg")   # or ensemble, finetune.full, majority
    for scored in method.scored(decoder): ...       # a round of images at a time

A head gets what it was trained on: activations of the same weights, preprocessing, views and
precision, rounded as the store rounds them. That is checked by the fingerprint in its card, so
that the stores themselves are not needed.
"""

import difflib
import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from features.batches import Decoder
from features.cache import fingerprint
from features.engines import TOLERANCE, Choice, choose, create
from features.errors import BadInput
from features.extract import Extraction
from features.forward import forward
from features.images import ImageFolder, Preprocessing
from features.manifest import Manifest
from features.network import Layer, parse_layer
from features.probe import REFERENCE, Library
from features.turns import turn
from features.views import names
from pipeline.applied import open_head
from pipeline.datasets import ARRAYS
from pipeline.lines import BASELINES, ENSEMBLE, TRUST, trained
from pipeline.project import Project, read_json

OTHER_PILLOW = "trained on images that another Pillow decoded and resized, to other bits"


@dataclass(frozen=True)
class Scored:
    """What a method says of one round of images.

    Attributes
    ----------
    proba : (n, n_classes) float64
        Calibrated; NaN in a row whose activations the store's dtype cannot hold.
    rows : dict of layer name to (n, d) or (n, views, d) float32
        The features that heads were given; empty for a fine-tuned network.
    """

    proba: NDArray[np.float64]
    rows: Mapping[str, NDArray[np.float32]]


class Method(Protocol):
    """A trained method, ready for images.

    Attributes
    ----------
    name : str
    members, layer_names : tuples of str
        The methods that it is the mean of, or itself; the layer that each stands on.
    classes : tuple of str
        In the order of the probabilities' columns.
    weights : str
        How its numbers are labelled (see `features.weights.Weights.label`).
    views : tuple of str
        Of each image, over which probabilities are averaged.
    preprocessing : Preprocessing
        Of the images that its `scored` is given.
    note : str
        What a user should know of how it is computed here, or empty.
    identity : str
        A digest of the cards: another one once it was trained anew.
    """

    name: str
    members: tuple[str, ...]
    layer_names: tuple[str, ...]
    classes: tuple[str, ...]
    weights: str
    views: tuple[str, ...]
    preprocessing: Preprocessing
    note: str
    identity: str

    def scored(self, decoder: Decoder) -> Iterator[Scored]:
        """Score all images of a decoder with these views and this preprocessing, in order.

        From any thread, with the same numbers.
        """


def open_method(project: Project, name: str) -> Method:
    """Open a trained method.

    Raises
    ------
    BadInput
        For one that is not trained, is damaged, or was trained with other settings.
    """
    folders = trained(project)
    if name == ENSEMBLE:
        return Frozen(project, name, {member: _folder(member, folders) for member in _members(project)})
    folder = _folder(name, folders)
    if not name.startswith(BASELINES):
        return Frozen(project, name, {name: folder})
    from pipeline.tuned import FineTuned  # noqa: PLC0415 - torch and all of training

    return FineTuned(project, name, folder)


def _folder(name: str, folders: Mapping[str, Path]) -> Path:
    if name in folders:
        return folders[name]
    near = difflib.get_close_matches(name, folders, n=1, cutoff=0.0)
    there = f"did you mean {near[0]!r}? (trained: {', '.join(folders)})" if near else "none is trained yet"
    raise BadInput(f"there is no trained method {name!r}; {there}; `python cli.py train` trains heads")


def _members(project: Project) -> list[str]:
    """Names of the heads that the last comparison's ensemble is the mean of."""
    members = read_json(project.comparison).get("ensemble") if project.comparison.exists() else []
    if not members:
        raise BadInput("there is no ensemble; `python cli.py compare` makes one, of two layers or more")
    return list(members)


def note_of(*differences: str) -> str:
    """What a user should know of a method that was trained in other ways than are at hand here."""
    there = [one for one in differences if one]
    return f"it was {' and '.join(there)}: probabilities differ a little" if there else ""


def cards_of(folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    """The methods' cards; BadInput where one is gone."""
    try:
        return [read_json(folder / "card.json") for folder in folders.values()]
    except FileNotFoundError as error:
        raise BadInput(f"{error.filename} is being made anew; open {', '.join(folders)} again") from None


def identity_of(folders: Mapping[str, Path], cards: Sequence[Mapping[str, Any]]) -> str:
    """A digest of cards, which are those of all that was read meanwhile.

    Raises
    ------
    BadInput
        Where another process trained one of them anew since its card was read.
    """
    if cards_of(folders) != cards:
        raise BadInput(f"{', '.join(folders)} was trained anew while it was opened; open it again")
    return hashlib.sha256(json.dumps(cards, sort_keys=True).encode()).hexdigest()


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
        self.views = names(project.settings.extract.views)
        self.dtype = project.settings.extract.dtype
        self.opened = project.read_weights()
        crop = project.settings.dataset.name not in ARRAYS
        self.preprocessing = Preprocessing(project.image_size, crop, *self.opened.normalisation)
        self.project = project
        trained_on, library = _made_by(self, cards)
        self.choice = _choice(project, trained_on)
        here = self.choice.numerics.partition("/")[0]
        engine = f"trained on features of {trained_on}, here it is {here}"
        self.note = note_of(
            engine if trained_on not in ("", here) else "",
            OTHER_PILLOW if library != self.preprocessing.library else "",
        )
        computed = [layer for layer in dict.fromkeys(self.layers) if layer.steps]
        compiled = project.cache_root / "compiled"
        network = (self.choice, computed, self.opened, self.preprocessing, compiled)
        self.engine = create(*network, light=True) if computed else None

    def fingerprint(self, layer: Layer, choice: Choice, library: Library) -> str:
        """What a store of this layer would bear with these settings, this engine and this Pillow."""
        plan = Extraction(
            Manifest(()), ImageFolder(self.project.dataset_root), [layer], self.views, self.opened,
            replace(self.preprocessing, library=library), choice, self.dtype, self.project.cache_root,
        )  # fmt: skip  # of no images: only its key is asked for
        each = [plan.blocks[layer.name, view].fingerprint for view in self.views]
        return each[0] if len(each) == 1 else fingerprint({"views": each})

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


def _made_by(frozen: Frozen, cards: Sequence[Mapping[str, Any]]) -> tuple[str, Library]:
    """The numerics that the heads' features were computed with (`winograd-fp32`), and whose bits images had.

    Numerics are empty without a network.

    Raises
    ------
    BadInput
        Where the features were others: no numerics of this version give their fingerprints.
    """
    pairs = [(layer, card) for layer, card in zip(frozen.layers, cards, strict=True) if card["layer"]]
    recorded = [Library(**card["library"]) for _, card in pairs if "library" in card]
    for library in dict.fromkeys([frozen.preprocessing.library, *recorded, REFERENCE]):
        for numerics in TOLERANCE:
            engine, _, precision = numerics.partition("-")
            choice = Choice(engine, "", precision, "")
            given = (frozen.fingerprint(layer, choice, library) for layer, _ in pairs)
            if all(one == card["inputs"]["features"] for one, (_, card) in zip(given, pairs, strict=True)):
                return (numerics if any(layer.steps for layer, _ in pairs) else ""), library
    _other_settings(frozen.project, frozen.layers)
    heads = " ".join(dict.fromkeys(f"--head {card['head']}" for card in cards))
    raise BadInput(
        f"{frozen.name} was trained on other features than these settings give (weights, image size, "
        f"views or dtype); run `python cli.py extract` and `python cli.py train {heads}` first"
    )


def _other_settings(project: Project, layers: Sequence[Layer]) -> None:
    """Raise BadInput that names the settings which the manifest, or a store, was made with, if others."""
    if project.manifest.exists():
        manifest = project.read_manifest()
        for layer in layers:
            if (project.features / f"{layer.stem}.zarr").exists():
                project.store(layer, manifest)


def _choice(project: Project, trained_on: str) -> Choice:
    """The engine that the features came from, where it is at hand; else the one that the settings choose."""
    settings = project.settings.extract
    at_hand = importlib.util.find_spec("numba") is not None and settings.engine != "torch"
    if trained_on in ("", "winograd-fp32") and at_hand and project.settings.device in ("auto", "cpu"):
        return Choice(
            "winograd", "cpu", "fp32", "as in training"
        )  # known without torch, which is slow to import
    return choose(settings.engine, project.settings.device, settings.precision)
