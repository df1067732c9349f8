"""Blocks in the cache → a published store: rows in manifest order, and what they are.

assemble(extraction, layer, folder, scratch, {})    # folder / "fc7.zarr", see `features.publish`
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.cache import gather, open_rows
from features.extraction import Extraction, provenance
from features.manifest import SPLITS
from features.network import Layer
from features.publish import publish

OPEN_BLOCKS = 4  # at once; each takes a file descriptor, and memory once it is read


def assemble(
    extraction: Extraction,
    layer: Layer,
    folder: Path,
    scratch: Path,
    parameters: Mapping[str, Any],
    *,
    reuse: bool = True,
) -> None:
    """Write the layer's store into `folder` (see `features.publish`).

    `parameters` are the settings it came from, copied into its attributes unread.

    Raises
    ------
    BadInput
        Where an image is not in the cache.
    """
    with extraction.watch("publish"):
        recipe, views = extraction.recipe, extraction.recipe.views
        width, dtype = layer.width(recipe.preprocessing.size), np.dtype(recipe.dtype)
        places = [extraction.places(layer, view) for view in views]
        opened = lru_cache(OPEN_BLOCKS)(open_rows)

        def rows(start: int, stop: int) -> NDArray[Any]:
            parts = [gather(of_view[start:stop], width, dtype, opened) for of_view in places]
            return np.stack(parts, axis=1) if len(parts) > 1 else parts[0]

        publish(
            folder / f"{layer.stem}.zarr",
            scratch=scratch,
            manifest=extraction.manifest,
            rows=rows,
            shape=(len(views), width) if len(views) > 1 else (width,),
            dtype=recipe.dtype,
            attributes={**_attributes(extraction, layer), "parameters": dict(parameters)},
            reuse=reuse,
        )
        for view in views:
            extraction.blocks[layer.name, view].touch()


def _attributes(extraction: Extraction, layer: Layer) -> dict[str, Any]:
    recipe = extraction.recipe
    size, weights = recipe.preprocessing.size, recipe.weights.provenance
    facts = recipe.facts(layer, recipe.views[0])
    return {
        "layer": layer.name,
        "shape": list(layer.shape(size)),
        "views": list(recipe.views),
        "gflops_per_image": round(layer.gflops(size), 3),
        "classes": list(extraction.manifest.classes),
        "splits": list(SPLITS),
        "manifest": extraction.manifest.digest,
        "fingerprint": recipe.fingerprint(layer),
        "fingerprints": recipe.fingerprints(layer),
        "weights": recipe.weights.label(layer),
        "weights_source": {
            name: weights[name] for name in ("network", "source", "sha256") if name in weights
        },
        **{name: facts[name] for name in ("tensors", "preprocessing", "dtype", "numerics")},
        **provenance(recipe.choice),
    }
