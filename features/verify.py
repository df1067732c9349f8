"""Is a store what it says it is? Every file, every row, and some rows computed once more.

    findings = check_files(path) + check_content(path, manifest)
    recomputed = check_rows(FeatureStore.open(path), extraction, layer, numbers)

Each check returns sentences, none where all is well: a store is examined to its end, not
to its first fault.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features import digests
from features.cores import cores
from features.engines.choice import tolerance
from features.errors import BadInput
from features.extraction import Extraction
from features.files import of_machine
from features.manifest import Manifest
from features.network import Layer
from features.progress import Progress
from features.publish import COORDINATES
from features.store import FeatureStore


def check_files(store: Path) -> list[str]:
    """Compare every file of a store with its digest; name what is missing, altered or foreign."""
    try:
        records = digests.read(store)
    except BadInput as error:
        return [str(error)]
    total = sum(record.size for record in records.values()) >> 20
    found = []
    with ThreadPoolExecutor(cores()) as pool, Progress("verify", total, "MB") as progress:
        damages = pool.map(
            lambda item: digests.damage(store / item[0], item[1], content=True), records.items()
        )
        for (name, record), damage in zip(records.items(), damages, strict=True):
            progress.advance(record.size >> 20)
            if damage:
                found.append(f"{store / name} {damage}")
    for name, file in digests.files(store).items():
        if name not in records:
            found.append(f"{file} does not belong to the store")
    return found


def check_content(store: Path, manifest: Manifest) -> list[str]:
    """Decode every chunk, which checks zarr's checksums; compare rows, ids, labels, splits and images."""
    try:
        opened = FeatureStore.open(store)
        n, width = len(opened), int(np.prod(opened.attributes["shape"]))
        views = opened.attributes["views"]
        want = (n, len(views), width) if len(views) > 1 else (n, width)
        if opened.features.shape != want or any(opened.array(name).shape[0] != n for name in COORDINATES):
            return [f"{store}: its arrays do not have the shapes that it states"]
        found = _differences(opened, manifest) if n == len(manifest) else []
        if n != len(manifest):
            found = [f"{store} has {n} rows, the manifest {len(manifest)} images"]
    except BadInput as error:
        return [str(error)]
    except (RuntimeError, OSError, ValueError, KeyError, TypeError) as error:
        if of_machine(error):
            raise
        return [f"{store} cannot be read ({error})"]
    shard = (opened.features.shards or opened.features.chunks)[0]
    with Progress("verify", n, "rows") as progress:
        for start in range(0, n, shard):
            try:
                for numbers, _ in opened.stream(np.arange(start, min(n, start + shard))):
                    progress.advance(len(numbers))
            except BadInput as error:
                found.append(str(error))
    return found


def _differences(opened: FeatureStore, manifest: Manifest) -> list[str]:
    """Name the first row in which each coordinate differs from the manifest."""
    found = []
    if opened.attributes["manifest"] != manifest.digest:
        found.append(f"{opened.path} is of another manifest")
    splits = np.asarray(opened.array("split")[:])
    same = {
        "id": np.array([a == row.id for a, row in zip(opened.ids, manifest.rows, strict=True)]),
        "label": opened.labels == manifest.labels,
        "split": splits == manifest.splits,
        "sha256": (opened.keys == manifest.keys).all(axis=1),
    }
    for name, equal in same.items():
        if not equal.all():
            row = int(np.flatnonzero(~equal)[0])
            found.append(f"{opened.path}: {name} of row {row} is not that of {manifest.rows[row].path}")
    return found


@dataclass(frozen=True)
class Recomputed:
    """Rows that met the network once more.

    Attributes
    ----------
    largest : float
        Largest difference from what is stored, rounding to the store's dtype included.
    findings : list of str
        Rows that differ by more than the engine's numbers may.
    """

    largest: float
    findings: list[str]


def check_rows(
    store: FeatureStore, extraction: Extraction, layer: Layer, numbers: NDArray[np.intp]
) -> Recomputed:
    """Run the images of some rows through the network again, past the cache, in all views.

    Allowed is one spacing of the store's dtype at that value, plus the engine's
    tolerance times the layer's largest value.
    """
    views = len(extraction.recipe.views)
    stored = store.rows(numbers).reshape(len(numbers) * views, -1)
    grid = (numbers[:, None] * views + np.arange(views)).ravel()
    parts = [computed.rows[layer.name] for computed in extraction.compute(grid, [layer])]
    fresh = np.concatenate(parts).astype(np.float32, copy=False)
    spacing = np.spacing(np.abs(fresh).astype(extraction.recipe.dtype)).astype(np.float32)
    allowed = spacing + tolerance(extraction.recipe.choice.numerics) * np.abs(fresh).max()
    difference = np.abs(stored - fresh)
    findings = []
    for position in np.flatnonzero((difference > allowed).any(axis=1)):
        row = extraction.manifest.rows[grid[position] // views]
        view = extraction.recipe.views[grid[position] % views]
        findings.append(
            f"{store.path}: row {grid[position] // views} ({row.path}, view {view}) is not what the network "
            f"computes: it differs by {difference[position].max():.3g}"
        )
    return Recomputed(float(difference.max()), findings)
