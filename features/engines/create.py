"""From a choice to the engine itself: the only place that imports one.

engine = create(choose("auto", "auto", "auto"), layers, weights, preprocessing)
rows = engine.run(batch)["fc7"]
"""

from collections.abc import Sequence
from pathlib import Path

from features.engines.base import Engine
from features.engines.choice import Choice
from features.images import Preprocessing
from features.network import Layer
from features.weights import Weights


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
        from features.engines.winograd.engine import WinogradEngine  # noqa: PLC0415 - may not be installed

        return WinogradEngine(layers, weights, preprocessing, light=light)
    if choice.device.startswith("cuda"):
        from features.engines.cuda import CudaEngine  # noqa: PLC0415 - slow to import

        return CudaEngine(
            layers, weights, preprocessing,
            device=choice.device, precision=choice.precision, compiled=compiled,
        )  # fmt: skip
    from features.engines.pytorch import TorchEngine  # noqa: PLC0415 - slow to import

    return TorchEngine(layers, weights, preprocessing, device=choice.device, precision=choice.precision)
