"""Publishing a store from the cache's blocks, against zarr writing the same array from memory.

    python -m benchmarks.publish

Ours finds the blocks, checks their digests, gathers, encodes, hashes what it writes and
flushes it to disk; zarr's side is one assignment, neither hashed nor flushed. Both use
the same chunks, shards and codec, on all cores, alternating; medians of five. The ratio
printed last is ours over zarr's rate, of the layer where it is smaller: at least 0.8.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from features.assemble import assemble
from features.engines.choice import Choice
from features.extraction import Extraction
from features.forward import BLOCK_IMAGES
from features.images import ImageArrays, Preprocessing
from features.manifest import Manifest, Row
from features.network import parse_layer, steps
from features.publish import LEVEL
from features.recipe import Recipe
from features.store import FeatureStore
from features.weights import Weights

ROUNDS = 5
BYTES = 512 << 20  # per layer
ZEROS = {"fc7": 0.75, "pool5": 0.85}  # about what ImageNet's weights give on photographs


def some_manifest(n: int) -> Manifest:
    """A manifest of `n` images, its columns at hand as after `read_manifest`."""
    rows = [Row(f"{i:06}", f"{i:06}", "ab"[i % 2], "train", f"{i:064x}", 9, 9) for i in range(n)]
    manifest = Manifest(tuple(rows))
    _ = manifest.keys, manifest.labels, manifest.splits, manifest.digest
    return manifest


def extraction(folder: Path, layer: str, manifest: Manifest) -> Extraction:
    """An extraction whose cache is filled by hand: no image and no weight is ever read."""
    table = steps("vgg16")
    provenance = {
        "network": "vgg16", "source": "none", "layers": {step.name: "random" for step in table},
        "tensors": {name: "0" * 64 for step in table for name in step.tensors},
    }  # fmt: skip
    preprocessing = Preprocessing((224, 224), True, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    recipe = Recipe(
        (parse_layer(layer, "vgg16"),), ("none",), Weights(folder / "none", provenance), preprocessing,
        Choice("winograd", "cpu", "fp32", ""), "float16", folder / "cache",
    )  # fmt: skip
    return Extraction(recipe, manifest, ImageArrays({}))


def measure(layer: str) -> float:
    """Print the rates for one layer; return their ratio."""
    width = parse_layer(layer, "vgg16").width((224, 224))
    n = BYTES // (2 * width)
    rng = np.random.default_rng(0)
    rows = np.empty((n, width), np.float16)
    for start in range(0, n, 1024):  # a network's rows: most are zero, the rest half normal
        part = rng.standard_normal((min(1024, n - start), width), dtype=np.float32)
        rows[start : start + 1024] = np.where(rng.random(part.shape) < ZEROS[layer], 0, np.abs(part))
    with tempfile.TemporaryDirectory() as name:
        folder, manifest = Path(name), some_manifest(n)
        plan = extraction(folder, layer, manifest)
        blocks = plan.blocks[layer, "none"]
        for start in range(0, n, BLOCK_IMAGES):
            stop = min(n, start + BLOCK_IMAGES)
            blocks.write(manifest.keys[start:stop], rows[start:stop], {"seconds": 1.0})
        ours, theirs = [], []
        for number in range(ROUNDS):
            os.sync()
            fresh = extraction(folder, layer, manifest)  # nothing checked yet
            started = time.perf_counter()
            assemble(fresh, fresh.recipe.layers[0], folder / f"ours{number}", folder / "scratch", {})
            ours.append(time.perf_counter() - started)
            store = FeatureStore(folder / f"ours{number}" / f"{layer}.zarr").features
            os.sync()
            started = time.perf_counter()
            array = zarr.create_array(
                str(folder / f"theirs{number}"), shape=rows.shape, dtype=rows.dtype, chunks=store.chunks,
                shards=store.shards, compressors=ZstdCodec(level=LEVEL, checksum=True), fill_value=np.nan,
                config={"write_empty_chunks": True},
            )  # fmt: skip
            array[...] = rows
            theirs.append(time.perf_counter() - started)
    mine, other = (rows.nbytes / 1e6 / statistics.median(times) for times in (ours, theirs))
    print(f"{layer:>8s}{n:9,d}{mine:14.0f}{other:14.0f}{mine / other:9.2f}", flush=True)
    return mine / other


def main() -> None:
    """Measure and print."""
    print("   layer     rows     ours MB/s     zarr MB/s    ratio", flush=True)
    print(f"ratio: {min(measure(layer) for layer in ZEROS):.2f}")


if __name__ == "__main__":
    main()
