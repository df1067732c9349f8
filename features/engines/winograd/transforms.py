"""Winograd's F(4 × 4, 3 × 3): its three matrices, and two of them written out with fewer operations.

    y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A      # d: 6 × 6 inputs, g: 3 × 3 weights, y: 4 × 4 outputs

A, B and G are the paper's names. What a convolution by 3 × 3 does to a tile is a product of
polynomials: evaluated at six points, multiplied there, and interpolated. One channel takes 36
multiplications in place of 144. `reference.py` computes with the matrices; `filters.py` takes G;
`simd.py` takes `input_transform` and `output_transform`, which are Bᵀ and Aᵀ.

References
----------
Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308, section 4.
Barabasz et al., Error Analysis and Improving the Accuracy of Winograd Convolution for
Deep Neural Networks, arXiv:1803.10986: the points decide the rounding error.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any

import numpy as np

# Outputs of a tile, along each side. With 6, F(6 × 6, 3 × 3), a fifth fewer multiplications: as fast at
# 224 px, half as fast at 32 px, where more of a tile overhangs, and twice the rounding error
# (docs/performance.md).
TILE = 4
POINTS = TILE + 2  # inputs of a tile, along each side, and points of the interpolation

# The points are 0, ±√½, ±√2 and ∞. With the usual 0, ±1, ±2, ∞ the largest rounding error is four times
# as large (docs/performance.md); and these make the most constants 1.
ROOT_HALF, ROOT_TWO = sqrt(0.5), sqrt(2.0)

B_T = np.array(  # (6, 6), of the inputs
    [
        [1, 0, -5 / 2, 0, 1, 0],
        [0, -ROOT_TWO, -2, ROOT_HALF, 1, 0],
        [0, ROOT_TWO, -2, -ROOT_HALF, 1, 0],
        [0, -ROOT_HALF, -1 / 2, ROOT_TWO, 1, 0],
        [0, ROOT_HALF, -1 / 2, -ROOT_TWO, 1, 0],
        [0, 1, 0, -5 / 2, 0, 1],
    ]
)
G = np.array(  # (6, 3), of the weights
    [
        [1, 0, 0],
        [-2 / 3, -2 / 3 * ROOT_HALF, -1 / 3],
        [-2 / 3, 2 / 3 * ROOT_HALF, -1 / 3],
        [1 / 6, ROOT_TWO / 6, 1 / 3],
        [1 / 6, -ROOT_TWO / 6, 1 / 3],
        [0, 0, 1],
    ]
)
A_T = np.array(  # (4, 6), of the products: the points' powers 0 to 3
    [
        [1, 1, 1, 1, 1, 0],
        [0, ROOT_HALF, -ROOT_HALF, ROOT_TWO, -ROOT_TWO, 0],
        [0, 1 / 2, 1 / 2, 2, 2, 0],
        [0, ROOT_HALF / 2, -ROOT_HALF / 2, 2 * ROOT_TWO, -2 * ROOT_TWO, 1],
    ]
)

Transform = Callable[[Sequence[Any]], list[Any]]


def input_transform(d: Sequence[Any]) -> list[Any]:
    """Bᵀ d: six numbers, or vectors of them, to six; what ±x have in common is computed once."""
    a, b = d[4] - 2 * d[2], ROOT_HALF * (d[3] - 2 * d[1])  # at ±√½
    c, e = d[4] - 0.5 * d[2], ROOT_TWO * (d[3] - 0.5 * d[1])  # at ±√2
    return [d[0] - 2.5 * d[2] + d[4], a + b, a - b, c + e, c - e, d[1] - 2.5 * d[3] + d[5]]


def output_transform(m: Sequence[Any]) -> list[Any]:
    """Aᵀ m: six numbers, or vectors of them, to four."""
    a, b, c, d = m[1] + m[2], ROOT_HALF * (m[1] - m[2]), m[3] + m[4], ROOT_TWO * (m[3] - m[4])
    return [m[0] + a + c, b + d, 0.5 * a + 2 * c, 0.5 * b + 2 * d + m[5]]


def both_sides(transform: Transform, tile: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Transform the columns of a tile, then the rows of what that gives: Bᵀ d B, or Aᵀ m A."""
    columns = [transform(column) for column in zip(*tile, strict=True)]
    return [transform(row) for row in zip(*columns, strict=True)]
