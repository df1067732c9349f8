"""The three innermost steps, written in the instructions of the CPU at hand when they are first used.

    transform_input(source, row, column, target, point)              # 6 × 6 inputs → 36 numbers
    multiply(left, right, target, row, chunks)                       # ROWS × COLUMNS of a matrix product
    transform_output(source, point, bias, floor, target, row, column)        # 36 products → 4 × 4 outputs

Compilers vectorise neither a matrix product nor a Winograd transform well, so these are written in
LLVM's own terms (`vectors.py`); `kernels.py` calls them from ordinary loops. They take addresses and
distances, in numbers, and check nothing. Each works on `LANES` channels at once, a vector.

References
----------
Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3), 2008.
https://numba.readthedocs.io/en/stable/extending/high-level.html#implementing-intrinsics
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from numba import types
from numba.extending import intrinsic

from features.engines.winograd.transforms import POINTS, both_sides, input_transform, output_transform
from features.engines.winograd.vectors import LANES, Code, Vector

# The product's tile. Its sums and one row of columns stay in registers, of which AVX2 has 16 (6 × 2 sums,
# 2, and 1 or 2 for the factors), AVX-512 and NEON 32. Measured, a core: 6 × 4 vectors with AVX-512 115
# GFLOP/s, 12 × 2 only 70 (LLVM spills registers), OpenBLAS 85, MKL 65; 6 × 2 with AVX2 96
# (docs/performance.md).
ROWS = 6
COLUMNS = LANES * (2 if LANES == 8 else 4)
# Terms of the product that are unrolled: as many as the longest vector has numbers, so that whatever
# `transform_input` writes at once lies together, and two chunks hold the first convolution's 28 terms.
# Measured with AVX2 on a busy core, ms of 64 → 64 channels at 56 px, 256 → 256 at 28, 512 → 512 at 14 px:
# 8: 2.0, 6.7, 6.0; 16: 1.6, 6.0, 5.8; 32: 1.5, 4.5, 5.6; 64: 1.3, 5.5, 5.2.
CHUNK = 16


def _generated(write: Callable[..., None]) -> Callable[..., Any]:
    """Make what numba asks of an intrinsic, from a function that writes its code."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        write(Code(builder), *arguments)
        return context.get_dummy_value()

    return generate


@intrinsic  # type: ignore[untyped-decorator]
def transform_input(typing: Any, source: Any, row: Any, column: Any, target: Any, point: Any) -> Any:
    """Transform the 6 × 6 inputs of one tile: Bᵀ d B.

    `source` is the address of the first number, `row` and `column` the distances between the rows
    and columns of the inputs; the 36 results go to `target`, `point` numbers apart.
    """
    return types.void(*[types.intp] * 5), _generated(_write_input)


def _write_input(code: Code, source: Any, row: Any, column: Any, target: Any, point: Any) -> None:
    source, target = code.pointer(source), code.pointer(target)
    rows = [code.at(source, code.times(row, y)) for y in range(POINTS)]
    tile = [[code.load(code.at(start, code.times(column, x))) for x in range(POINTS)] for start in rows]
    transformed = [vector for line in both_sides(input_transform, tile) for vector in line]
    for number, vector in enumerate(transformed):
        code.store(vector, code.at(target, code.times(point, number)))


@intrinsic  # type: ignore[untyped-decorator]
def transform_output(
    typing: Any, source: Any, point: Any, bias: Any, floor: Any, target: Any, row: Any, column: Any
) -> Any:
    """Transform one tile's products back: Aᵀ m A, add the bias, and write nothing below `floor`.

    36 numbers from `source`, `point` numbers apart, to 4 × 4 outputs at `target`; `bias` is an address,
    and `floor` a number: 0 is the ReLU, −∞ none.
    """
    return _TRANSFORM_OUTPUT, _generated(partial(_write_output, pooled=False))


@intrinsic  # type: ignore[untyped-decorator]
def transform_output_pooled(
    typing: Any, source: Any, point: Any, bias: Any, floor: Any, target: Any, row: Any, column: Any
) -> Any:
    """Do as `transform_output`, and write the maxima of the outputs' 2 × 2 quarters."""
    return _TRANSFORM_OUTPUT, _generated(partial(_write_output, pooled=True))


_TRANSFORM_OUTPUT = types.void(*[types.intp] * 3, types.float32, *[types.intp] * 3)


def _write_output(
    code: Code,
    source: Any,
    point: Any,
    bias: Any,
    floor: Any,
    target: Any,
    row: Any,
    column: Any,
    *,
    pooled: bool,
) -> None:
    source, target = code.pointer(source), code.pointer(target)
    bias, floor = code.load(code.pointer(bias)), code.everywhere(floor)
    points = [code.load(code.at(source, code.times(point, number))) for number in range(POINTS**2)]
    tile = [points[y : y + POINTS] for y in range(0, POINTS**2, POINTS)]
    outputs = [[vector + bias for vector in line] for line in both_sides(output_transform, tile)]
    for y, line in enumerate(_maxima(outputs) if pooled else outputs):
        start = code.at(target, code.times(row, y))
        for x, vector in enumerate(line):
            code.store(vector.maximum(floor), code.at(start, code.times(column, x)))


def _maxima(outputs: Sequence[Sequence[Vector]]) -> list[list[Vector]]:
    """Take the maxima of 2 × 2 quarters: 4 × 4 vectors to 2 × 2."""
    return [
        [
            a.maximum(b).maximum(c.maximum(d))
            for a, b, c, d in zip(up[::2], up[1::2], low[::2], low[1::2], strict=True)
        ]
        for up, low in zip(outputs[::2], outputs[1::2], strict=True)
    ]


@intrinsic  # type: ignore[untyped-decorator]
def multiply(typing: Any, left: Any, right: Any, target: Any, row: Any, chunks: Any) -> Any:
    """Multiply matrices of which the result is small enough to stay in registers.

    All but `row` and `chunks` are addresses: `left` of float32 (chunks, ROWS, CHUNK), `right` of
    (chunks × CHUNK, COLUMNS), `target` of ROWS × COLUMNS numbers whose rows are `row` numbers apart.
    """
    return types.void(*[types.intp] * 5), _generated(_write_multiply)


def _write_multiply(code: Code, left: Any, right: Any, target: Any, row: Any, chunks: Any) -> None:
    def chunk(carried: list[Any]) -> list[Any]:
        a, b, *values = carried
        sums = [Vector(code.builder, value) for value in values]  # (ROWS, COLUMNS), row by row
        for term in range(CHUNK):
            line = [code.load(code.at(b, term * COLUMNS + column)) for column in range(0, COLUMNS, LANES)]
            for number in range(ROWS):
                factor = code.everywhere(code.builder.load(code.at(a, number * CHUNK + term)))
                for place, vector in enumerate(line, number * len(line)):
                    sums[place] = sums[place] + factor * vector
        return [code.at(a, ROWS * CHUNK), code.at(b, CHUNK * COLUMNS), *(total.value for total in sums)]

    across = COLUMNS // LANES  # vectors
    start = [code.pointer(left), code.pointer(right), *[code.zeros()] * (ROWS * across)]
    _, _, *sums = code.loop(chunks, start, chunk)
    target = code.pointer(target)
    for first in range(0, len(sums), across):
        for position, total in enumerate(sums[first : first + across]):
            code.store(Vector(code.builder, total), code.at(target, position * LANES))
        target = code.at(target, row)
