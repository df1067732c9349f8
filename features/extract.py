"""Manifest + network → blocks in the cache → published stores.

    extraction = Extraction(manifest, source, layers, weights, preprocessing, choice, "float16", cache_root)
    report = extraction.fill()                      # the network meets the missing images, once
    extraction.publish(layers[0], folder, scratch, {})  # artifacts/features/fc7.zarr

All missing layers are tapped in one forward pass. An image that is in the cache
for every layer asked does not meet the network.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.batches import Decoder, Pixels
from features.cache import Blocks, Place, block_seconds, gather
from features.engines import REVISIONS, Choice, Engine, create
from features.errors import BadInput
from features.images import ImageSource, Preprocessing, control_pixels
from features.manifest import SPLITS, Manifest
from features.network import Layer, gflops
from features.progress import Progress
from features.store import Layout, publish
from features.weights import Weights

PIXELS_NUMERICS = f"pillow/{REVISIONS['pillow']}"  # of the layer that needs no engine
BLOCK_IMAGES = 128  # at most this much work is lost to a kill
BLOCK_BYTES = 256 << 20  # of the largest layer, in fp32: bounds memory for flattened early layers


@dataclass(frozen=True)
class Report:
    """What an extraction did.

    Attributes
    ----------
    run_through_network : int
        Images that were not in the cache.
    seconds : float
        Wall time of decoding and forward passes.
    """

    images: int
    run_through_network: int
    seconds: float


@dataclass(frozen=True)
class Extraction:
    """Everything that determines the activations of a manifest's images at some layers."""

    manifest: Manifest
    source: ImageSource
    layers: Sequence[Layer]
    weights: Weights
    preprocessing: Preprocessing
    choice: Choice
    dtype: str
    cache_root: Path
    blocks: dict[str, Blocks] = field(init=False)

    def __post_init__(self) -> None:
        blocks = {layer.name: Blocks(self.cache_root, self.facts(layer)) for layer in self.layers}
        object.__setattr__(self, "blocks", blocks)

    def facts(self, layer: Layer) -> dict[str, Any]:
        """Everything one layer's numbers depend on besides the image: the cache's key."""
        preprocessing = self.preprocessing.words()
        if layer.step == "pixels":  # no network: neither its weights nor its normalisation matter
            del preprocessing["mean"], preprocessing["std"]
        return {
            "layer": layer.name,
            "tensors": self.weights.fingerprint(layer.steps),
            "preprocessing": preprocessing,
            "view": "none",
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
        todo = self._missing(set.intersection(wanted, *have.values()))
        if not todo:
            return Report(len(self.manifest), 0, 0.0)
        incomplete = [layer for layer in self.layers if not wanted <= have[layer.name]]
        started = time.monotonic()
        # The layer `pixels` needs no network; alone it needs no engine either.
        network_layers = [layer for layer in incomplete if layer.steps]
        engine = (
            create(self.choice, network_layers, self.weights, self.preprocessing) if network_layers else None
        )
        with Progress("extract", len(todo), "images") as progress:
            for numbers, batches in self._blocks_of_batches(todo, engine.batch if engine else BLOCK_IMAGES):
                begun = time.monotonic()
                parts = [self._forward(engine, batch, incomplete) for batch in batches]
                for layer in incomplete:
                    rows = np.concatenate([part[layer.name] for part in parts])[: len(numbers)]
                    self._keep(layer, numbers, rows, have[layer.name], time.monotonic() - begun)
                progress.advance(len(numbers))
        return Report(len(self.manifest), len(todo) if engine else 0, time.monotonic() - started)

    def _missing(self, present: set[bytes]) -> list[int]:
        """Row numbers to compute; an image that stands in several rows is computed once."""
        first = {key: number for number, key in reversed(list(enumerate(self.manifest.keys)))}
        return sorted(number for key, number in first.items() if key not in present)

    def _blocks_of_batches(
        self, todo: Sequence[int], batch: int
    ) -> Iterator[tuple[list[int], Iterator[Pixels]]]:
        """Yield (row numbers, their decoded batches); decoding runs ahead of the consumer."""
        widest = max(layer.width(self.preprocessing.size) for layer in self.layers)
        count = min(BLOCK_IMAGES, BLOCK_BYTES // (4 * widest)) // batch * batch or batch
        blocks = [list(todo[start : start + count]) for start in range(0, len(todo), count)]
        batches = [block[i : i + batch] for block in blocks for i in range(0, len(block), batch)]
        decoded = Decoder(self.manifest, self.source, self.preprocessing).batches(batches, batch)
        for block in blocks:
            yield block, (next(decoded) for _ in range(0, len(block), batch))

    def _forward(
        self, engine: Engine | None, batch: Pixels, layers: Sequence[Layer]
    ) -> dict[str, NDArray[np.float32]]:
        rows = engine.run(batch) if engine else {}
        if any(layer.step == "pixels" for layer in layers):
            rows["pixels"] = control_pixels(batch)
        return rows

    def _keep(
        self,
        layer: Layer,
        numbers: Sequence[int],
        rows: NDArray[np.float32],
        have: set[bytes],
        seconds: float,
    ) -> None:
        """Write a block of the rows that the cache does not have yet, in the store's dtype."""
        with np.errstate(over="ignore"):  # an overflow becomes inf and is reported below
            stored = rows.astype(self.dtype)
        if not np.isfinite(stored).all():
            image = self.manifest.rows[numbers[np.flatnonzero(~np.isfinite(stored).all(axis=1))[0]]].path
            remedy = (
                "set extract.dtype to float32"
                if np.isfinite(rows).all()
                else "check the weights and this image"
            )
            raise BadInput(f"layer {layer.name} of {image} holds a value that {self.dtype} cannot; {remedy}")
        new = [i for i, number in enumerate(numbers) if self.manifest.keys[number] not in have]
        if new:
            keys = [self.manifest.keys[numbers[i]] for i in new]
            self.blocks[layer.name].write(
                keys, stored[new], {"seconds": round(seconds, 3), **provenance(self.choice)}
            )

    def places(self, layer: Layer) -> list[Place]:
        """Where each manifest row's activation stands; BadInput where one is not in the cache."""
        index = self.blocks[layer.name].sound_index(set(self.manifest.keys))
        try:
            return [index[key] for key in self.manifest.keys]
        except KeyError:
            raise BadInput(f"layer {layer.name} is not complete in the cache; run `extract` again") from None

    def seconds(self, layer: Layer) -> float:
        """What computing this layer's blocks took, with the layers tapped in the same passes."""
        return sum(block_seconds(block) for block in {place.block for place in self.places(layer)})

    def activations(self, layer: Layer) -> NDArray[np.float32]:
        """All rows of a layer, (n_images, width) float32, computed where the cache lacks them."""
        self.fill()
        width = layer.width(self.preprocessing.size)
        return gather(self.places(layer), width, np.dtype(self.dtype)).astype(np.float32, copy=False)

    def publish(self, layer: Layer, folder: Path, scratch: Path, parameters: Mapping[str, Any]) -> None:
        """Write the layer's store into `folder` in manifest order (see `features.store`).

        `parameters` are the settings it came from, copied into its attributes unread.
        """
        places, width = self.places(layer), layer.width(self.preprocessing.size)
        dtype = np.dtype(self.dtype)
        layout = Layout.of(len(places), width * dtype.itemsize)
        publish(
            folder / f"{layer.stem}.zarr",
            scratch=scratch,
            manifest=self.manifest,
            shards=(
                gather(places[start : start + layout.shard], width, dtype)
                for start in range(0, len(places), layout.shard)
            ),
            layout=layout,
            width=width,
            dtype=self.dtype,
            attributes={**self._attributes(layer), "parameters": dict(parameters)},
        )

    def _attributes(self, layer: Layer) -> dict[str, Any]:
        weights = self.weights.provenance
        return {
            "layer": layer.name,
            "shape": list(layer.shape(self.preprocessing.size)),
            "gflops_per_image": round(gflops(layer.steps, self.preprocessing.size), 3),
            "classes": list(self.manifest.classes),
            "splits": list(SPLITS),
            "manifest": self.manifest.digest,
            "fingerprint": self.blocks[layer.name].fingerprint,
            "weights": self.weights.label(layer.steps),
            "weights_source": {
                name: weights[name] for name in ("network", "source", "sha256") if name in weights
            },
            **{
                k: v
                for k, v in self.facts(layer).items()
                if k in ("tensors", "preprocessing", "dtype", "numerics")
            },
            **provenance(self.choice),
        }


def provenance(choice: Choice) -> dict[str, Any]:
    """What made the numbers, for people: not part of any fingerprint."""
    packages = ("torch", "numpy", "pillow", *(["ncnn"] if choice.name == "ncnn" else []))
    return {"device": choice.device, "versions": {name: version(name) for name in packages}}
