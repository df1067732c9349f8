"""The torch engine on a CPU or on MPS, and the network that it shares with CUDA."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.engines.base import Rows, batch_size, child, padded
from features.images import Preprocessing
from features.modules import build
from features.network import Layer, deepest
from features.turns import starts_threads, turn
from features.weights import RGB, Weights

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine:
    """Run the longest prefix once and tap every layer on the way (see `features.engines.base.Engine`)."""

    def __init__(
        self,
        layers: Sequence[Layer],
        weights: Weights,
        preprocessing: Preprocessing,
        *,
        device: str,
        precision: str,
    ) -> None:
        self.batch = batch_size(preprocessing.size)
        self.device = torch.device(device)
        self.network = TappedNetwork(layers, weights, device=device, precision=precision)

    @torch.inference_mode()
    def run(self, images: NDArray[np.uint8]) -> Rows:
        """Map (n, H, W, 3) uint8, n at most `batch`, to, per layer name, (n, width) float32."""
        starts_threads("torch")
        with turn:
            rows = self.network(torch.from_numpy(padded(images, self.batch)).to(self.device))
            return {name: values[: len(images)].float().cpu().numpy() for name, values in rows.items()}

    def stream(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Rows]:
        """Run batch after batch, in order."""
        return map(self.run, batches)


class TappedNetwork:
    """The longest of the layers' prefixes, in segments that end where a layer is tapped.

    Attributes
    ----------
    segments : list of (module, layers)
        The first one normalises; the layers are tapped behind the module. Each can be
        compiled alone, while pooling stays as it is: a compiler is free in the order of a sum.
    """

    def __init__(self, layers: Sequence[Layer], weights: Weights, *, device: str, precision: str) -> None:
        starts_threads("torch")
        last = deepest(layers)
        keep_pre = frozenset(layer.step for layer in layers if layer.pre)
        modules = build(last.steps, weights.tensors(last), keep_pre=keep_pre).eval().requires_grad_(False)
        modules.to(device, DTYPES[precision]).to(memory_format=torch.channels_last)
        self.segments: list[tuple[Callable[[Tensor], Tensor], list[Layer]]] = []
        parts: list[nn.Module] = [Normalise(*weights.normalisation, DTYPES[precision]).to(device)]
        for name, module in modules.named_children():
            parts.append(module)
            if tapped := [layer for layer in layers if child(layer) == name]:
                self.segments.append((nn.Sequential(*parts), tapped))
                parts = []

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Map (B, H, W, 3) uint8 to, per layer name, (B, width) in the network's precision."""
        x = images.permute(0, 3, 1, 2)  # (B, 3, H, W), channels last
        rows: dict[str, Tensor] = {}
        for segment, layers in self.segments:
            x = segment(x)
            rows |= {layer.name: pooled(x, layer) for layer in layers}
        return rows


class Normalise(nn.Module):
    """Pixels to what the weights were trained on."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: RGB, std: RGB, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) uint8 to `dtype`, computed in float32."""
        return ((x.float() - self.mean) / self.std).to(self.dtype)


def pooled(x: Tensor, layer: Layer) -> Tensor:
    """Pool or flatten (B, C, H, W) or (B, D) to (B, width) in channel-major order."""
    if layer.pooling == "avg":
        return x.mean((2, 3))
    if layer.pooling == "max":
        return x.amax((2, 3))
    return x.flatten(1).clone()  # a later in-place ReLU must not reach the tapped values
