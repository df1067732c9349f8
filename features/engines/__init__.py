"""Engines run a prefix of the network over a batch of images.

    engine = create(choose("auto", "auto", "auto"), layers, weights, preprocessing)
    rows = engine.run(batch)["fc7"]
    for rows in engine.stream(batches): ...      # in order; a GPU has several in flight

`auto` is a fixed rule of the device, never a timing: a timing could
fall the other way tomorrow, flip the fingerprint and recompute everything.
"""

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput
from features.images import Preprocessing
from features.network import Layer, Size
from features.weights import Weights

# Raised by hand when an engine's numbers change: activations are then computed again.
REVISIONS = {"torch": 1, "winograd": 1, "pillow": 1}


# How far an activation may be from float64 torchvision's, as a share of the layer's largest value.
# Some 1.6 times the worst measured in any layer, on photographs of 32 and 64 px, with random weights
# and batch norms fitted to the images. It is vgg19_bn's: behind each batch norm, rounding is a larger
# share of what is left. vgg16 without batch norm: fp32 5e-6, fp16 1.3e-3, bf16 1.2e-2.
TOLERANCE = {
    "torch-fp32": 2.5e-5,
    "torch-fp16": 2.5e-2,
    "torch-bf16": 0.25,
    "winograd-fp32": 6e-5,
}


# Per layer name, (n, width) float32; float16 where the forward computed in it
Rows = dict[str, NDArray[Any]]


class Engine(Protocol):
    """Computes the activations of several layers in one forward pass; several threads may ask at once.

    Attributes
    ----------
    batch : int
        Images per call, at most. Where an image's numbers would depend on how many
        there are, the engine adds images of zeros.
    """

    batch: int

    def run(self, images: NDArray[np.uint8]) -> Rows:
        """Map (n, H, W, 3) uint8 to, per layer name, (n, width)."""

    def stream(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Rows]:
        """Run batch after batch, in order; may take some batches before it gives the first rows."""


@dataclass(frozen=True)
class Choice:
    """Which engine runs, where, and why; known before anything heavy is loaded."""

    name: str  # "torch", "winograd"
    device: str  # "cpu", "cuda:0", "mps"
    precision: str  # "fp32", "bf16", "fp16"
    why: str

    @property
    def numerics(self) -> str:
        """The engine's part of the fingerprint: `winograd-fp32/1`."""
        return f"{self.name}-{self.precision}/{REVISIONS[self.name]}"


def tolerance(numerics: str) -> float:
    """How far these numerics may be from float64, as a share of the layer's largest value."""
    return TOLERANCE.get(numerics.partition("/")[0], 0.0)


def is_current(numerics: str) -> bool:
    """Whether these numerics are still what their engine computes."""
    engine, _, revision = numerics.partition("/")
    return revision == str(REVISIONS.get(engine.partition("-")[0]))


def choose(engine: str, device: str, precision: str) -> Choice:
    """Resolve `auto` for engine, device and precision; BadInput for what cannot be had together."""
    device = _device(device)
    precision = _precision(precision, "cpu" if engine == "winograd" else device)
    available = importlib.util.find_spec("numba") is not None
    if engine == "torch":
        return Choice("torch", device, precision, "as asked")
    if engine == "winograd":
        if not available:
            raise BadInput("extract.engine is winograd, which needs numba: pip install numba, or use torch")
        if precision != "fp32":
            raise BadInput(f"extract.precision is {precision}, but the winograd engine computes in fp32 only")
        return Choice("winograd", "cpu", precision, "as asked")
    if device != "cpu":
        return Choice("torch", device, precision, "auto: torch on an accelerator")
    if precision != "fp32":
        return Choice("torch", device, precision, f"auto: torch for {precision}")
    if not available:
        return Choice("torch", device, precision, "auto: torch, slower, because numba is not installed")
    return Choice("winograd", "cpu", precision, "auto: Winograd convolutions on a CPU")


def _precision(name: str, device: str) -> str:
    """Resolve `auto`: fp16 on CUDA, fp32 elsewhere.

    fp16 and not bf16: as fast on every GPU with tensor cores, an eighth of the rounding error,
    and VGG16's largest activation on photographs (13,000 in conv4_1) is far below its limit.
    """
    if name != "auto":
        return name
    return "fp16" if device.startswith("cuda") else "fp32"


def _device(name: str) -> str:
    """Resolve `auto` and check that the device is there."""
    import torch  # noqa: PLC0415 - slow to import

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return "cuda:0" if count else "mps" if mps else "cpu"
    if name.startswith("cuda"):
        if int(name.partition(":")[2] or 0) >= count:
            raise BadInput(f"device is {name}, but this machine has {count} CUDA devices; use auto or cpu")
        return name if ":" in name else "cuda:0"
    if name == "mps" and not mps:
        raise BadInput("device is mps, which this machine does not have; use auto or cpu")
    return name


def child(layer: Layer) -> str:
    """The child of `features.modules.build` whose output the layer is."""
    return f"{layer.step}_relu" if layer.steps[-1].relu and not layer.pre else layer.step


def batch_size(size: Size) -> int:
    """Images per forward: bounds the first convolutions' activations to about 0.6 GB in fp32."""
    return 64 if size[0] * size[1] <= 112 * 112 else 16


def padded(images: NDArray[np.uint8], batch: int) -> NDArray[np.uint8]:
    """Add images of zeros to (n, H, W, 3) up to `batch`."""
    if len(images) == batch:
        return images
    return np.concatenate([images, np.zeros((batch - len(images), *images.shape[1:]), np.uint8)])


def create(
    choice: Choice,
    layers: Sequence[Layer],
    weights: Weights,
    preprocessing: Preprocessing,
    compiled: Path | None = None,
    *,
    light: bool = False,
) -> Engine:
    """Load the chosen engine with the tensors that the layers need; `compiled` keeps compiled kernels.

    A `light` one may give other last bits than the blocks in the cache have, and may be there sooner.
    """
    if choice.name == "winograd":
        from features.engines.winograd import WinogradEngine  # noqa: PLC0415 - may not be installed

        return WinogradEngine(layers, weights, preprocessing, light=light)
    if choice.device.startswith("cuda"):
        from features.engines.cuda import CudaEngine  # noqa: PLC0415 - slow to import

        return CudaEngine(
            layers, weights, preprocessing,
            device=choice.device, precision=choice.precision, compiled=compiled,
        )  # fmt: skip
    from features.engines.pytorch import TorchEngine  # noqa: PLC0415 - slow to import

    return TorchEngine(layers, weights, preprocessing, device=choice.device, precision=choice.precision)
