"""What `fc6` sees: the last activation averaged to 7 × 7, as torchvision's adaptive pooling does it.

At 7 × 7 that is the identity. Elsewhere it is linear, as `fc6` is: where the activation is smaller than
7 × 7, both are joined into one product of fewer terms (49 times fewer at 32 px).
"""

import numpy as np

from features.network import POOLED, Size
from features.weights import Array


def is_joined(size: Size) -> bool:
    """Whether the pooling of an activation of this height and width and `fc6` are one product."""
    return size[0] * size[1] < POOLED**2


def averaging_matrix(inputs: int, outputs: int) -> Array:
    """Matrix (outputs, inputs) float32 of one-dimensional adaptive average pooling.

    Output i averages inputs floor(i·n/m) … ceil((i+1)·n/m) − 1, as torch defines it.
    """
    i, j = np.arange(outputs)[:, None], np.arange(inputs)
    first, last = i * inputs // outputs, ((i + 1) * inputs + outputs - 1) // outputs
    return (((first <= j) & (j < last)) / (last - first)).astype(np.float32)
