"""Normalisation of features, fitted on train rows: part of what tuning chooses."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


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

    def fit(self, X: NDArray[np.float32]) -> Self:
        """Learn column means and deviations from train rows, (n, d) float32."""
        if self.kind == "standard":
            self.mean = X.mean(axis=0, dtype=np.float64).astype(np.float32)
            deviation = X.std(axis=0, dtype=np.float64)
            # A column that varies by rounding only would be blown up to noise
            noise = np.finfo(np.float32).eps * np.abs(X).max(axis=0)
            self.scale = np.where(deviation > noise, deviation, 1).astype(np.float32)
        return self

    def __call__(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalise (…, d) float32."""
        if self.kind == "standard":
            return (X - self.mean) / self.scale
        if self.kind == "l2":
            lengths = np.sqrt((X * X).sum(axis=-1, keepdims=True))
            return np.divide(X, np.where(lengths > 0, lengths, 1), dtype=np.float32)
        return X

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The fitted state."""
        return {"mean": self.mean, "scale": self.scale}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Put a fitted state back; returns self."""
        self.mean, self.scale = arrays["mean"], arrays["scale"]
        return self
