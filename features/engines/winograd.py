"""The CPU engine: Winograd convolutions on all cores, then the dense layers as batched torch products."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.cores import cores
from features.engines import convolution as kernels
from features.engines.base import Rows, child
from features.engines.convolution import Plane
from features.engines.light import DenseProducts
from features.engines.simd import ROWS
from features.images import Preprocessing
from features.network import Layer, Size, Step
from features.turns import side_by_side, turn
from features.weights import Array, Weights

PLANE_BYTES = 256 << 20  # of the first convolution's outputs, the largest: so many images go together
FIRST_ROWS = 16  # of one image, in each task of the first convolution
TILES = 48  # at most, in each task of the others: in the cache, and enough to read the weights seldom

Task = Callable[[NDArray[Any], Plane], None]  # computes a part of an activation from the one before

_thread = local()


@dataclass(frozen=True)
class Operation:
    """What computes one activation from the one before it.

    Attributes
    ----------
    gives : str
        The activation, under its name in `features.modules.build`.
    shape : tuple of int
        Its height, width and channels.
    tasks : callable
        Cuts the work on so many images, for so many threads, into tasks that may run side by side.
    """

    gives: str
    shape: tuple[int, int, int]
    tasks: Callable[[int, int], list[Task]]


class WinogradEngine:
    """Convolutions by our own kernels, dense layers by torch (see `features.engines.base.Engine`)."""

    batch = 64  # the dense layers' weights, half a gigabyte, are read once for all of them

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
        path = max((layer.steps for layer in layers), key=len)
        dense = [step for step in path if step.kind == "dense"]
        tensors = weights.tensors(path)
        mean, std = (np.array(values, np.float32)[:, None] for values in weights.normalisation)
        table = (np.arange(256, dtype=np.float32) - mean) / std
        self.operations = list(_operations(path, tensors, table, preprocessing.size, layers))
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
            activation = y[:, 1 : height + 1, 1 : width + 1].transpose(0, 3, 1, 2)
            rows |= self._tapped(operation.gives, activation)
            x = y
        return rows, np.array(activation, order="C")  # a copy: the planes are written to again

    def _plane(self, shape: tuple[int, int, int], parity: int) -> Plane:
        """Find the plane to write to; the zeros around it stay, and the one before is of the other parity."""
        if (shape, parity) not in self.planes:
            self.planes[shape, parity] = kernels.plane(self.together, *shape)
        return self.planes[shape, parity]

    def _compute(self, operation: Operation, x: NDArray[Any], y: Plane) -> None:
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


def _operations(
    path: Sequence[Step], tensors: Mapping[str, Array], table: Array, size: Size, layers: Sequence[Layer]
) -> Iterator[Operation]:
    """Plan the steps before the dense ones; a pooling joins its convolution where that is not tapped."""
    tapped, keep_pre = {layer.step for layer in layers}, {layer.step for layer in layers if layer.pre}
    joined = False
    for step, following in zip(path, [*path[1:], None], strict=True):
        if step.kind == "dense":
            return
        halved = (size[0] // 2, size[1] // 2)
        if step.kind == "pool":
            if not joined:
                yield Operation(step.name, (*halved, step.outputs), partial(_pool, size))
            size = halved
            continue
        weight, bias = (tensors[name] for name in step.tensors)
        relu = step.name not in keep_pre
        floor = np.float32(0 if relu else -np.inf)
        gives = f"{step.name}_relu" if relu else step.name
        if step.inputs == 3:
            joined = False
            weights = kernels.arranged(weight, bias)
            tasks = partial(_convolve_first, size, table, weights, floor)
        else:
            joined = following is not None and following.kind == "pool" and step.name not in tapped
            gives = following.name if following is not None and joined else gives
            tasks = partial(_convolve, size, kernels.transformed(weight), bias, floor, joined)
        yield Operation(gives, (*(halved if joined else size), step.outputs), tasks)
        if not relu:
            yield Operation(f"{step.name}_relu", (*size, step.outputs), _rectify)


def _convolve_first(
    size: Size, table: Array, weights: Array, floor: np.float32, images: int, threads: int
) -> list[Task]:
    def rows(image: int, start: int) -> Task:
        stop = min(start + FIRST_ROWS, size[0])
        return lambda x, y: kernels.convolve_first(x, y, table, weights, floor, image, start, stop)

    return [rows(image, start) for image in range(images) for start in range(0, size[0], FIRST_ROWS)]


def _convolve(
    size: Size, weights: Array, bias: Array, floor: np.float32, pooled: bool, images: int, threads: int
) -> list[Task]:
    tiles = kernels.tiles(images, *size)
    tasks = threads * -(-tiles // (threads * TILES))  # as many for each thread
    step = -(-tiles // (tasks * ROWS)) * ROWS

    def some(start: int) -> Task:
        stop = min(start + step, tiles)

        def run(x: NDArray[Any], y: Plane) -> None:
            work = _scratch(kernels.scratch(x.shape[3], y.shape[3], stop - start))
            kernels.convolve(x, y, weights, bias, floor, *size, pooled, start, stop, work)

        return run

    return [some(start) for start in range(0, tiles, step)]


def _pool(size: Size, images: int, threads: int) -> list[Task]:
    def one(image: int) -> Task:
        return lambda x, y: kernels.pool(x, y, *size, image)

    return [one(image) for image in range(images)]


def _rectify(images: int, threads: int) -> list[Task]:
    def one(image: int) -> Task:
        return lambda x, y: np.maximum(x[image], 0, out=y[image])

    return [one(image) for image in range(images)]


def _scratch(numbers: int) -> Array:
    """Memory of this thread, kept: fresh memory would cost a page fault every 4 kB."""
    if len(getattr(_thread, "work", ())) < numbers:
        _thread.work = np.empty(numbers, np.float32)
    work: Array = _thread.work
    return work
