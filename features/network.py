"""The VGG family as one table: layer names, shapes, FLOPs, and where to cut.

    parse_layer("conv5_3:pre:max", "vgg16").width((224, 224))   # 512

A layer's name means its activation *after* the ReLU (`fc8` has none: the
logits); the suffix `:pre` means before it; `:avg` and `:max` pool a spatial
layer, which is otherwise flattened. `pixels` is the cut at the image.

Each network is there with batch norm behind its convolutions, too (`vgg16_bn`).
The layers are the same: batch norm belongs to its convolution, and `conv3_1:pre`
is after the batch norm, before the ReLU.

References
----------
Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image
Recognition, arXiv:1409.1556, table 1 (configurations A, B, D, E).
Ioffe and Szegedy, Batch Normalization, arXiv:1502.03167.
"""

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from features.errors import BadInput

Size = tuple[int, int]  # (height, width) in pixels

CONVOLUTIONS = {  # 3 × 3 convolutions per block; each block ends in a 2 × 2 max pooling
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
NETWORKS = (*CONVOLUTIONS, *(f"{name}_bn" for name in CONVOLUTIONS))
CHANNELS = (64, 128, 256, 512, 512)
POOLED = 7  # fc6 always sees 7 × 7: torchvision's adaptive pooling before it
MINIMUM_SIZE = 2 ** len(CHANNELS)  # below 32 px nothing is left after five poolings
PIXELS_SIZE: Size = (32, 32)  # of the control layer `pixels`
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")  # γ, β, μ, σ² in torchvision's state dict


@dataclass(frozen=True)
class Step:
    """One step of the network, with its batch norm and its ReLU where it has them.

    Attributes
    ----------
    inputs, outputs : int
        Channels (convolution, pooling) or units (dense).
    key : str
        torchvision's parameter prefix (`features.0`), empty for a pooling.
    norm : str
        That of the batch norm behind a convolution (`features.1`), empty for none.
    """

    name: str
    kind: Literal["conv", "pool", "dense"]
    inputs: int
    outputs: int
    key: str = ""
    norm: str = ""
    relu: bool = True

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the weight and bias that an engine computes with: batch norm is folded into them."""
        return (f"{self.key}.weight", f"{self.key}.bias") if self.key else ()

    @property
    def state(self) -> tuple[str, ...]:
        """Names of everything the step depends on in torchvision's state dict: batch norm's four follow."""
        return (*self.tensors, *(f"{self.norm}.{name}" for name in BATCH_NORM if self.norm))

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight tensor: (outputs, inputs[, 3, 3])."""
        return (self.outputs, self.inputs, 3, 3) if self.kind == "conv" else (self.outputs, self.inputs)


def steps(network: str) -> tuple[Step, ...]:
    """List the network's steps in order, from `conv1_1` to `fc8`."""
    table: list[Step] = []
    plain = network.removesuffix("_bn")
    channels, index = 3, 0  # index: position in torchvision's `features` Sequential
    for block, (convolutions, width) in enumerate(zip(CONVOLUTIONS[plain], CHANNELS, strict=True), 1):
        for number in range(1, convolutions + 1):
            norm = f"features.{index + 1}" if network != plain else ""
            table.append(Step(f"conv{block}_{number}", "conv", channels, width, f"features.{index}", norm))
            channels, index = width, index + (3 if norm else 2)  # convolution, batch norm, ReLU
        table.append(Step(f"pool{block}", "pool", width, width, relu=False))
        index += 1
    table.append(Step("fc6", "dense", channels * POOLED * POOLED, 4096, "classifier.0"))
    table.append(Step("fc7", "dense", 4096, 4096, "classifier.3"))
    table.append(Step("fc8", "dense", 4096, 1000, "classifier.6", relu=False))
    return tuple(table)


def prefix(network: str, last: str) -> tuple[Step, ...]:
    """Return the steps up to and including the one called `last`; none for `pixels`."""
    table = steps(network)
    names = [step.name for step in table]
    return table[: names.index(last) + 1] if last != "pixels" else ()


def tensor_shapes(network: str) -> dict[str, tuple[int, ...]]:
    """Every tensor's name and shape, as in torchvision's state dict, which also counts batches."""
    return {
        name: step.weight_shape if name == f"{step.key}.weight" else (step.outputs,)
        for step in steps(network)
        for name in step.state
    }


@dataclass(frozen=True)
class Layer:
    """A point where activations are taken: a step, before or after its ReLU, pooled or not."""

    network: str
    step: str  # "pixels" for the image itself
    pre: bool = False
    pooling: Literal["", "avg", "max"] = ""

    @property
    def name(self) -> str:
        """The canonical name, as users write it: `conv5_3:pre:max`."""
        return ":".join(
            [self.step, *(["pre"] if self.pre else []), *([self.pooling] if self.pooling else [])]
        )

    @property
    def stem(self) -> str:
        """The name in file and stage names: `conv5_3-pre-max`."""
        return self.name.replace(":", "-")

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that have to be computed, this layer's own included: for whoever builds a network."""
        return prefix(self.network, self.step)

    @property
    def needs_network(self) -> bool:
        """Whether anything has to be computed: not for `pixels`."""
        return bool(self.steps)

    @property
    def depth(self) -> int:
        """Steps from the image: of two layers the one with more contains the other."""
        return len(self.steps)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of everything the layer depends on in torchvision's state dict, in order."""
        return tuple(name for step in self.steps for name in step.state)

    def gflops(self, size: Size) -> float:
        """Multiplications and additions of one image's forward to here, in 1e9, as direct convolutions."""
        return _gflops(self.steps, size)

    def shape(self, size: Size) -> tuple[int, ...]:
        """Shape of one image's activation before flattening, for images of `size` pixels."""
        if self.step == "pixels":
            return (*PIXELS_SIZE, 3)
        step = self.steps[-1]
        if step.kind == "dense" or self.pooling:
            return (step.outputs,)
        return (step.outputs, *_spatial(self.steps, size))

    def width(self, size: Size) -> int:
        """Numbers per image."""
        return math.prod(self.shape(size))


def _spatial(path: tuple[Step, ...], size: Size) -> Size:
    """Height and width after the poolings in `path`."""
    shrink = 2 ** sum(step.kind == "pool" for step in path)
    return size[0] // shrink, size[1] // shrink


def parse_layer(name: str, network: str) -> Layer:
    """Read a layer's name.

    Raises
    ------
    BadInput
        For a name that the network does not have; offers the nearest one.
    """
    step_name, *suffixes = name.split(":")
    known = {step.name: step for step in steps(network)}
    if step_name == "pixels" and not suffixes:
        return Layer(network, "pixels")
    if step_name not in known:
        names = [*known, "pixels"]
        near = difflib.get_close_matches(step_name, names, n=1, cutoff=0.0)[0]
        raise BadInput(
            f"there is no layer {name!r} in {network}; did you mean {near!r}? (layers: {', '.join(names)})"
        )
    step = known[step_name]
    spatial = step.kind != "dense"
    allowed = [["pre"]] if step.relu else []
    if spatial:
        allowed += [["avg"], ["max"]] + ([["pre", "avg"], ["pre", "max"]] if step.relu else [])
    if suffixes and suffixes not in allowed:
        options = ", ".join(":".join([step_name, *option]) for option in allowed) or "no suffix"
        raise BadInput(f"layer {name!r} does not exist: {step_name} can be {step_name} or {options}")
    pooling = suffixes[-1] if suffixes and suffixes[-1] != "pre" else ""
    return Layer(network, step_name, "pre" in suffixes, pooling)  # type: ignore[arg-type]


def deepest(layers: Iterable[Layer]) -> Layer:
    """The layer that contains all others."""
    return max(layers, key=lambda layer: layer.depth)


def whole(network: str) -> Layer:
    """The last layer, which needs every tensor of the network."""
    return Layer(network, steps(network)[-1].name)


def _gflops(path: tuple[Step, ...], size: Size) -> float:
    total = 0
    for position, step in enumerate(path):
        if step.kind == "conv":
            height, width = _spatial(path[:position], size)
            total += 2 * 9 * step.inputs * step.outputs * height * width
        elif step.kind == "dense":
            total += 2 * step.inputs * step.outputs
    return total / 1e9
