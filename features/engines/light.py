"""What the CPU engine computes behind its convolutions, by NumPy: for answers at once, without torch.

Importing torch takes longer than the network does for an image. The numbers are those of `dense`
within the engine's tolerance, not to the last bit: stores are made with that one.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from features.engines.base import Rows
from features.network import POOLED, Layer, Size, Step
from features.pooling import averaging_matrix, is_joined
from features.weights import Array

TOGETHER = 256  # outputs of `fc6` whose pooling is joined at once: bounds the memory


class DenseProducts:
    """Maps the last convolution's activations to the tapped dense layers (see `dense.DenseLayers`)."""

    def __init__(
        self, steps: Sequence[Step], tensors: Mapping[str, Array], layers: Sequence[Layer], size: Size
    ) -> None:
        self.steps, self.layers = steps, layers
        self.weights = {step.name: tensors[f"{step.key}.weight"] for step in steps}
        self.biases = {step.name: tensors[f"{step.key}.bias"] for step in steps}
        self.down, self.across = (averaging_matrix(side, POOLED) for side in size)
        self.joined = is_joined(size)
        if self.joined:
            self.weights["fc6"] = self._joined(self.weights["fc6"])

    def __call__(self, ends: Sequence[Array]) -> Rows:
        """Map parts of a batch, each (n, C, H, W), to, per tapped layer, (n of all, width) float32."""
        x: Array = np.concatenate(ends)
        if not self.joined and x.shape[2:] != (POOLED, POOLED):
            x = np.asarray(self.down @ x @ self.across.T, np.float32)  # (n, C, 7, 7)
        x = x.reshape(len(x), -1)
        rows: Rows = {}
        for step in self.steps:
            x = x @ self.weights[step.name].T + self.biases[step.name]
            tapped = [layer for layer in self.layers if layer.step == step.name]
            rows |= {layer.name: x for layer in tapped if layer.pre}
            x = np.maximum(x, 0) if step.relu else x
            rows |= {layer.name: x for layer in tapped if not layer.pre}
        return rows

    def _joined(self, weight: Array) -> Array:
        """Join the pooling to 7 × 7 and `fc6` (see `features.modules.pooling_joined`)."""
        down, across = self.down.astype(np.float64), self.across.astype(np.float64)
        parts = []
        for start in range(0, len(weight), TOGETHER):
            part = weight[start : start + TOGETHER].reshape(-1, weight.shape[1] // POOLED**2, POOLED, POOLED)
            parts.append((down.T @ (part @ across)).reshape(len(part), -1).astype(np.float32))
        return np.concatenate(parts)
