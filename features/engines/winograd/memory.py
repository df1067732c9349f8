"""The memory that a forward works in: planes, which hold activations, and each thread's scratch.

    y = plane(images, height, width, channels)          # zeros around
    before, after = scratch(inputs, outputs, tiles)     # of this thread, kept

Planes are float32 (n, H', W', channels): channels last, so that a vector of them is read at once, and
zeros around, so that no tile has to ask where the image ends: one row and column before, and behind
at least as much as the last tile overhangs. Two of each shape, in turn, belong to the engine:

    images (n, H, W, 3) uint8                   the caller's
       │ convolve_first   a task: 16 rows of one image
       ▼
    plane, even (n, H', W', 64) ──── rows of conv1_1, where tapped (copied out at once)
       │ convolve         a task: up to 48 tiles of the whole batch, on to the next image; pools, too
       ▼
    plane, odd  (n, H'/2, W'/2, 64) ── rows of pool1, where tapped
       │ …                every operation reads the one plane and writes the other
       ▼
    the last plane ── copied for the dense layers

All threads read all of the plane before, and each writes only the outputs of the task that it took:
no two tasks have one in common, nobody writes the zeros around, and an operation begins when the one
before it has ended. So nothing is locked. One forward at a time has the planes (`features.turns`).

Within a task of `convolve`, C channels to K, by one thread, in its own scratch, C/16 chunks of 16:

    plane x               before                          after                   plane y
    6 × 6 inputs, each ─▶ (36, groups, C/16, 6, 16)   ┌─▶ (36, groups × 6, K) ─▶ 4 × 4 outputs, each
    4 from the next       float32             │       │   float32                 tile its own; pooled
         1 transform_input                    └─ 2 multiply      3 transform_output     2 × 2
                                                      │
                          weights (36, K/COLUMNS, C, COLUMNS) float32: all threads read them, none writes

All tiles of the task pass 1, then 2, then 3. A group is 6 tiles, as `multiply` takes them; where the
last one has fewer, its other rows hold what was there before: computed with, and read by nobody.
48 tiles are 0.9 MB of scratch from 64 to 64 channels, and 7 MB from 512 to 512.
"""

from threading import local

import numpy as np
from numpy.typing import NDArray

from features.engines.winograd.simd import CHUNK, ROWS
from features.engines.winograd.transforms import POINTS, TILE
from features.weights import Array

Plane = NDArray[np.float32]

_thread = local()


def plane(images: int, height: int, width: int, channels: int) -> Plane:
    """Make an empty plane for activations of (images, height, width, channels)."""
    overhang = [-(-side // TILE) * TILE + POINTS - TILE for side in (height, width)]
    return np.zeros((images, *overhang, channels), np.float32)


def tiles(images: int, height: int, width: int) -> int:
    """How many tiles cover the outputs of so many images."""
    return images * -(-height // TILE) * -(-width // TILE)


def scratch(inputs: int, outputs: int, tiles: int) -> tuple[Array, Array]:
    """Give this thread's memory for so many tiles at once, before and after the product.

    Returns
    -------
    before : float32 (36, groups, inputs // CHUNK, ROWS, CHUNK)
    after : float32 (36, groups × ROWS, outputs)
    """
    groups = -(-tiles // ROWS)
    first, second = (POINTS**2 * groups * ROWS * channels for channels in (inputs, outputs))
    work = _kept(first + second)
    before = work[:first].reshape(POINTS**2, groups, inputs // CHUNK, ROWS, CHUNK)
    return before, work[first : first + second].reshape(POINTS**2, groups * ROWS, outputs)


def _kept(numbers: int) -> Array:
    """Memory of this thread, kept: fresh memory would cost a page fault every 4 kB."""
    if len(getattr(_thread, "work", ())) < numbers:
        _thread.work = np.empty(numbers, np.float32)
    work: Array = _thread.work
    return work
