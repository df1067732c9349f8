"""The dense layers behind our own convolutions, as products of a whole batch in torch."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from features.engines.base import Rows, child
from features.engines.pytorch import pooled
from features.modules import build, pooling_joined
from features.network import Layer, Size, Step
from features.pooling import is_joined
from features.turns import starts_threads
from features.weights import Array


class DenseLayers:
    """Maps the last convolution's activations to the tapped dense layers.

    Parameters
    ----------
    steps : sequence of Step
        Consecutive dense steps, `fc6` first.
    tensors : mapping of str to float32 array
        Their weights and biases by torchvision's names.
    layers : sequence of Layer
        All that are tapped; those of other steps are passed over.
    size : (int, int)
        Height and width of the activations given.
    batch : int
        Rows of every product: its rounding depends on how many there are.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        tensors: Mapping[str, Array],
        layers: Sequence[Layer],
        size: Size,
        batch: int,
    ) -> None:
        starts_threads("torch")
        self.layers, self.batch = layers, batch
        keep_pre = frozenset(layer.step for layer in layers if layer.pre)
        self.modules = build(steps, tensors, keep_pre=keep_pre).eval().requires_grad_(False)
        if is_joined(size):
            joined = pooling_joined(self.modules.get_parameter("fc6.weight"), *size)
            self.modules.get_submodule("fc6").weight = nn.Parameter(joined, requires_grad=False)
            self.modules.pool7 = nn.Identity()

    @torch.inference_mode()
    def __call__(self, ends: Sequence[Array]) -> Rows:
        """Map parts of a batch, each (n, C, H, W), to, per tapped layer, (n of all, width) float32."""
        starts_threads("torch")
        count = sum(map(len, ends))
        activation = torch.zeros(self.batch, *ends[0].shape[1:])
        torch.cat([torch.from_numpy(end) for end in ends], out=activation[:count])
        rows: Rows = {}
        for name, module in self.modules.named_children():
            activation = module(activation)
            tapped = [layer for layer in self.layers if child(layer) == name]
            rows |= {layer.name: pooled(activation[:count], layer).numpy() for layer in tapped}
        return rows


@torch.inference_mode()
def averaged(activation: Array) -> Array:
    """Average (n, C, H, W) over its pixels, one image at a time: a sum's rounding may depend on how many."""
    starts_threads("torch")
    images = torch.from_numpy(activation).split(1)
    return np.asarray(torch.cat([image.mean((2, 3)) for image in images]).numpy())
