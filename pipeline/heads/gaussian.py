"""The Gaussian kernel exp(−γ‖a − b‖²), from squared distances; and Nyström's approximation of it.

Among n rows the kernel has n² entries. For many rows, m of them (landmarks L) stand for all:

    K(X, X) ≈ Z Zᵀ with Z = K(X, L) · K(L, L)^(−1/2)

exactly so among the landmarks, so that a linear model on Z replaces one with the kernel.

References
----------
Williams & Seeger, Using the Nyström method to speed up kernel machines, NIPS 2000.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from pipeline.heads.rows import blocks, in_memory

Array = NDArray[Any]

COLUMNS = 4096  # features that are cast to float64 at once
SEED = 0  # draws the landmarks
# Smallest eigenvalue of K(L, L), as in scikit-learn: below it there is rounding and nothing else
FLOOR = 1e-12


def kernel(squares: Array, gamma: float, out: Array | None = None) -> NDArray[np.float64]:
    """exp(−γ · squared distances), of their shape; `out` is used for it if given."""
    exponents = np.multiply(squares, -gamma, out=out)
    return np.asarray(np.exp(exponents, out=exponents))


def squared_distances(A: Array, B: Array) -> NDArray[np.float64]:
    """‖a − b‖² for all rows, (n, m) float64, from matrix products; of A with itself for half the price."""
    squares = np.zeros((len(A), len(B)))
    for start in range(0, A.shape[1], COLUMNS):
        a = A[:, start : start + COLUMNS].astype(np.float64)
        b = a if A is B else B[:, start : start + COLUMNS].astype(np.float64)
        products = a @ b.T  # NumPy sees where both are the same, and computes one triangle
        products *= -2
        squares += products
        squares += np.einsum("ij,ij->i", a, a)[:, None]
        squares += np.einsum("ij,ij->i", b, b)
    return np.maximum(squares, 0, out=squares)


def unit(X: Any) -> float:
    """1 / (features × variance of all entries), scikit-learn's gamma `scale`; 1 for constant features.

    Parameters
    ----------
    X : (n, d) array or dask array
    """
    total, squares, first = 0.0, 0.0, None
    for _, rows in blocks(X):
        first = np.float64(rows[0, 0]) if first is None else first
        for start in range(0, rows.shape[1], COLUMNS):
            # Seen from the first entry constant features are exactly 0, and others lose no digits
            values = rows[:, start : start + COLUMNS] - first  # float64
            total += float(values.sum())
            squares += float(np.vdot(values, values))
    size = X.shape[0] * X.shape[1]
    variance = squares / size - (total / size) ** 2
    return 1 / (X.shape[1] * variance) if variance > 0 else 1.0


def draw(X: Any, count: int) -> Array:
    """Draw landmarks, (min(count, n), d), among the rows of an array or a dask array."""
    drawn = np.random.default_rng(SEED).choice(X.shape[0], min(count, X.shape[0]), replace=False)
    rows = X[np.sort(drawn)]
    return np.asarray(rows if in_memory(X) else rows.compute())


def root(K: Array) -> NDArray[np.float64]:
    """K^(−1/2) of a kernel among landmarks, (m, m)."""
    values, vectors = eigh(K)
    return np.asarray((vectors / np.sqrt(np.maximum(values, FLOOR))) @ vectors.T)
