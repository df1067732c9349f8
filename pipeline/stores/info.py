"""What the published stores hold, a screen for each.

python cli.py info
python cli.py info --layer fc7
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.filesize import decimal
from rich.table import Table

from features import digests
from features.errors import BadInput
from features.manifest import SPLITS
from features.network import parse_layer
from features.store import FeatureStore
from features.summary import Summary, summarise
from pipeline.project import Project
from pipeline.terminal import MARKS, plain_console

WORDS = {"avg": "averaged over the picture", "max": "largest over the picture"}


def info(project: Project, names: Sequence[str] = ()) -> None:
    """Describe the stores of the named layers, by default of all that are published.

    Raises
    ------
    BadInput
        Where there is none, or one is damaged.
    """
    network = project.settings.weights.network
    paths = [project.features / f"{parse_layer(name, network).stem}.zarr" for name in names]
    paths = paths or sorted(project.features.glob("*.zarr"))
    if not paths:
        raise BadInput(f"there are no stores in {project.features}; run `python cli.py extract` first")
    console = plain_console()
    for path in paths:
        store = FeatureStore.open(path)
        shown = Table.grid(padding=(0, 2))
        shown.add_column(no_wrap=True)
        shown.add_column(overflow="fold")
        for name, value in describe(store, summarise(store)):
            shown.add_row(f"  {name}", value)
        console.print(f"{store.attributes['layer']}  {path}", soft_wrap=True, style="bold")
        console.print(shown)
        console.print()


def describe(store: FeatureStore, seen: Summary) -> list[tuple[str, str]]:
    """Lines of name and value."""
    said = store.attributes
    n, views = len(store), said["views"]
    splits = [f"{len(store.where(split)):,} {split}" for split in SPLITS]
    looked = "all rows" if seen.rows == n else f"{seen.rows:,} rows, evenly spaced"
    low, middle, high = seen.norms
    lines = [
        ("holds", _what(said, str(store.features.dtype))),
        ("images", f"{n:,} ({', '.join(splits)}), {len(said['classes'])} classes"),
        ("weights", _weights(said)),
        ("preprocessing", _preprocessing(said["preprocessing"])),
        ("computed by", f"{said['numerics']} on {said['device']}, {said['gflops_per_image']} GFLOP per view"),
        ("size", _size(store)),
        ("zeros", f"{100 * seen.zeros:.1f} % of all numbers"),
        ("rounding", f"{seen.rounding:.1e} of the numbers' root mean square, by {store.features.dtype}"),
        ("lengths", f"{middle:.4g} (5 % below {low:.4g}, 5 % above {high:.4g})"),
        ("dead units", f"{seen.dead:,} of {seen.width:,} never change"),
        ("looked at", looked),
        ("versions", ", ".join(f"{name} {number}" for name, number in said["versions"].items())),
        ("fingerprint", str(said["fingerprint"])),
    ]
    if len(views) > 1:
        lines.insert(2, ("views", f"{len(views)} of each image: {', '.join(views)}"))
    return lines


def _what(said: dict[str, Any], dtype: str) -> str:
    step, *suffixes = str(said["layer"]).split(":")
    parts = [f"before the ReLU of {step}" if "pre" in suffixes else step]
    parts += [WORDS[suffix] for suffix in suffixes if suffix in WORDS]
    shape = " × ".join(str(side) for side in said["shape"])
    total = f" = {np.prod(said['shape']):,}" if len(said["shape"]) > 1 else ""
    return f"{', '.join(parts)}: {shape}{total} numbers per view, {dtype}"


def _weights(said: dict[str, Any]) -> str:
    if said["weights"] == "none":
        return "none: no network"
    source = said["weights_source"]
    return f"{MARKS[said['weights']]}, {source['network']} from {source['source']}"


def _preprocessing(words: dict[str, Any]) -> str:
    height, width = words["size"]
    return f"{height} × {width} pixels, {words['resize']}, {words['filter']}, decoded by {words['decoder']}"


def _size(store: FeatureStore) -> str:
    records = digests.read(store.path)
    on_disk = sum(record.size for record in records.values())
    raw = int(np.prod(store.features.shape)) * store.features.dtype.itemsize
    shards = sum(name.startswith(f"{store.path.stem}/c/") for name in records)
    return f"{decimal(on_disk)} in {shards} shards, {decimal(raw)} uncompressed (ratio {raw / on_disk:.2f})"
