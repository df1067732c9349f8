"""The weights as the kernels read them, made once when the engine is loaded.

    transformed(weight)         # of every convolution but the first: G g Gᵀ, a matrix for each point
    arranged(weight, bias)      # of the first, which is computed directly

Both end in (…, terms, COLUMNS): so wide a panel is what `simd.multiply` reads from front to end.
"""

import numpy as np

from features.engines.winograd.simd import CHUNK, COLUMNS
from features.engines.winograd.transforms import POINTS, G
from features.weights import Array

# Terms of the first convolution: 3 × 3 pixels of 3 channels are 27, the bias is a 28th, and zeros fill
# up: `simd.multiply` takes whole chunks.
FIRST_TERMS = 2 * CHUNK


def transformed(weight: Array) -> Array:
    """Transform weights (outputs, inputs, 3, 3) in float64 to float32 (36, panels, inputs, COLUMNS).

    As one matrix product of all weights: 0.25 s in place of 2 s for VGG16 (docs/performance.md).
    """
    outputs, inputs = weight.shape[:2]
    panels = weight.reshape(outputs // COLUMNS, COLUMNS, inputs, 9).transpose(3, 0, 2, 1)
    both_sides = np.kron(G, G)  # (36, 9): G g Gᵀ, for g as 9 numbers
    points = both_sides @ np.ascontiguousarray(panels, np.float64).reshape(9, -1)  # (36, outputs × inputs)
    return points.astype(np.float32).reshape(POINTS**2, -1, inputs, COLUMNS)


def arranged(weight: Array, bias: Array) -> Array:
    """Arrange the first convolution's weights (outputs, 3, 3, 3) as (panels, 32, COLUMNS)."""
    outputs = len(weight)
    terms = np.zeros((FIRST_TERMS, outputs), np.float32)
    terms[:27] = weight.transpose(2, 3, 1, 0).reshape(27, outputs)  # row, column, channel: as pixels lie
    terms[27] = bias
    panels = terms.reshape(FIRST_TERMS, outputs // COLUMNS, COLUMNS).swapaxes(0, 1)
    return np.ascontiguousarray(panels)  # (panels, 32, COLUMNS)
