"""The torch engine: CPU, CUDA or MPS."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.engines import Rows, batch_size
from features.images import Preprocessing
from features.modules import build
from features.network import Layer
from features.weights import Weights

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine:
    """Run the longest prefix once and tap every layer on the way (see `features.engines.Engine`)."""

    def __init__(
        self,
        layers: Sequence[Layer],
        weights: Weights,
        preprocessing: Preprocessing,
        *,
        device: str,
        precision: str,
    ) -> None:
        self.layers = tuple(layers)
        self.batch = batch_size(preprocessing.size)
        self.device, self.dtype = torch.device(device), DTYPES[precision]
        path = max((layer.steps for layer in layers), key=len)
        keep_pre = frozenset(layer.step for layer in layers if layer.pre)
        self.modules = build(path, weights.tensors(path), keep_pre=keep_pre).eval().requires_grad_(False)
        self.modules.to(self.device, self.dtype).to(memory_format=torch.channels_last)
        mean, std = weights.normalisation
        self.mean = torch.tensor(mean, device=self.device)[:, None, None]
        self.std = torch.tensor(std, device=self.device)[:, None, None]

    def stream(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Rows]:
        """Run batch after batch, in order."""
        return map(self.run, batches)

    @torch.inference_mode()
    def run(self, images: NDArray[np.uint8]) -> Rows:
        """Map (batch, H, W, 3) uint8 to, per layer name, (batch, width) float32."""
        x = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)  # (B, 3, H, W), channels last
        x = ((x.float() - self.mean) / self.std).to(self.dtype)
        rows: Rows = {}
        for name, module in self.modules.named_children():
            x = module(x)
            for layer in self.layers:
                if name == child(layer):
                    rows[layer.name] = pooled(x, layer).float().cpu().numpy()
        return rows


def child(layer: Layer) -> str:
    """The child of `modules.build` whose output the layer is."""
    return f"{layer.step}_relu" if layer.steps[-1].relu and not layer.pre else layer.step


def pooled(x: Tensor, layer: Layer) -> Tensor:
    """Pool or flatten (B, C, H, W) or (B, D) to (B, width) in channel-major order."""
    if layer.pooling == "avg":
        return x.mean((2, 3))
    if layer.pooling == "max":
        return x.amax((2, 3))
    return x.flatten(1).clone()  # a later in-place ReLU must not reach the tapped values
