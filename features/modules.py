"""The table of `network.py` as torch modules, for the torch engine and for training tails."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from features.network import BATCH_NORM, POOLED, Step
from features.weights import EPSILON, Array


class AdaptivePool(nn.Module):
    """Adaptive average pooling to 7 × 7 as two fixed matrices; the identity at 7 × 7.

    The same numbers as `torch.nn.AdaptiveAvgPool2d(7)`, whose backward pass has
    no deterministic CUDA kernel.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, C, H, W) to (B, C, 7, 7)."""
        height, width = x.shape[2:]
        if (height, width) == (POOLED, POOLED):
            return x
        rows = averaging_matrix(height, POOLED, x.device).to(x.dtype)  # (7, H)
        columns = averaging_matrix(width, POOLED, x.device).to(x.dtype)  # (7, W)
        return rows @ x @ columns.T


def averaging_matrix(inputs: int, outputs: int, device: torch.device | None = None) -> Tensor:
    """`features.pooling.averaging_matrix`, made on the device.

    A copy from the host would have to wait for all that is queued there.
    """
    i = torch.arange(outputs, device=device)[:, None]
    first, last = i * inputs // outputs, ((i + 1) * inputs + outputs - 1) // outputs
    j = torch.arange(inputs, device=device)
    return ((first <= j) & (j < last)).float() / (last - first)


def pooling_joined(weight: Tensor, height: int, width: int) -> Tensor:
    """Join the pooling to 7 × 7 and `fc6`, both linear: far fewer terms where images are small.

    Maps `fc6`'s weight (outputs, channels × 7 × 7) float32 to (outputs, channels × height × width),
    summed in float64, by which the activation before the pooling gives the same.
    """
    rows, columns = (averaging_matrix(inputs, POOLED).double() for inputs in (height, width))
    joined = weight.new_empty(len(weight), weight.shape[1] // POOLED**2, height, width)
    for part, output in zip(weight.split(256), joined.split(256), strict=True):  # bounds the memory
        squares = part.view(*output.shape[:2], POOLED, POOLED).double()
        output[:] = rows.T @ (squares @ columns)
    return joined.flatten(1)


def build(
    path: Iterable[Step],
    tensors: Mapping[str, Array],
    *,
    keep_pre: frozenset[str] = frozenset(),
    dropout: float = 0.0,
) -> nn.Sequential:
    """Build a Sequential whose children bear the steps' names (`conv1_1`, then `conv1_1_relu`).

    From `Weights.tensors` batch norm is in the convolutions, frozen; from
    `Weights.state` it is a layer of its own (`conv1_1_norm`), to be trained.

    Parameters
    ----------
    path : iterable of Step
        Consecutive steps of one network.
    tensors : mapping of str to float32 array
        Under torchvision's names; used as they are, not copied.
    keep_pre : frozenset of str
        Steps whose output before the ReLU is read later: their ReLU is not in place.
    dropout : float
        Probability behind the hidden dense layers, for training; 0.5 in the VGG paper.
    """
    children: OrderedDict[str, nn.Module] = OrderedDict()
    for step in path:
        if step.kind == "pool":
            children[step.name] = nn.MaxPool2d(2)
            continue
        if step.name == "fc6":
            children["pool7"] = AdaptivePool()
            children["flatten"] = nn.Flatten()
        children[step.name] = _parametrised(step, tensors)
        if step.norm and f"{step.norm}.weight" in tensors:
            children[f"{step.name}_norm"] = _batch_norm(step, tensors)
        if step.relu:
            children[f"{step.name}_relu"] = nn.ReLU(inplace=step.name not in keep_pre)
        if step.relu and step.kind == "dense" and dropout:
            children[f"{step.name}_dropout"] = nn.Dropout(dropout)
    return nn.Sequential(children)


def _parametrised(step: Step, tensors: Mapping[str, Array]) -> nn.Module:
    with torch.device("meta"):  # allocate nothing: the tensors are assigned below
        module: nn.Module = (
            nn.Conv2d(step.inputs, step.outputs, 3, padding=1)
            if step.kind == "conv"
            else nn.Linear(step.inputs, step.outputs)
        )
    state = {name.rpartition(".")[2]: torch.from_numpy(tensors[name]) for name in step.tensors}
    module.load_state_dict(state, assign=True)
    return module


def _batch_norm(step: Step, tensors: Mapping[str, Array]) -> nn.BatchNorm2d:
    with torch.device("meta"):
        module = nn.BatchNorm2d(step.outputs, eps=EPSILON)
    state = {name: torch.from_numpy(tensors[f"{step.norm}.{name}"]) for name in BATCH_NORM}
    module.load_state_dict(state, assign=True)
    return module
