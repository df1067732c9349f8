"""Normalisation of features, fitted on train rows: part of what tuning chooses."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.rows import blocks, in_memory


class Normalisation:
    """`none`; `l2`: each row to length 1; `standard`: each column to mean 0 and variance 1.

    A row of zeros stays zeros; a constant column becomes zeros.

    Attributes
    ----------
    mean, scale : (d,) float32
        Subtracted, then divided by; used by `standard` only.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.mean = self.scale = np.zeros(0, np.float32)

    def fit(self, X: Any) -> Self:
        """Learn column means and deviations from train rows, (n, d) float32, in memory or as a dask array."""
        if self.kind != "standard":
            return self
        shift: Any = None
        total, squares, largest = 0.0, 0.0, 0.0
        for _, part in blocks(X):
            exact = part.astype(np.float64)
            if shift is None:
                shift = exact.mean(axis=0)  # sums of squares about zero would cancel
            exact -= shift
            total, squares = total + exact.sum(axis=0), squares + (exact * exact).sum(axis=0)
            largest = np.maximum(largest, np.abs(part).max(axis=0))
        mean = total / len(X)
        deviation = np.sqrt(np.maximum(squares / len(X) - mean * mean, 0))
        self.mean = (shift + mean).astype(np.float32)
        # A column that varies by rounding only would be blown up to noise
        noise = np.finfo(np.float32).eps * largest
        self.scale = np.where(deviation > noise, deviation, 1).astype(np.float32)
        return self

    def __call__(self, X: Any) -> Any:
        """Normalise (…, d) float32; a dask array when it is read."""
        if not in_memory(X):
            return X.map_blocks(self, dtype=np.float32, meta=np.zeros((0, 0), np.float32))
        if self.kind == "standard":
            return (X - self.mean) / self.scale
        if self.kind == "l2":
            # Not through X * X, which would be as large as X once more
            lengths = np.sqrt(np.einsum("...i,...i->...", X, X))[..., None]
            return np.divide(X, np.where(lengths > 0, lengths, 1), dtype=np.float32)
        return X

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The fitted state."""
        return {"mean": self.mean, "scale": self.scale}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Put a fitted state back; returns self."""
        self.mean, self.scale = arrays["mean"], arrays["scale"]
        return self
