"""Manifest + network → blocks in the cache → published stores.

    extraction = Extraction(manifest, source, layers, ("none",), weights, preprocessing, choice,
                            "float16", cache_root)
    report = extraction.fill()                      # the network meets the missing images, once
    extraction.publish(layers[0], folder, scratch, {})  # artifacts/features/fc7.zarr

All missing layers are tapped in one forward pass. An image that is in the cache for
every layer and view asked does not meet the network. Images and their views form a grid,
numbered row by row: view v of image i is number i × views + v.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features import immutable
from features.batches import Decoder, Pixels
from features.cache import Blocks, Place, block_seconds, fingerprint, gather, open_rows
from features.engines import REVISIONS, Choice, Engine, Rows, create
from features.errors import BadInput
from features.images import ImageSource, Preprocessing, control_pixels
from features.manifest import SPLITS, Manifest
from features.network import Layer, gflops
from features.progress import Progress
from features.views import words
from features.weights import Weights

PIXELS_NUMERICS = f"pillow/{REVISIONS['pillow']}"  # of the layer that needs no engine
BLOCK_IMAGES = 128  # at most this much work is lost to a kill
OPEN_BLOCKS = 4  # at once while publishing; each takes a file descriptor, and memory once it is read
BLOCK_BYTES = 256 << 20  # of the widest layer, in fp32: bounds memory for flattened early layers


@dataclass(frozen=True)
class Report:
    """What an extraction did.

    Attributes
    ----------
    run_through_network : int
        Images of which at least one view was not in the cache.
    passes : int
        Views of images that went through the network.
    seconds : float
        Wall time of decoding and forward passes.
    """

    images: int
    run_through_network: int
    passes: int
    seconds: float


@dataclass(frozen=True)
class Computed:
    """What one round of batches gave.

    Attributes
    ----------
    numbers : list of int
        Positions in the grid (image, view).
    rows : dict of layer name to (n, width) float32, or float16 (see `features.engines.Rows`)
    seconds : float
        Wall time of all of it, waiting for images included.
    """

    numbers: list[int]
    rows: Rows
    seconds: float


@dataclass(frozen=True)
class Extraction:
    """Everything that determines the activations of a manifest's images at some layers."""

    manifest: Manifest
    source: ImageSource
    layers: Sequence[Layer]
    views: tuple[str, ...]
    weights: Weights
    preprocessing: Preprocessing
    choice: Choice
    dtype: str
    cache_root: Path
    blocks: dict[tuple[str, str], Blocks] = field(init=False)  # by layer and view

    def __post_init__(self) -> None:
        blocks = {
            (layer.name, view): Blocks(self.cache_root, self.facts(layer, view))
            for layer in self.layers
            for view in self.views
        }
        object.__setattr__(self, "blocks", blocks)

    def facts(self, layer: Layer, view: str) -> dict[str, Any]:
        """Everything one layer's numbers depend on besides the image: the cache's key."""
        preprocessing = self.preprocessing.words()
        if layer.step == "pixels":  # no network: neither its weights nor its normalisation matter
            del preprocessing["mean"], preprocessing["std"]
        return {
            "layer": layer.name,
            "tensors": self.weights.fingerprint(layer.steps),
            "preprocessing": preprocessing,
            "view": words(view),
            "dtype": self.dtype,
            "numerics": self.choice.numerics if layer.steps else PIXELS_NUMERICS,
        }

    def fill(self) -> Report:
        """Compute what is missing in the cache, block by block.

        Raises
        ------
        BadInput
            For an image that is gone or has changed, and for an activation that
            the store's dtype cannot hold; names it. Finished blocks are kept.
        """
        wanted = set(self.manifest.keys)
        have = {name: set(blocks.sound_index(wanted)) for name, blocks in self.blocks.items()}
        todo = self._missing(have)
        if not todo:
            return Report(len(self.manifest), 0, 0, 0.0)
        incomplete = [
            layer for layer in self.layers if any(not wanted <= have[layer.name, view] for view in self.views)
        ]
        started = time.monotonic()
        with Progress("extract", len(todo), "images" if len(self.views) == 1 else "views") as progress:
            for computed in self.compute(todo, incomplete):
                for layer in incomplete:
                    self._keep(layer, computed, have)
                progress.advance(len(computed.numbers))
        network = any(layer.steps for layer in incomplete)  # the layer `pixels` alone needs none
        images = {number // len(self.views) for number in todo} if network else ()
        passes = len(todo) if network else 0
        return Report(len(self.manifest), len(images), passes, time.monotonic() - started)

    def _missing(self, have: Mapping[tuple[str, str], set[bytes]]) -> list[int]:
        """Positions to compute; an image that stands in several rows is computed once."""
        first = {key: number for number, key in reversed(list(enumerate(self.manifest.keys)))}
        missing = []
        for position, view in enumerate(self.views):
            present = set.intersection(*(have[layer.name, view] for layer in self.layers))
            missing += [row * len(self.views) + position for key, row in first.items() if key not in present]
        return sorted(missing)

    def compute(self, numbers: Sequence[int], layers: Sequence[Layer]) -> Iterator[Computed]:
        """Run views of images through the network, whatever the cache holds, in rounds of whole images."""
        network = [layer for layer in layers if layer.steps]
        compiled = self.cache_root / "compiled"
        engine = create(self.choice, network, self.weights, self.preprocessing, compiled) if network else None
        batch = engine.batch if engine else BLOCK_IMAGES
        rounds = self._rounds(numbers, layers, batch)
        batches = [part[i : i + batch] for part in rounds for i in range(0, len(part), batch)]
        decoder = Decoder(self.manifest, self.source, self.preprocessing, self.views)
        forward = self._forward(engine, decoder.batches(batches, batch), layers)
        for part in rounds:
            begun = time.monotonic()
            parts = [next(forward) for _ in range(0, len(part), batch)]
            rows = {
                layer.name: np.concatenate([rows[layer.name] for rows in parts])[: len(part)]
                for layer in layers
            }
            yield Computed(part, rows, time.monotonic() - begun)

    def _rounds(self, numbers: Sequence[int], layers: Sequence[Layer], batch: int) -> list[list[int]]:
        """Split positions: the views of an image stay together, the widest layer stays in bounds."""
        widest = max(layer.width(self.preprocessing.size) for layer in layers)
        most = min(BLOCK_IMAGES * len(self.views), BLOCK_BYTES // (4 * widest)) // batch * batch or batch
        images = max(1, most // len(self.views))
        rounds: list[list[int]] = []
        rows: set[int] = set()  # of the last round
        for number in numbers:
            row = number // len(self.views)
            if not rounds or (row not in rows and len(rows) == images):
                rounds.append([])
                rows = set()
            rounds[-1].append(number)
            rows.add(row)
        return rounds

    def _forward(
        self, engine: Engine | None, batches: Iterable[Pixels], layers: Sequence[Layer]
    ) -> Iterator[Rows]:
        batches, again = tee(batches)  # the engine may be some batches ahead
        streamed: Iterable[Rows] = engine.stream(batches) if engine else ({} for _ in batches)
        for rows, batch in zip(streamed, again, strict=True):
            if any(layer.step == "pixels" for layer in layers):
                rows["pixels"] = control_pixels(batch)
            yield rows

    def _keep(self, layer: Layer, computed: Computed, have: Mapping[tuple[str, str], set[bytes]]) -> None:
        """Write blocks of the rows that the cache does not have yet, one per view, in the store's dtype."""
        stored = self._stored(layer, computed)
        row, position = np.divmod(np.array(computed.numbers), len(self.views))
        keys = self.manifest.keys
        for number, view in enumerate(self.views):
            present = have[layer.name, view]
            new = [i for i in np.flatnonzero(position == number) if keys[row[i]] not in present]
            if new:
                seconds = computed.seconds * len(new) / len(computed.numbers)
                self.blocks[layer.name, view].write(
                    [keys[row[i]] for i in new],
                    stored[new],
                    {"seconds": round(seconds, 3), "weights": self._weights_words(layer)}
                    | provenance(self.choice),
                )

    def _stored(self, layer: Layer, computed: Computed) -> NDArray[Any]:
        """Cast to the store's dtype; BadInput names the layer and image of what it cannot hold."""
        rows = computed.rows[layer.name]
        with np.errstate(over="ignore"):  # an overflow becomes inf and is reported below
            stored = rows.astype(self.dtype)
        finite = np.isfinite(stored).all(axis=1)
        if not finite.all():
            number = computed.numbers[int(np.flatnonzero(~finite)[0])]
            image = self.manifest.rows[number // len(self.views)].path
            remedy = "check the weights and this image"
            if np.isfinite(rows).all():
                remedy = "set extract.dtype to float32"
            elif self.choice.precision == "fp16":
                remedy = f"set extract.precision to bf16 or fp32, or {remedy}"
            raise BadInput(f"layer {layer.name} of {image} holds a value that {self.dtype} cannot; {remedy}")
        return stored

    def _weights_words(self, layer: Layer) -> str:
        label = self.weights.label(layer.steps)
        if label == "none":
            return label
        return f"{self.weights.network} from {self.weights.provenance['source']}, {label}"

    def places(self, layer: Layer, view: str) -> list[Place]:
        """Where each manifest row's activation stands; BadInput where one is not in the cache."""
        index = self.blocks[layer.name, view].sound_index(set(self.manifest.keys))
        try:
            return [index[key] for key in self.manifest.keys]
        except KeyError:
            raise BadInput(f"layer {layer.name} is not complete in the cache; run `extract` again") from None

    def seconds(self, layer: Layer) -> float:
        """What computing this layer's blocks took, with the layers tapped in the same passes."""
        blocks = {place.block for view in self.views for place in self.places(layer, view)}
        return sum(block_seconds(block) for block in blocks)

    def activations(self, layer: Layer) -> NDArray[np.float32]:
        """All rows of a layer's first view, (n_images, width) float32; computes what the cache lacks."""
        self.fill()
        width = layer.width(self.preprocessing.size)
        places = self.places(layer, self.views[0])
        return gather(places, width, np.dtype(self.dtype)).astype(np.float32, copy=False)

    def forget(self, layer: Layer) -> None:
        """Take every block with one of these images out of the cache, so that `fill` computes them again."""
        for view in self.views:
            index = self.blocks[layer.name, view].index()
            for block in {index[key].block for key in self.manifest.keys if key in index}:
                immutable.discard(self.cache_root, block)

    def publish(
        self, layer: Layer, folder: Path, scratch: Path, parameters: Mapping[str, Any], *, reuse: bool = True
    ) -> None:
        """Write the layer's store into `folder` in manifest order (see `features.publish`).

        `parameters` are the settings it came from, copied into its attributes unread.
        """
        from features.publish import publish  # noqa: PLC0415 - zarr, which no forward pass has to wait for

        width, dtype = layer.width(self.preprocessing.size), np.dtype(self.dtype)
        places = [self.places(layer, view) for view in self.views]
        opened = lru_cache(OPEN_BLOCKS)(open_rows)

        def rows(start: int, stop: int) -> NDArray[Any]:
            views = [gather(of_view[start:stop], width, dtype, opened) for of_view in places]
            return np.stack(views, axis=1) if len(views) > 1 else views[0]

        publish(
            folder / f"{layer.stem}.zarr",
            scratch=scratch,
            manifest=self.manifest,
            rows=rows,
            shape=(len(self.views), width) if len(self.views) > 1 else (width,),
            dtype=self.dtype,
            attributes={**self._attributes(layer), "parameters": dict(parameters)},
            reuse=reuse,
        )
        for view in self.views:
            self.blocks[layer.name, view].touch()

    def _attributes(self, layer: Layer) -> dict[str, Any]:
        weights = self.weights.provenance
        fingerprints = [self.blocks[layer.name, view].fingerprint for view in self.views]
        return {
            "layer": layer.name,
            "shape": list(layer.shape(self.preprocessing.size)),
            "views": list(self.views),
            "gflops_per_image": round(gflops(layer.steps, self.preprocessing.size), 3),
            "classes": list(self.manifest.classes),
            "splits": list(SPLITS),
            "manifest": self.manifest.digest,
            "fingerprint": fingerprints[0]
            if len(fingerprints) == 1
            else fingerprint({"views": fingerprints}),
            "fingerprints": fingerprints,
            "weights": self.weights.label(layer.steps),
            "weights_source": {
                name: weights[name] for name in ("network", "source", "sha256") if name in weights
            },
            **{
                k: v
                for k, v in self.facts(layer, self.views[0]).items()
                if k in ("tensors", "preprocessing", "dtype", "numerics")
            },
            **provenance(self.choice),
        }


def provenance(choice: Choice) -> dict[str, Any]:
    """What made the numbers, for people: not part of any fingerprint."""
    packages = ("torch", "numpy", "pillow", *(["numba"] if choice.name == "winograd" else []))
    return {"device": choice.device, "versions": {name: version(name) for name in packages}}
