"""A first look at a store's numbers: zeros, rounding, norms, dead units.

summary = summarise(FeatureStore("fc7"))
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.store import FeatureStore

SAMPLE_BYTES = 256 << 20  # in float32: what a first look may read
PERCENTILES = (5, 50, 95)


@dataclass(frozen=True)
class Summary:
    """What some rows of a store look like; all of them where they are few.

    Attributes
    ----------
    rows : int
        Images looked at, evenly spaced.
    zeros : float
        Share of numbers that are exactly zero.
    rounding : float
        Root mean square of the rounding to the store's dtype, as a share of the numbers'
        own: expected of rounding to nearest, spacing / √12 at each number.
    norms : (3,) float
        Lengths of the rows at the 5th, 50th and 95th percentile.
    dead : int
        Features that have one and the same value in every row looked at.
    width : int
        Features per image.
    """

    rows: int
    zeros: float
    rounding: float
    norms: tuple[float, float, float]
    dead: int
    width: int


def summarise(store: FeatureStore) -> Summary:
    """Look at up to `SAMPLE_BYTES` of a store, all views."""
    n, width = len(store), store.features.shape[-1]
    views = store.features.shape[1] if store.features.ndim == 3 else 1
    most = max(1, SAMPLE_BYTES // (4 * width * views))
    numbers = np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.intp))
    zeros, squares, errors, norms = 0, 0.0, 0.0, []
    least, most_seen = np.full(width, np.inf, np.float32), np.full(width, -np.inf, np.float32)
    for _, part in store.stream(numbers):
        rows = part.reshape(-1, width)
        zeros += int((rows == 0).sum())
        squares += float(np.square(rows, dtype=np.float64).sum())
        errors += _rounding(rows, store.features.dtype)
        norms.append(np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1)))
        least, most_seen = np.minimum(least, rows.min(axis=0)), np.maximum(most_seen, rows.max(axis=0))
    low, middle, high = np.percentile(np.concatenate(norms), PERCENTILES)
    return Summary(
        rows=len(numbers),
        zeros=zeros / (len(numbers) * views * width),
        rounding=float(np.sqrt(errors / squares)) if squares else 0.0,
        norms=(float(low), float(middle), float(high)),
        dead=int((least == most_seen).sum()),
        width=width,
    )


def _rounding(rows: NDArray[np.float32], dtype: np.dtype[np.generic]) -> float:
    """Sum of the expected squares of rounding errors; none for exact zeros, which a ReLU gives."""
    spacing = np.spacing(np.abs(rows[rows != 0]).astype(dtype)).astype(np.float64)
    return float(np.square(spacing).sum() / 12)
