"""Rows of features as heads take them: a NumPy array, or a dask array where they do not fit memory.

for rows, X in blocks(features):
    scores[rows] = X @ W
"""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

BLOCK = 2048  # rows of an array in memory that are worked on at once


def in_memory(X: Any) -> bool:
    """Whether features lie in memory; otherwise they are a dask array, read a chunk at a time."""
    return isinstance(X, np.ndarray)


def blocks(X: Any) -> Iterator[tuple[slice, NDArray[Any]]]:
    """All rows in order, a part at a time: (which rows, (m, d) array).

    A dask array's next chunk is read while the caller works on this one.
    """
    if in_memory(X):
        for start in range(0, len(X), BLOCK):
            yield slice(start, min(start + BLOCK, len(X))), X[start : start + BLOCK]
        return
    ends = np.cumsum(X.chunks[0]).tolist()
    parts = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    with ThreadPoolExecutor(1, "rows") as reader:
        ahead = reader.submit(X[parts[0]].compute)
        for number, rows in enumerate(parts):
            part = ahead.result()
            if number + 1 < len(parts):
                ahead = reader.submit(X[parts[number + 1]].compute)
            yield rows, part


def at_hand(X: Any) -> NDArray[Any]:
    """Features for solvers that read them again and again: as they are, or of a dask array a mapped file.

    Unpacking a store takes many times as long as the products with it, so that is done once, into
    a temporary file (in `TMPDIR`, gone with the array), of which the system keeps in memory
    what it has room for.

    Raises
    ------
    OSError
        Where the disk is full.
    """
    if in_memory(X):
        return np.asarray(X)
    with tempfile.TemporaryFile() as file:
        for _, part in blocks(X):
            np.ascontiguousarray(part, X.dtype).tofile(file)
        file.flush()
        return np.memmap(file, X.dtype, "r+", shape=X.shape)


def row_weights(
    y: NDArray[Any], classes: NDArray[Any], views: int, class_weight: Any = None
) -> NDArray[np.float64]:
    """What each row's loss counts, (n,): 1 / views, so that images weigh the same however often seen.

    Parameters
    ----------
    y : (n,) positions in `classes`
    class_weight : None, "balanced" or {class: weight}
        A factor for each class, as in scikit-learn; `balanced` makes every class count the same.
    """
    factors = compute_class_weight(class_weight, classes=classes, y=classes[y])
    return np.asarray(factors[y] / views)
