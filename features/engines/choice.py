"""Which engine runs, where, in which precision, and why: known before anything heavy is loaded.

    choose("auto", "auto", "auto").numerics     # 'winograd-fp32/1': a part of every fingerprint
    tolerance("winograd-fp32/1")                # 6e-05: how far from float64 it may be

`auto` is a fixed rule of the device, never a timing: a timing could
fall the other way tomorrow, flip the fingerprint and recompute everything.
"""

import importlib.util
from dataclasses import dataclass

from features.errors import BadInput

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
    """Resolve `auto` and check that the device is there; of `cpu` torch need not be asked."""
    if name == "cpu":
        return name
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
