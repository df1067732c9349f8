"""What a trained method is to whoever asks it about images: from pixels to calibrated probabilities.

for scored in method.scored(decoder): ...       # a round of images at a time
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from features.batches import Decoder
from features.errors import BadInput
from features.images import Preprocessing
from pipeline.records.cards import command_of, is_there, read_card
from pipeline.records.since import identity

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


def note_of(*differences: str) -> str:
    """What a user should know of a method that was trained in other ways than are at hand here."""
    there = [one for one in differences if one]
    return f"it was {' and '.join(there)}: probabilities differ a little" if there else ""


def cards_of(folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    """The methods' cards; BadInput where one is gone, or damaged."""
    for folder in folders.values():
        if not is_there(folder):
            raise BadInput(f"{folder} is being made anew; open {', '.join(folders)} again")
    return [read_card(folder, command_of(name)) for name, folder in folders.items()]


def identity_of(folders: Mapping[str, Path], cards: Sequence[Mapping[str, Any]]) -> str:
    """A digest of cards, which are those of all that was read meanwhile.

    Raises
    ------
    BadInput
        Where another process trained one of them anew since its card was read.
    """
    if cards_of(folders) != cards:
        raise BadInput(f"{', '.join(folders)} was trained anew while it was opened; open it again")
    return identity(cards)
