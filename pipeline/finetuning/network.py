"""A network cut in two: a frozen prefix, a trained tail, and a new output layer on it.

model = CutNetwork(top, "conv4_3", state, normalisation, n_classes=10, width=25088)
logits = model(pixels)                      # both parts
logits = model.tail(activations)            # of cached activations at the cut
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.modules import build
from features.network import Layer, prefix
from features.weights import RGB, Array

DROPOUT = 0.5  # behind the hidden dense layers, as in the VGG paper


def arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Tensors as arrays on the CPU, contiguous: what a file holds."""
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}


class CutNetwork(nn.Module):
    """The network up to `top`, of which what is above `cut` is trained.

    The features' mean and scale over the train rows are constants of the module:
    a linear head that was fitted on standardised features continues as it is,
    and the output layer's inputs are of the size that its learning rate assumes.

    Parameters
    ----------
    top : Layer
        What the output layer stands on.
    cut : str
        The last frozen step, `pixels` for none; in evaluation mode throughout, batch norm included.
    state : mapping of str to float32 array
        The steps' tensors by torchvision's names (`Weights.state`).
    normalisation : (mean, std) per channel, on the 0 … 255 scale
    """

    mean: Tensor
    std: Tensor
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(
        self,
        top: Layer,
        cut: str,
        state: Mapping[str, Array],
        normalisation: tuple[RGB, RGB],
        n_classes: int,
        width: int,
    ) -> None:
        super().__init__()
        frozen = prefix(top.network, cut)
        self.trained_steps = top.steps[len(frozen) :]
        below = build(frozen, state)
        above = build(self.trained_steps, state, dropout=DROPOUT)
        self.network = nn.Sequential(OrderedDict([*below.named_children(), *above.named_children()]))
        self.frozen_modules = len(below)
        self.output = nn.Linear(width, n_classes)
        mean, std = normalisation
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_scale", torch.ones(width))
        below.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Switch the tail; what is frozen stays in evaluation mode."""
        super().train(mode)
        self.network[: self.frozen_modules].eval()
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (B, H, W, 3) uint8 to (B, n_classes) logits."""
        return self.tail(self.frozen(pixels))

    def frozen(self, pixels: Tensor) -> Tensor:
        """Map (B, H, W, 3) uint8 to the activations at the cut, (B, C, H', W') or (B, units)."""
        x = (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std  # (B, 3, H, W), channels last
        return self.network[: self.frozen_modules](x)  # type: ignore[no-any-return]

    def tail(self, x: Tensor) -> Tensor:
        """Map activations at the cut to (B, n_classes) logits."""
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        x = self.network[self.frozen_modules :](x).flatten(1)  # (B, width)
        logits: Tensor = self.output((x - self.feature_mean) / self.feature_scale)
        return logits

    def start_from(self, coef: Array, intercept: Array, mean: Array, scale: Array) -> None:
        """Continue a linear head that was fitted on standardised features."""
        with torch.no_grad():
            for target, array in (
                (self.output.weight, coef),
                (self.output.bias, intercept),
                (self.feature_mean, mean),
                (self.feature_scale, scale),
            ):
                target.copy_(torch.from_numpy(array))

    def state(self) -> dict[str, Tensor]:
        """Everything that training changes, and the features' constants: what a checkpoint has to hold."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        buffers = {name for name, _ in self.named_buffers()} - {"mean", "std"}
        return {name: t for name, t in self.state_dict().items() if name in trained | buffers}

    def trainable_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def groups(
        self, rate: float, *, pretrained: Collection[str], factor: float, decay: float
    ) -> list[dict[str, Any]]:
        """Parameter groups of an optimiser, the lowest layer first.

        Parameters
        ----------
        rate : float
            Learning rate of the output layer.
        pretrained : names of steps
            These learn at `factor` times that.
        decay : float
            Each layer learns at `decay` times the rate of the one above it.
        """
        steps = [step for step in self.trained_steps if step.key]
        groups = []
        for distance, step in zip(range(len(steps), 0, -1), steps, strict=True):
            modules = [self.network.get_submodule(step.name)]
            if hasattr(self.network, f"{step.name}_norm"):
                modules.append(self.network.get_submodule(f"{step.name}_norm"))
            own = rate * decay**distance * (factor if step.name in pretrained else 1.0)
            groups.append({"params": [p for module in modules for p in module.parameters()], "lr": own})
        return [*groups, {"params": list(self.output.parameters()), "lr": rate}]
