"""Cached features for the benchmarks of heads: a published store's train rows, or a stand-in.

X, y, words = cached(Path("artifacts/features/fc7.zarr"), rows=3068)
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.store import FeatureStore

CLASSES, WIDTH = 10, 4096


def cached(
    store: Path | None, rows: int, splits: tuple[str, ...] = ("train",)
) -> tuple[NDArray[np.float32], NDArray[np.int64], str]:
    """Return (n, d) features, (n,) class numbers, and what they are in words.

    Without a store: noise through a ReLU, half of it zero as in fc7, with a spectrum that falls
    and classes that overlap. Solvers take about as long on it as on real features.
    """
    if store:
        opened = FeatureStore.open(store)
        numbers = np.sort(np.concatenate([opened.where(split) for split in splits]))[:rows]
        X, y = opened.rows(numbers), opened.labels[numbers].astype(np.int64)
        return X.reshape(len(X), -1), y, f"{opened.attributes['layer']} of {store}"
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, rows)
    inner = rng.standard_normal((rows, 400), dtype=np.float32) / np.sqrt(1 + np.arange(400, dtype=np.float32))
    inner[:, :CLASSES] += 0.4 * np.eye(CLASSES, dtype=np.float32)[y]
    X = inner @ rng.standard_normal((400, WIDTH), dtype=np.float32)
    X += 0.3 * rng.standard_normal(X.shape, dtype=np.float32)
    return np.maximum(X, 0, out=X), y, "stand-in features (no --store)"


def normalised(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1, in place."""
    for start in range(0, len(X), 4096):
        part = X[start : start + 4096]
        part /= np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
    return X
