"""The engine: runs the plan over a batch, on all cores, and hands what it ends in to the dense layers.

engine = WinogradEngine(layers, weights, preprocessing)
rows = engine.run(batch)["fc7"]                             # (n, 4096) float32
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.cores import cores
from features.engines.base import Rows, child
from features.engines.light import DenseProducts
from features.engines.winograd import memory
from features.engines.winograd.memory import Plane
from features.engines.winograd.plan import Operation, plan
from features.images import Preprocessing
from features.network import Layer, deepest
from features.turns import side_by_side, turn
from features.weights import Array, Weights

# Of the first convolution's outputs, the largest plane: so many images go together, 20 of 224 px. It
# bounds the memory; 4 at once do 18 images a second, 16 do 20.5 (docs/performance.md).
PLANE_BYTES = 256 << 20


class WinogradEngine:
    """Convolutions by our own kernels, dense layers by torch (see `features.engines.base.Engine`)."""

    # The dense layers' weights, half a gigabyte, are read once for all of them: 2.4 ms an image, in batches
    # of 16 5.6 (docs/performance.md)
    batch = 64

    def __init__(
        self,
        layers: Sequence[Layer],
        weights: Weights,
        preprocessing: Preprocessing,
        *,
        light: bool = False,
    ) -> None:
        """See `Engine`; a `light` one does without torch (see `features.engines.light`)."""
        self.layers, self.light = tuple(layers), light
        self.together = max(1, PLANE_BYTES // (64 * 4 * preprocessing.size[0] * preprocessing.size[1]))
        last = deepest(layers)
        path = last.steps
        dense = [step for step in path if step.kind == "dense"]
        tensors = weights.tensors(last)
        mean, std = (np.array(values, np.float32)[:, None] for values in weights.normalisation)
        table = (np.arange(256, dtype=np.float32) - mean) / std  # (3, 256), by channel and value
        self.operations = list(plan(path, tensors, table, preprocessing.size, layers))
        self.dense: Callable[[Sequence[Array]], Rows] | None = None
        if dense and light:
            self.dense = DenseProducts(dense, tensors, layers, self.operations[-1].shape[:2])
        elif dense:
            from features.engines.dense import DenseLayers  # noqa: PLC0415 - torch

            self.dense = DenseLayers(dense, tensors, layers, self.operations[-1].shape[:2], self.batch)
        self.threads = _threads()
        self.planes: dict[tuple[tuple[int, int, int], int], Plane] = {}

    def stream(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Rows]:
        """Run batch after batch, in order."""
        return map(self.run, batches)

    def run(self, images: NDArray[np.uint8]) -> Rows:
        """Map (n, H, W, 3) uint8, n at most `batch`, to, per layer name, (n, width) float32.

        From any thread: the planes are one forward's at a time.
        """
        with turn:
            try:
                return self._run(images)
            except BaseException:
                self.planes = {}  # what was interrupted may still be writing to these
                raise

    def _run(self, images: NDArray[np.uint8]) -> Rows:
        """Run the convolutions on as many images as the planes hold, then the dense layers on all of them."""
        pieces = np.array_split(images, -(-len(images) // self.together))
        parts = [self._convolutions(piece) for piece in pieces]
        rows: Rows = {name: np.concatenate([part[name] for part, _ in parts]) for name in parts[0][0]}
        return rows | self.dense([end for _, end in parts]) if self.dense else rows

    def _convolutions(self, images: NDArray[np.uint8]) -> tuple[Rows, Array]:
        """Give the tapped rows of a part of a batch, and, for the dense layers, the last activation."""
        rows: Rows = {}
        x: NDArray[Any] = images
        for number, operation in enumerate(self.operations):
            y = self._plane(operation.shape, number % 2)[: len(images)]
            self._compute(operation, x, y)
            height, width, _ = operation.shape
            activation = y[:, 1 : height + 1, 1 : width + 1].transpose(0, 3, 1, 2)  # (n, C, H, W)
            rows |= self._tapped(operation.gives, activation)
            x = y
        return rows, np.array(activation, order="C")  # a copy: the planes are written to again

    def _plane(self, shape: tuple[int, int, int], parity: int) -> Plane:
        """Find the plane to write to; the zeros around it stay, and the one before is of the other parity."""
        if (shape, parity) not in self.planes:
            self.planes[shape, parity] = memory.plane(self.together, *shape)
        return self.planes[shape, parity]

    def _compute(self, operation: Operation, x: NDArray[Any], y: Plane) -> None:
        """Compute one activation from the one before, on all cores; all of it is there when this returns."""
        tasks = iter(operation.tasks(len(x), self.threads))

        def work() -> None:
            for task in tasks:  # whichever thread is free takes the next
                task(x, y)

        side_by_side(work, self.threads)

    def _tapped(self, name: str, activation: Array) -> Rows:
        tapped = [layer for layer in self.layers if name == child(layer)]
        return {layer.name: _pooled(activation, layer, self.light) for layer in tapped}


def _pooled(activation: Array, layer: Layer, light: bool) -> Array:
    """Pool or flatten (n, C, H, W), a part of a plane, to (n, width) in channel-major order."""
    if layer.pooling == "avg" and light:
        return np.asarray(activation.mean(axis=(2, 3)))
    if layer.pooling == "avg":
        from features.engines.dense import averaged  # noqa: PLC0415 - torch, whose rounding stores have

        return averaged(activation)
    if layer.pooling == "max":
        return np.asarray(activation.max(axis=(2, 3)))
    return np.array(activation, order="C").reshape(len(activation), -1)  # a copy (see `_convolutions`)


def _threads() -> int:
    """As many as torch takes, which need not be there."""
    if torch := sys.modules.get("torch"):
        return int(torch.get_num_threads())
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(asked) if asked.isdecimal() and int(asked) else cores()  # OpenMP passes over what is no number
