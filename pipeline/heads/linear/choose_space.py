"""Which space a problem is solved in.

One product with the n × n Gram matrix stands where the weights take two with the n × d features: cheaper
up to about n = 2d, as long as there is memory for it.
"""

from typing import Any

import torch

from pipeline.heads.linear.row_space import RowSpace
from pipeline.heads.linear.space import Space
from pipeline.heads.linear.weight_space import WeightSpace

# Rows of the largest Gram matrix: 16,384² × 4 B = 1.07 GB, a choice of memory. The hinge holds it in float64
# besides: three times as much in all.
GRAM_ROWS = 16_384
# Rows to which the hinge has a Gram matrix whatever d is: 134 MB in float64. A choice: Newton's systems are
# then of the few rows that are short, not of all d features
GRAM_ALWAYS = 4096


def space_for(X: Any, constant: bool, dtype: torch.dtype) -> Space:
    """Choose the cheaper space.

    Parameters
    ----------
    X : (n, d) NumPy array, which may be a mapped file: it is read in parts
    constant : bool
        Add a feature that is always 1, and penalised. Otherwise features are centred, which
        changes nothing where there is a free intercept.
    """
    n, d = X.shape
    # The hinge's last steps solve systems: of few rows where there is a Gram matrix, else of d features
    most = max(2 * d, GRAM_ALWAYS) if constant else 2 * d
    if n <= min(most, GRAM_ROWS):
        return RowSpace(X, constant, dtype)
    return WeightSpace(X, constant, dtype)
