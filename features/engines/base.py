"""What an engine is, and the little that several of them share.

    rows = engine.run(batch)["fc7"]                     # (n, 4096)
    for rows in engine.stream(batches): ...             # in order; a GPU has several in flight

Implementations: `pytorch.py`, `cuda.py`, `winograd/`. Which of them runs is `choice.py`'s to say.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from features.network import Layer, Size

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
