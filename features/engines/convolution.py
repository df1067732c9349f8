"""3 × 3 convolutions on a CPU by Winograd's minimal filtering: a quarter of the multiplications.

A tile of 6 × 6 inputs becomes 36 numbers per channel, multiplied point by point with the
weights' own 36 (one matrix product over the channels for each point), and 4 × 4 outputs
come back. Everything between tile and outputs stays in the cache of one core.

Activations are "planes": float32 (images, height, width, channels) with zeros around, one
row and column before, and behind at least as much as the last tile overhangs. Every tile
is computed alone, so an image's numbers depend neither on the batch nor on the threads.
"""

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from features.engines.simd import (
    CHUNK,
    COLUMNS,
    LANES,
    POINTS,
    ROWS,
    TILE,
    WEIGHT_TRANSFORM,
    multiply,
    transform_input,
    transform_output,
    transform_output_pooled,
)

Plane = NDArray[np.float32]

_FLOAT32 = 4  # bytes
_FIRST = 2 * CHUNK  # terms of the first convolution: 27, the bias as a 28th, zeros


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile when first called, without Python's lock, and keep the code where there is a place for it."""
    try:
        compiled: Callable[..., None] = njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither this folder nor the user's can be written to
        compiled = njit(nogil=True)(function)
    return compiled


def plane(images: int, height: int, width: int, channels: int) -> Plane:
    """Make an empty plane for activations of (images, height, width, channels)."""
    overhang = [-(-side // TILE) * TILE + POINTS - TILE for side in (height, width)]
    return np.zeros((images, *overhang, channels), np.float32)


def tiles(images: int, height: int, width: int) -> int:
    """How many tiles cover the outputs of so many images."""
    return images * -(-height // TILE) * -(-width // TILE)


def scratch(inputs: int, outputs: int, tiles: int) -> int:
    """Numbers that `convolve` needs to work on so many tiles at once."""
    return POINTS**2 * (inputs + outputs) * -(-tiles // ROWS) * ROWS


def transformed(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Transform weights (outputs, inputs, 3, 3) in float64 to float32 (36, panels, inputs, COLUMNS)."""
    outputs, inputs = weight.shape[:2]
    panels = weight.reshape(outputs // COLUMNS, COLUMNS, inputs, 9).transpose(3, 0, 2, 1)
    both_sides = np.kron(WEIGHT_TRANSFORM, WEIGHT_TRANSFORM)  # (36, 9)
    points = both_sides @ np.ascontiguousarray(panels, np.float64).reshape(9, -1)
    return points.astype(np.float32).reshape(POINTS**2, -1, inputs, COLUMNS)


def arranged(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """Arrange the first convolution's weights (outputs, 3, 3, 3) as (panels, 32, COLUMNS)."""
    outputs = len(weight)
    terms = np.zeros((_FIRST, outputs), np.float32)
    terms[:27] = weight.transpose(2, 3, 1, 0).reshape(27, outputs)
    terms[27] = bias
    return np.ascontiguousarray(terms.reshape(_FIRST, outputs // COLUMNS, COLUMNS).swapaxes(0, 1))


@_compiled
def convolve(x, y, weights, bias, floor, height, width, pooled, start, stop, work):  # type: ignore[no-untyped-def]
    """Compute the outputs of tiles `start` to `stop`, numbered row by row and image by image.

    Parameters
    ----------
    x, y : Plane
        Inputs, and outputs or, where `pooled`, their 2 × 2 maxima.
    weights, bias : float32 arrays
        As `transformed` gives them; (outputs,).
    floor : float32
        Nothing below it is written: 0 is the ReLU, −∞ none.
    height, width : int
        Of the convolution's outputs, before any pooling.
    work : float32 array
        At least `scratch(…)` numbers, of this thread alone.
    """
    inputs, outputs = x.shape[3], y.shape[3]
    high, wide = -(-height // TILE), -(-width // TILE)
    side = TILE // 2 if pooled else TILE
    if pooled:
        height, width = height // 2, width // 2
    groups = -(-(stop - start) // ROWS)
    x_row, y_row = x.shape[2] * inputs, y.shape[2] * outputs
    in_point, out_point = groups * ROWS * inputs, groups * ROWS * outputs
    x_at, y_at, bias_at, weights_at = x.ctypes.data, y.ctypes.data, bias.ctypes.data, weights.ctypes.data
    in_at = work.ctypes.data
    out_at = in_at + _FLOAT32 * POINTS**2 * in_point

    for tile in range(stop - start):
        image, place = divmod(start + tile, high * wide)
        top, left = place // wide * TILE, place % wide * TILE
        source = x_at + _FLOAT32 * (((image * x.shape[1] + top) * x.shape[2] + left) * inputs)
        group, row = divmod(tile, ROWS)
        for c in range(0, inputs, LANES):
            within = (group * inputs + c // CHUNK * CHUNK) * ROWS + row * CHUNK + c % CHUNK
            transform_input(source + _FLOAT32 * c, x_row, inputs, in_at + _FLOAT32 * within, in_point)

    panel = inputs * COLUMNS
    for point in range(POINTS**2):
        for column in range(0, outputs, COLUMNS):
            right = weights_at + _FLOAT32 * (point * inputs * outputs + column // COLUMNS * panel)
            for group in range(groups):
                left = in_at + _FLOAT32 * (point * in_point + group * ROWS * inputs)
                target = out_at + _FLOAT32 * (point * out_point + group * ROWS * outputs + column)
                multiply(left, right, target, outputs, inputs // CHUNK)

    edge = np.empty((side, side, outputs), np.float32)
    for tile in range(stop - start):
        image, place = divmod(start + tile, high * wide)
        top, left = place // wide * side, place % wide * side
        source = out_at + _FLOAT32 * tile * outputs
        whole = top + side <= height and left + side <= width
        if whole:
            target = y_at + _FLOAT32 * (((image * y.shape[1] + top + 1) * y.shape[2] + left + 1) * outputs)
            row = y_row
        else:
            target, row = edge.ctypes.data, side * outputs
        for c in range(0, outputs, LANES):
            at, to = source + _FLOAT32 * c, target + _FLOAT32 * c
            if pooled:
                transform_output_pooled(at, out_point, bias_at + _FLOAT32 * c, floor, to, row, outputs)
            else:
                transform_output(at, out_point, bias_at + _FLOAT32 * c, floor, to, row, outputs)
        if not whole:
            for r in range(min(side, height - top)):
                for s in range(min(side, width - left)):
                    y[image, top + r + 1, left + s + 1] = edge[r, s]


@_compiled
def convolve_first(images, y, table, weights, floor, image, start, stop):  # type: ignore[no-untyped-def]
    """Compute rows `start` to `stop` of the first convolution of one image, directly.

    Parameters
    ----------
    images : uint8 (batch, height, width, 3)
    y : Plane
    table : float32 (3, 256)
        The normalised number of each channel's values.
    weights : float32 array
        As `arranged` gives them.
    """
    height, width, outputs = images.shape[1], images.shape[2], y.shape[3]
    lines = np.zeros((stop - start + 2, width + 2, 3), np.float32)
    for r in range(max(start - 1, 0), min(stop + 1, height)):
        for s in range(width):
            for c in range(3):
                lines[r - start + 1, s + 1, c] = table[c, images[image, r, s, c]]
    lines = lines.reshape(stop - start + 2, (width + 2) * 3)
    terms = np.zeros((2, ROWS, CHUNK), np.float32)
    terms[1, :, 27 - CHUNK] = 1  # of the bias
    for r in range(stop - start):
        for begin in range(0, width, ROWS):
            first = min(begin, width - ROWS)  # the last pixels of a row may be computed twice
            for pixel in range(ROWS):
                for term in range(27):
                    value = lines[r + term // 9, (first + pixel) * 3 + term % 9]
                    terms[term // CHUNK, pixel, term % CHUNK] = value
            corner = ((image * y.shape[1] + start + r + 1) * y.shape[2] + first + 1) * outputs
            for column in range(0, outputs, COLUMNS):
                right = weights.ctypes.data + _FLOAT32 * column * _FIRST
                target = y.ctypes.data + _FLOAT32 * (corner + column)
                multiply(terms.ctypes.data, right, target, outputs, 2)
            for pixel in range(ROWS):
                for c in range(outputs):
                    value = y[image, start + r + 1, first + pixel + 1, c]
                    if value < floor:
                        y[image, start + r + 1, first + pixel + 1, c] = floor


@_compiled
def pool(x, y, height, width, image):  # type: ignore[no-untyped-def]
    """Take the 2 × 2 maxima of one image's (height, width); odd last rows and columns are dropped."""
    for r in range(height // 2):
        for s in range(width // 2):
            for c in range(x.shape[3]):
                a, b = x[image, 2 * r + 1, 2 * s + 1, c], x[image, 2 * r + 1, 2 * s + 2, c]
                d, e = x[image, 2 * r + 2, 2 * s + 1, c], x[image, 2 * r + 2, 2 * s + 2, c]
                y[image, r + 1, s + 1, c] = max(a, b, d, e)
