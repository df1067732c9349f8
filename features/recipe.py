"""What determines activations besides the images: a value that gives facts, fingerprints and blocks.

    recipe = Recipe(layers, ("none",), weights, preprocessing, choice, "float16", cache_root)
    recipe.facts(layer, "none"), recipe.fingerprint(layer), recipe.blocks(layer, "none")

It can be compared and pickled, and asks neither torch nor the disk for anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.cache import Blocks, fingerprint
from features.engines.choice import REVISIONS, Choice
from features.images import Preprocessing
from features.network import Layer
from features.views import words
from features.weights import Weights

PIXELS_NUMERICS = f"pillow/{REVISIONS['pillow']}"  # of the layer that needs no engine


@dataclass(frozen=True)
class Recipe:
    """How some layers' activations are made, and where they are kept.

    Attributes
    ----------
    views : tuple of str
        Of each image (see `features.views`).
    dtype : str
        In which activations are kept: "float16" or "float32".
    cache_root : Path
        See `features.cache`.
    """

    layers: Sequence[Layer]
    views: tuple[str, ...]
    weights: Weights
    preprocessing: Preprocessing
    choice: Choice
    dtype: str
    cache_root: Path

    def facts(self, layer: Layer, view: str) -> dict[str, Any]:
        """Everything one layer's numbers depend on besides the image: the cache's key."""
        preprocessing = self.preprocessing.words()
        if layer.step == "pixels":  # no network: neither its weights nor its normalisation matter
            del preprocessing["mean"], preprocessing["std"]
        return {
            "layer": layer.name,
            "tensors": self.weights.fingerprint(layer),
            "preprocessing": preprocessing,
            "view": words(view),
            "dtype": self.dtype,
            "numerics": self.numerics(layer),
        }

    def numerics(self, layer: Layer) -> str:
        """What computes this layer: `winograd-fp32/1`; of `pixels`, what decodes and resizes."""
        return self.choice.numerics if layer.needs_network else PIXELS_NUMERICS

    def fingerprints(self, layer: Layer) -> list[str]:
        """Of each view."""
        return [fingerprint(self.facts(layer, view)) for view in self.views]

    def fingerprint(self, layer: Layer) -> str:
        """Of a store of this layer, all views together."""
        each = self.fingerprints(layer)
        return each[0] if len(each) == 1 else fingerprint({"views": each})

    def blocks(self, layer: Layer, view: str) -> Blocks:
        """Where a view's activations of a layer are kept, opened anew: nothing of it is checked yet."""
        return Blocks(self.cache_root, self.facts(layer, view))
