"""The whole algorithm in plain NumPy, to be read beside the paper: what the fast kernels compute.

    y = convolution(x, weight, bias)       # (n, height, width, outputs)

Nothing but the tests runs it. They hold it against a direct convolution, and the kernels against it.

References
----------
Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308, section 4.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from features.engines.winograd.transforms import A_T, B_T, POINTS, TILE, G


def convolution(x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any]) -> NDArray[np.float64]:
    """Convolve by 3 × 3 with zeros around, add the bias, apply the ReLU; in float64.

    Parameters
    ----------
    x : array (n, H, W, C)
    weight : array (K, C, 3, 3)
    bias : array (K,)

    Returns
    -------
    float64 (n, H, W, K)
    """
    n, height, width, _ = x.shape
    high, wide = -(-height // TILE), -(-width // TILE)  # tiles; the last ones overhang
    around = [(0, 0), (1, high * TILE - height + 1), (1, wide * TILE - width + 1), (0, 0)]
    windows = sliding_window_view(np.pad(x, around), (POINTS, POINTS), (1, 2))
    d = windows[:, ::TILE, ::TILE]  # (n, high, wide, C, 6, 6): each overlaps its neighbours by 2
    u = G @ weight @ G.T  # (K, C, 6, 6)
    v = B_T @ d @ B_T.T  # (n, high, wide, C, 6, 6)
    m = np.einsum("nhwcij,kcij->nhwkij", v, u)  # a matrix product over the channels, for each of 36 points
    tiles = A_T @ m @ A_T.T  # (n, high, wide, K, 4, 4)
    y = tiles.transpose(0, 1, 4, 2, 5, 3).reshape(n, high * TILE, wide * TILE, -1)[:, :height, :width]
    return np.asarray(np.maximum(y + bias, 0), np.float64)  # (n, H, W, K)
