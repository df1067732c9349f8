"""Manifest + network → blocks in the cache → published stores.

    extraction = Extraction(recipe, manifest, source)
    report = extraction.fill()                      # the network meets the missing images, once
    assemble(extraction, layers[0], folder, scratch, {})    # artifacts/features/fc7.zarr

All missing layers are tapped in one forward pass (`features.forward`). An image that is
in the cache for every layer and view asked does not meet the network.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features import immutable
from features.batches import Decoder, Numbers
from features.cache import Places, block_seconds, gather
from features.engines.choice import Choice
from features.engines.create import create
from features.errors import BadInput
from features.forward import Computed, forward
from features.images import ImageSource
from features.manifest import Manifest
from features.network import Layer, deepest
from features.profile import Stopwatch
from features.progress import Progress
from features.recipe import Recipe


@dataclass(frozen=True)
class Report:
    """What an extraction did.

    Attributes
    ----------
    run_through_network : int
        Images of which at least one view was not in the cache.
    passes : int
        Views of images that went through the network.
    gflop : float
        Operations of these passes as direct convolutions, in 1e9 (see `features.network.gflops`).
    seconds : float
        Wall time of decoding and forward passes.
    """

    images: int
    run_through_network: int
    passes: int
    gflop: float
    seconds: float


class Extraction:
    """A recipe carried out for a manifest's images.

    Attributes
    ----------
    watch : Stopwatch
        Of everything that was done.
    """

    def __init__(self, recipe: Recipe, manifest: Manifest, source: ImageSource) -> None:
        self.recipe, self.manifest, self.source = recipe, manifest, source
        self.watch = Stopwatch()
        self.blocks = {
            (layer.name, view): recipe.blocks(layer, view) for layer in recipe.layers for view in recipe.views
        }
        # What the cache has, by layer and view: looked up once, and again where blocks came or went
        self._found: dict[tuple[str, str], Places] = {}

    def found(self, layer: Layer, view: str) -> Places:
        """Where each manifest row's activation stands in a sound block, if it does."""
        name = layer.name, view
        if name not in self._found:
            self._found[name] = self.blocks[name].find(self.manifest.keys)
        return self._found[name]

    def places(self, layer: Layer, view: str) -> Places:
        """Where each manifest row's activation stands; BadInput where one is not in the cache."""
        found = self.found(layer, view)
        if found.missing.any():
            raise BadInput(f"layer {layer.name} is not complete in the cache; run `extract` again")
        return found

    def fill(self) -> Report:
        """Compute what is missing in the cache, block by block.

        Raises
        ------
        BadInput
            For an image that is gone or has changed, and for an activation that
            the store's dtype cannot hold; names it. Finished blocks are kept.
        """
        todo = self._missing()
        if not len(todo):
            return Report(len(self.manifest), 0, 0, 0.0, 0.0)
        incomplete = [
            layer
            for layer in self.recipe.layers
            if any(self.found(layer, view).missing.any() for view in self.recipe.views)
        ]
        started = time.monotonic()
        with (
            Progress("extract", len(todo), "images" if len(self.recipe.views) == 1 else "views") as progress,
            ThreadPoolExecutor(1) as writer,  # what was computed is written, whatever happens meanwhile
        ):

            def keep(computed: Computed) -> None:
                with self.watch("write"):
                    for layer in incomplete:
                        self._keep(layer, computed)
                progress.advance(len(computed.numbers))

            written = writer.submit(lambda: None)  # the round before; there is none yet
            for computed in self.compute(todo, incomplete):
                with self.watch("blocked"):
                    written.result()
                written = writer.submit(keep, computed)
            with self.watch("blocked"):
                written.result()
        self._found.clear()
        seconds = time.monotonic() - started
        last = deepest(incomplete)
        passes = todo if last.needs_network else todo[:0]  # the layer `pixels` alone needs no network
        return Report(
            images=len(self.manifest),
            run_through_network=len(np.unique(passes // len(self.recipe.views))),
            passes=len(passes),
            gflop=last.gflops(self.recipe.preprocessing.size) * len(passes),
            seconds=seconds,
        )

    def _missing(self) -> NDArray[np.intp]:
        """Positions to compute, ascending; an image that stands in several rows is computed once."""
        missing = np.zeros((len(self.manifest), len(self.recipe.views)), np.bool_)
        for position, view in enumerate(self.recipe.views):
            for layer in self.recipe.layers:
                missing[:, position] |= self.found(layer, view).missing
        missing[self.manifest.is_copy] = False
        return np.flatnonzero(missing)

    def compute(self, numbers: Numbers, layers: Sequence[Layer]) -> Iterator[Computed]:
        """Run views of images through the network, whatever the cache holds (see `features.forward`)."""
        network = [layer for layer in layers if layer.needs_network]
        compiled = self.recipe.cache_root / "compiled"
        with self.watch("load"):
            engine = (
                create(self.recipe.choice, network, self.recipe.weights, self.recipe.preprocessing, compiled)
                if network
                else None
            )
        decoder = Decoder(
            self.manifest, self.source, self.recipe.preprocessing, self.recipe.views, self.watch
        )
        return forward(engine, decoder, numbers, layers)

    def _keep(self, layer: Layer, computed: Computed) -> None:
        """Write blocks of the rows that the cache does not have yet, one per view, in the store's dtype."""
        stored = self._stored(layer, computed)
        row, position = np.divmod(computed.numbers, len(self.recipe.views))
        for number, view in enumerate(self.recipe.views):
            new = np.flatnonzero((position == number) & self.found(layer, view).missing[row])
            if len(new):
                seconds = computed.seconds * len(new) / len(computed.numbers)
                self.blocks[layer.name, view].write(
                    self.manifest.keys[row[new]],
                    stored[new],
                    {"seconds": round(seconds, 3), "weights": self._weights_words(layer)}
                    | provenance(self.recipe.choice),
                )

    def _stored(self, layer: Layer, computed: Computed) -> NDArray[Any]:
        """Cast to the store's dtype; BadInput names the layer and image of what it cannot hold."""
        rows = computed.rows[layer.name]
        with np.errstate(over="ignore"):  # an overflow becomes inf and is reported below
            stored = rows.astype(self.recipe.dtype)
        finite = np.isfinite(stored).all(axis=1)
        if not finite.all():
            number = computed.numbers[int(np.flatnonzero(~finite)[0])]
            image = self.manifest.rows[number // len(self.recipe.views)].path
            remedy = "check the weights and this image"
            if np.isfinite(rows).all():
                remedy = "set extract.dtype to float32"
            elif self.recipe.choice.precision == "fp16":
                remedy = f"set extract.precision to bf16 or fp32, or {remedy}"
            raise BadInput(
                f"layer {layer.name} of {image} holds a value that {self.recipe.dtype} cannot; {remedy}"
            )
        return stored

    def _weights_words(self, layer: Layer) -> str:
        label = self.recipe.weights.label(layer)
        if label == "none":
            return label
        return f"{self.recipe.weights.network} from {self.recipe.weights.provenance['source']}, {label}"

    def seconds(self, layer: Layer) -> float:
        """What computing this layer's blocks took, with the layers tapped in the same passes."""
        return sum(
            block_seconds(block) for view in self.recipe.views for block in self.places(layer, view).used
        )

    def activations(self, layer: Layer) -> NDArray[np.float32]:
        """All rows of a layer's first view, (n_images, width) float32; computes what the cache lacks."""
        self.fill()
        width = layer.width(self.recipe.preprocessing.size)
        places = self.places(layer, self.recipe.views[0])
        return gather(places, width, np.dtype(self.recipe.dtype)).astype(np.float32, copy=False)

    def forget(self, layer: Layer) -> None:
        """Take every block with one of these images out of the cache, so that `fill` computes them again."""
        for view in self.recipe.views:
            blocks = self.blocks[layer.name, view]
            for block in blocks.holding(self.manifest.keys):
                immutable.discard(self.recipe.cache_root, block)
            self._found.pop((layer.name, view), None)


def provenance(choice: Choice) -> dict[str, Any]:
    """What made the numbers, for people: not part of any fingerprint."""
    packages = ("torch", "numpy", "pillow", *(["numba"] if choice.name == "winograd" else []))
    return {"device": choice.device, "versions": {name: version(name) for name in packages}}
