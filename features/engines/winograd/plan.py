"""From the network's steps to operations, and from each operation to tasks that may run side by side.

    operations = list(plan(path, tensors, table, (224, 224), layers))
    for task in operations[0].tasks(len(images), threads):      # in any order, in any thread
        task(images, y)

An operation makes one activation of the one before it: the first convolution, another one (with the
pooling behind it, where nobody wants to see what is between), a pooling, or a ReLU by itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.engines.winograd import kernels, memory
from features.engines.winograd.filters import arranged, transformed
from features.engines.winograd.memory import Plane
from features.engines.winograd.simd import ROWS
from features.network import Layer, Size, Step
from features.weights import Array

# Rows of one image, in each task of the first convolution: two tasks even of one image of 32 px.
# Its speed does not depend on it: 1 to 224 rows of an image of 224 px, on a busy core, took 7 to
# 12 ms in no order.
FIRST_ROWS = 16
# Tiles, at most, in each task of the other convolutions: few enough for the cache, and enough to read the
# weights seldom. 24 and 96 are 2 and 10 % slower at 224 px (docs/performance.md).
TILES = 48

Task = Callable[[NDArray[Any], Plane], None]  # computes a part of an activation from the one before


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


def plan(
    path: Sequence[Step], tensors: Mapping[str, Array], table: Array, size: Size, layers: Sequence[Layer]
) -> Iterator[Operation]:
    """Plan the steps before the dense ones; a pooling joins its convolution where that is not tapped.

    Parameters
    ----------
    path : sequence of Step
        Consecutive steps, from the first convolution.
    tensors : mapping of str to float32 array
        Their weights and biases by torchvision's names.
    table : float32 (3, 256)
        The normalised number of each channel's pixel values.
    size : (int, int)
        Height and width of the images.
    layers : sequence of Layer
        All that are tapped.
    """
    tapped, keep_pre = {layer.step for layer in layers}, {layer.step for layer in layers if layer.pre}
    joined = False
    for step, following in zip(path, [*path[1:], None], strict=True):
        if step.kind == "dense":
            return
        if step.kind == "pool":
            if not joined:
                yield Operation(step.name, (*_halved(size), step.outputs), partial(_pool, size))
            size = _halved(size)
            continue
        relu = step.name not in keep_pre
        pooling = following if following and following.kind == "pool" else None
        joined = pooling is not None and step.name not in tapped and step.inputs != 3
        yield _convolution(step, tensors, table, size, relu, pooling if joined else None)
        if not relu:
            yield Operation(f"{step.name}_relu", (*size, step.outputs), _rectify)


def _convolution(
    step: Step, tensors: Mapping[str, Array], table: Array, size: Size, relu: bool, pooling: Step | None
) -> Operation:
    """A convolution with its ReLU and its pooling, or without."""
    weight, bias = (tensors[name] for name in step.tensors)
    floor = np.float32(0 if relu else -np.inf)
    if step.inputs == 3:
        tasks = partial(_convolve_first, size, table, arranged(weight, bias), floor)
    else:
        tasks = partial(_convolve, size, transformed(weight), bias, floor, pooling is not None)
    if pooling:
        return Operation(pooling.name, (*_halved(size), step.outputs), tasks)
    return Operation(f"{step.name}_relu" if relu else step.name, (*size, step.outputs), tasks)


def _halved(size: Size) -> Size:
    return size[0] // 2, size[1] // 2


def _convolve_first(
    size: Size, table: Array, weights: Array, floor: np.float32, images: int, threads: int
) -> list[Task]:
    """A task for each `FIRST_ROWS` rows of an image."""

    def rows(image: int, start: int) -> Task:
        stop = min(start + FIRST_ROWS, size[0])
        return lambda x, y: kernels.convolve_first(x, y, table, weights, floor, image, start, stop)

    return [rows(image, start) for image in range(images) for start in range(0, size[0], FIRST_ROWS)]


def _convolve(
    size: Size, weights: Array, bias: Array, floor: np.float32, pooled: bool, images: int, threads: int
) -> list[Task]:
    """Tasks of about as many tiles each, counted through the whole batch, as many for each thread."""
    tiles = memory.tiles(images, *size)
    tasks = threads * -(-tiles // (threads * TILES))
    step = -(-tiles // (tasks * ROWS)) * ROWS

    def some(start: int) -> Task:
        stop = min(start + step, tiles)

        def run(x: NDArray[Any], y: Plane) -> None:
            before, after = memory.scratch(x.shape[3], y.shape[3], stop - start)
            kernels.convolve(x, y, weights, bias, floor, *size, pooled, start, stop, before, after)

        return run

    return [some(start) for start in range(0, tiles, step)]


def _pool(size: Size, images: int, threads: int) -> list[Task]:
    """A task for each image."""

    def one(image: int) -> Task:
        return lambda x, y: kernels.pool(x, y, *size, image)

    return [one(image) for image in range(images)]


def _rectify(images: int, threads: int) -> list[Task]:
    """A task for each image."""

    def one(image: int) -> Task:
        return lambda x, y: np.maximum(x[image], 0, out=y[image])

    return [one(image) for image in range(images)]
