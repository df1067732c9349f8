"""Rows out of a store's array, a shard at a time, each checked for being whole.

for numbers, rows in streamed(array, positions, None, path): ...
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from features.errors import BadInput
from features.files import naming, of_machine
from features.positions import Positions
from features.vouched import REMEDY

Features = NDArray[np.float32]


def streamed(
    array: zarr.Array[Any], numbers: Positions, view: int | None, path: Path
) -> Iterator[tuple[Positions, Features]]:
    """Read ascending rows a shard at a time, of one view or of all; `path` is for the sentences.

    Only chunks that hold a row asked for are decoded.

    Raises
    ------
    BadInput
        Where one is missing, damaged or holds what is not a finite number.
    """
    shard, chunk = (array.shards or array.chunks)[0], array.chunks[0]
    for part in _runs(numbers, numbers // shard):
        # Neighbouring chunks are decoded in one call, which spreads them over the cores
        for run in _runs(part, np.cumsum(np.diff(part // chunk, prepend=part[0] // chunk) > 1)):
            start = int(run[0]) // chunk * chunk
            stop = min((int(run[-1]) // chunk + 1) * chunk, array.shape[0])
            yield run, _read(array, start, stop, run - start, view, path)


def _read(
    array: zarr.Array[Any], start: int, stop: int, local: Positions, view: int | None, path: Path
) -> Features:
    try:
        with naming(path):
            stored = np.asarray(array[start:stop])
    except BadInput:
        raise
    except (RuntimeError, OSError, ValueError) as error:
        if of_machine(error):
            raise
        raise BadInput(f"{path} is damaged in rows {start} to {stop - 1} ({error}); {REMEDY}") from error
    if view is not None:
        stored = stored[:, view]
    if len(local) != len(stored) or (np.diff(local) != 1).any():
        stored = stored[local]
    rows = stored.astype(np.float32, copy=False)
    whole = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
    if not whole.all():
        bad = start + local[np.flatnonzero(~whole)[0]]
        raise BadInput(f"{path} has no valid features in row {bad} (a missing chunk); {REMEDY}")
    return rows


def finite(stored: NDArray[Any], path: Path) -> Features:
    """Cast a lazy array's chunk to float32; BadInput where it holds what is not a finite number."""
    rows = stored.astype(np.float32, copy=False)
    if not np.isfinite(rows).all():
        raise BadInput(f"{path} has a row without valid features (a missing chunk); {REMEDY}")
    return rows


def _forked() -> None:
    """Let dask have threads of its own in a forked process: it would wait for its parent's for ever."""
    threaded: Any = sys.modules.get("dask.threaded")
    if threaded:
        threaded.default_pool = None
        threaded.pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _runs(positions: Positions, groups: NDArray[Any]) -> list[Positions]:
    """Split where the group changes; none for no positions."""
    return np.split(positions, np.flatnonzero(np.diff(groups)) + 1) if len(positions) else []
