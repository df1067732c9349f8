"""The loops around `simd.py`, compiled by numba: what one task computes, of one plane from another.

    convolve(x, y, weights, bias, floor, height, width, pooled, start, stop, before, after)
    convolve_first(images, y, table, weights, floor, image, start, stop)
    pool(x, y, height, width, image)

`memory.py` draws the arrays, `filters.py` makes the weights, `plan.py` cuts the work into tasks. Every
tile is computed alone, so an image's numbers depend neither on the batch nor on the threads.

Numba keeps the compiled code beside this file, and goes by this file's date and size alone. So it names
what it is made of: who changes that has to change this, and no machine goes on with the code of before.
"""

from collections.abc import Callable

import numpy as np
from numba import njit
from numba.extending import register_jitable

from features.engines.winograd.simd import (
    CHUNK,
    COLUMNS,
    ROWS,
    multiply,
    transform_input,
    transform_output,
    transform_output_pooled,
)
from features.engines.winograd.transforms import POINTS, TILE
from features.engines.winograd.vectors import LANES

MADE_OF = "069bcfa111418d7b"  # the beginning of the sha256 of transforms.py, vectors.py and simd.py


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile when first called, without Python's lock, and keep the code where there is a place for it."""
    try:
        compiled: Callable[..., None] = njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither this folder nor the user's can be written to
        compiled = njit(nogil=True)(function)
    return compiled


@_compiled
def convolve(x, y, weights, bias, floor, height, width, pooled, start, stop, before, after):  # type: ignore[no-untyped-def]
    """Compute the outputs of tiles `start` to `stop`, numbered row by row and image by image.

    Parameters
    ----------
    x, y : Plane
        Inputs, and outputs or, where `pooled`, their 2 × 2 maxima.
    weights, bias : float32 arrays
        As `filters.transformed` gives them; (outputs,).
    floor : float32
        Nothing below it is written: 0 is the ReLU, −∞ none.
    height, width : int
        Of the convolution's outputs, before any pooling.
    before, after : float32 arrays
        `memory.scratch(…)`, of this thread alone.
    """
    high, wide = -(-height // TILE), -(-width // TILE)
    _transform_inputs(x, before, start, stop, high, wide)
    _multiply(before, weights, after)
    _transform_outputs(after, y, bias, floor, height, width, pooled, start, stop)


@register_jitable
def _transform_inputs(x, before, start, stop, high, wide):  # type: ignore[no-untyped-def]
    """From x (n, H', W', C) to before (36, groups, C // CHUNK, ROWS, CHUNK): a tile is a row of a group."""
    row, column, point = x.shape[2] * x.shape[3], x.shape[3], before[0].size
    for tile in range(stop - start):
        image, top, left = _place(start + tile, high, wide, TILE)
        group, place = divmod(tile, ROWS)
        for c in range(0, x.shape[3], LANES):
            source = _address(x, (image, top, left, c))  # the zeros before the image are row and column 0
            target = _address(before, (0, group, c // CHUNK, place, c % CHUNK))
            transform_input(source, row, column, target, point)


@register_jitable
def _multiply(before, weights, after):  # type: ignore[no-untyped-def]
    """From before, as (36, tiles, C), and weights, as (36, C, K), to after (36, tiles, K)."""
    # A panel of weights, up to 131 kB, stays in the cache while all groups of tiles pass by
    for point in range(POINTS**2):
        for panel in range(weights.shape[1]):
            right = _address(weights, (point, panel))  # (C, COLUMNS)
            for group in range(before.shape[1]):
                left = _address(before, (point, group))  # (C // CHUNK, ROWS, CHUNK)
                target = _address(after, (point, group * ROWS, panel * COLUMNS))
                multiply(left, right, target, after.shape[2], before.shape[2])


@register_jitable
def _transform_outputs(after, y, bias, floor, height, width, pooled, start, stop):  # type: ignore[no-untyped-def]
    """From after (36, tiles, K) to y (n, H', W', K): 4 × 4 outputs of each tile, 2 × 2 where pooled."""
    high, wide = -(-height // TILE), -(-width // TILE)
    side = TILE // 2 if pooled else TILE
    if pooled:
        height, width = height // 2, width // 2
    edge = np.empty((side, side, y.shape[3]), np.float32)
    for tile in range(stop - start):
        image, top, left = _place(start + tile, high, wide, side)
        if top + side <= height and left + side <= width:
            target = _address(y, (image, top + 1, left + 1))
            _transform_output(after, tile, bias, floor, pooled, target, y.shape[2] * y.shape[3])
        else:  # outputs beyond the edge would be written over the zeros there
            _transform_output(after, tile, bias, floor, pooled, _address(edge, (0,)), side * y.shape[3])
            for r in range(min(side, height - top)):
                for s in range(min(side, width - left)):
                    y[image, top + r + 1, left + s + 1] = edge[r, s]


@register_jitable
def _transform_output(after, tile, bias, floor, pooled, target, row):  # type: ignore[no-untyped-def]
    """Write all channels of a tile's outputs to an address, in rows `row` numbers apart."""
    outputs, point = after.shape[2], after[0].size
    for c in range(0, outputs, LANES):
        source, shift, to = _address(after, (0, tile, c)), _address(bias, (c,)), target + bias.itemsize * c
        if pooled:
            transform_output_pooled(source, point, shift, floor, to, row, outputs)
        else:
            transform_output(source, point, shift, floor, to, row, outputs)


@register_jitable
def _place(tile, high, wide, side):  # type: ignore[no-untyped-def]
    """Which image a tile is of, and where it begins there; tiles are `side` long."""
    image, place = divmod(tile, high * wide)
    return image, place // wide * side, place % wide * side


@register_jitable
def _address(array, index):  # type: ignore[no-untyped-def]
    """Where `array[index]` begins: all that `simd.py` knows of an array."""
    address = array.ctypes.data
    for axis in range(len(index)):
        address += index[axis] * array.strides[axis]
    return address


@_compiled
def convolve_first(images, y, table, weights, floor, image, start, stop):  # type: ignore[no-untyped-def]
    """Compute rows `start` to `stop` of the first convolution of one image, directly.

    Three channels would not fill a vector of `transform_input`; 27 terms are two chunks of `multiply`.

    Parameters
    ----------
    images : uint8 (batch, height, width, 3)
    y : Plane
    table : float32 (3, 256)
        The normalised number of each channel's values.
    weights : float32 array
        As `filters.arranged` gives them.
    """
    width, outputs = images.shape[2], y.shape[3]
    lines = _normalised(images[image], table, start, stop)  # (rows + 2, (width + 2) × 3)
    terms = np.zeros((2, ROWS, CHUNK), np.float32)  # of ROWS pixels: 27, 1 for the bias, zeros
    terms[1, :, 27 - CHUNK] = 1
    for r in range(stop - start):
        for begin in range(0, width, ROWS):
            first = min(begin, width - ROWS)  # the last pixels of a row may be computed twice
            _gather(lines, r, first, terms)
            for panel in range(outputs // COLUMNS):
                target = _address(y, (image, start + r + 1, first + 1, panel * COLUMNS))
                multiply(_address(terms, (0,)), _address(weights, (panel,)), target, outputs, 2)
            for pixel in range(ROWS):
                for c in range(outputs):
                    if y[image, start + r + 1, first + pixel + 1, c] < floor:  # a NaN stays one
                        y[image, start + r + 1, first + pixel + 1, c] = floor


@register_jitable
def _normalised(pixels, table, start, stop):  # type: ignore[no-untyped-def]
    """From pixels (height, width, 3) to float32 (rows + 2, (width + 2) × 3), with zeros around the image."""
    height, width = pixels.shape[:2]
    lines = np.zeros((stop - start + 2, width + 2, 3), np.float32)
    for r in range(max(start - 1, 0), min(stop + 1, height)):
        for s in range(width):
            for c in range(3):
                lines[r - start + 1, s + 1, c] = table[c, pixels[r, s, c]]
    return lines.reshape(stop - start + 2, (width + 2) * 3)


@register_jitable
def _gather(lines, r, first, terms):  # type: ignore[no-untyped-def]
    """From lines to terms (2, ROWS, CHUNK): the 27 numbers around each of ROWS pixels, channels last."""
    for pixel in range(ROWS):
        for term in range(27):
            value = lines[r + term // 9, (first + pixel) * 3 + term % 9]
            terms[term // CHUNK, pixel, term % CHUNK] = value


@_compiled
def pool(x, y, height, width, image):  # type: ignore[no-untyped-def]
    """Take the 2 × 2 maxima of one image's (height, width); odd last rows and columns are dropped."""
    for r in range(height // 2):
        for s in range(width // 2):
            for c in range(x.shape[3]):
                a, b = x[image, 2 * r + 1, 2 * s + 1, c], x[image, 2 * r + 1, 2 * s + 2, c]
                d, e = x[image, 2 * r + 2, 2 * s + 1, c], x[image, 2 * r + 2, 2 * s + 2, c]
                y[image, r + 1, s + 1, c] = max(a, b, d, e)
