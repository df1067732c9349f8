"""Vector code for the CPU at hand, generated when it is first used.

Compilers vectorise neither a matrix product nor a Winograd transform well, so these
three are written in LLVM's own terms; `convolution.py` calls them from ordinary loops.
The vectors are as long as the CPU's: 16, 8 or 4 numbers in float32.

References
----------
Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3), 2008.
Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308.
Barabasz et al., Error Analysis and Improving the Accuracy of Winograd Convolution for
Deep Neural Networks, arXiv:1803.10986.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config, types
from numba.extending import intrinsic

_FEATURES = (config.CPU_FEATURES or binding.get_host_cpu_features().flatten()).split(",")
LANES = 16 if "+avx512f" in _FEATURES else 8 if "+avx2" in _FEATURES else 4
# The product's tile: rows × columns accumulators and one row of columns stay in registers,
# of which AVX2 has 16, AVX-512 and NEON 32.
ROWS = 6
COLUMNS = LANES * (2 if LANES == 8 else 4)
CHUNK = 16  # terms of the product that are unrolled

TILE = 4  # Winograd's F(4 × 4, 3 × 3): 4 × 4 outputs …
POINTS = TILE + 2  # … from 6 × 6 inputs by 6 × 6 products, where direct convolution takes 144

# The transform interpolates at 0, ±√½, ±√2 and ∞. The usual 0, ±1, ±2 give four times the
# rounding error; these also make the most constants 1.
_A, _B = sqrt(0.5), sqrt(2.0)
WEIGHT_TRANSFORM = np.array(
    [
        [1, 0, 0],
        [-2 / 3, -2 / 3 * _A, -1 / 3],
        [-2 / 3, 2 / 3 * _A, -1 / 3],
        [1 / 6, _B / 6, 1 / 3],
        [1 / 6, -_B / 6, 1 / 3],
        [0, 0, 1],
    ]
)

_FLOAT, _INTEGER = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_CONTRACT = ("contract",)  # a product and a sum may become one instruction


class _Code:
    """The instructions of one function, on vectors and on pointers to float32."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def pointer(self, address: Any) -> Any:
        return self.builder.inttoptr(address, _FLOAT.as_pointer())

    def at(self, pointer: Any, offset: Any) -> Any:
        """`offset` numbers further on; an int or a value."""
        return self.builder.gep(
            pointer, [ir.Constant(_INTEGER, offset) if isinstance(offset, int) else offset]
        )

    def times(self, value: Any, factor: int) -> Any:
        return self.builder.mul(value, ir.Constant(_INTEGER, factor))

    def load(self, pointer: Any) -> "_Vector":
        cast = self.builder.bitcast(pointer, _VECTOR.as_pointer())
        return _Vector(self.builder, self.builder.load(cast, align=4))

    def store(self, vector: "_Vector", pointer: Any) -> None:
        cast = self.builder.bitcast(pointer, _VECTOR.as_pointer())
        self.builder.store(vector.value, cast, align=4)

    def everywhere(self, scalar: Any) -> "_Vector":
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return _Vector(self.builder, self.builder.shuffle_vector(first, undefined, zeros))


class _Vector:
    """A vector in a register, so that the transforms below read as arithmetic."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: "_Vector") -> "_Vector":
        return _Vector(self.builder, self.builder.fadd(self.value, other.value, flags=_CONTRACT))

    def __sub__(self, other: "_Vector") -> "_Vector":
        return _Vector(self.builder, self.builder.fsub(self.value, other.value, flags=_CONTRACT))

    def __mul__(self, other: "_Vector") -> "_Vector":
        return _Vector(self.builder, self.builder.fmul(self.value, other.value, flags=_CONTRACT))

    def __rmul__(self, factor: float) -> "_Vector":
        return self * _Vector(self.builder, ir.Constant(_VECTOR, [float(factor)] * LANES))

    def maximum(self, other: "_Vector") -> "_Vector":
        # Unordered: a NaN is kept, so that `extract` can refuse it
        greater = self.builder.fcmp_unordered(">", self.value, other.value)
        return _Vector(self.builder, self.builder.select(greater, self.value, other.value))


def _transform_input(d: Sequence[_Vector]) -> list[_Vector]:
    a, b = d[4] - 2 * d[2], _A * (d[3] - 2 * d[1])
    c, e = d[4] - 0.5 * d[2], _B * (d[3] - 0.5 * d[1])
    return [d[0] - 2.5 * d[2] + d[4], a + b, a - b, c + e, c - e, d[1] - 2.5 * d[3] + d[5]]


def _transform_output(m: Sequence[_Vector]) -> list[_Vector]:
    a, b, c, d = m[1] + m[2], _A * (m[1] - m[2]), m[3] + m[4], _B * (m[3] - m[4])
    return [m[0] + a + c, b + d, 0.5 * a + 2 * c, 0.5 * b + 2 * d + m[5]]


def _sandwich(transform: Callable[[Sequence[_Vector]], list[_Vector]], tile: list[list[_Vector]]) -> Any:
    """Transform the columns of a tile, then the rows of what that gives."""
    columns = [transform(column) for column in zip(*tile, strict=True)]
    return [transform(row) for row in zip(*columns, strict=True)]


@intrinsic  # type: ignore[untyped-decorator]
def transform_input(typing: Any, source: Any, row: Any, column: Any, target: Any, point: Any) -> Any:
    """Transform one tile of `LANES` channels.

    `source` is the address of its first number, `row` and `column` the distances, in
    numbers, between the rows and columns of the 6 × 6 inputs; the 36 results go to
    `target`, `point` numbers apart.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        code = _Code(builder)
        source, row, column, target, point = arguments
        source, target = code.pointer(source), code.pointer(target)
        rows = [code.at(source, code.times(row, y)) for y in range(POINTS)]
        tile = [[code.load(code.at(start, code.times(column, x))) for x in range(POINTS)] for start in rows]
        transformed = [vector for line in _sandwich(_transform_input, tile) for vector in line]
        for number, vector in enumerate(transformed):
            code.store(vector, code.at(target, code.times(point, number)))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), generate


def _output(*, pooled: bool) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def transform_output(
        typing: Any, source: Any, point: Any, bias: Any, floor: Any, target: Any, row: Any, column: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
            code = _Code(builder)
            source, point, bias, floor, target, row, column = arguments
            source, target = code.pointer(source), code.pointer(target)
            bias, floor = code.load(code.pointer(bias)), code.everywhere(floor)
            points = [code.load(code.at(source, code.times(point, n))) for n in range(POINTS**2)]
            tile = [points[y : y + POINTS] for y in range(0, POINTS**2, POINTS)]
            outputs = [[vector + bias for vector in line] for line in _sandwich(_transform_output, tile)]
            if pooled:
                outputs = [
                    [
                        a.maximum(b).maximum(c.maximum(d))
                        for a, b, c, d in zip(up[::2], up[1::2], low[::2], low[1::2], strict=True)
                    ]
                    for up, low in zip(outputs[::2], outputs[1::2], strict=True)
                ]
            for y, line in enumerate(outputs):
                start = code.at(target, code.times(row, y))
                for x, vector in enumerate(line):
                    code.store(vector.maximum(floor), code.at(start, code.times(column, x)))
            return context.get_dummy_value()

        integers = [types.intp] * 3
        return types.void(*integers, types.float32, *integers), generate

    return transform_output


# Transform `LANES` channels of a tile's products back: 36 numbers from `source`, `point` numbers
# apart, to 4 × 4 outputs, or to the maxima of their 2 × 2 quarters; `bias` is an address, and
# nothing below `floor` is written (0 is the ReLU).
transform_output = _output(pooled=False)
transform_output_pooled = _output(pooled=True)


@intrinsic  # type: ignore[untyped-decorator]
def multiply(typing: Any, left: Any, right: Any, target: Any, row: Any, chunks: Any) -> Any:
    """Multiply matrices small enough for the result to stay in registers.

    All but `chunks` are addresses: `left` of float32 (chunks, ROWS, CHUNK), `right` of
    (chunks × CHUNK, COLUMNS), `target` of ROWS × COLUMNS numbers whose rows are `row` numbers apart.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        code = _Code(builder)
        left, right, target, row, chunks = arguments
        left, right, target = (code.pointer(address) for address in (left, right, target))
        before = builder.block
        body, after = (builder.function.append_basic_block(name) for name in ("terms", "written"))
        builder.branch(body)
        builder.position_at_end(body)

        def carried(start: Any) -> Any:
            value = builder.phi(start.type)
            value.add_incoming(start, before)
            return value

        count, a, b = carried(ir.Constant(_INTEGER, 0)), carried(left), carried(right)
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        starts = [carried(zero) for _ in range(ROWS * COLUMNS // LANES)]
        sums = [_Vector(builder, value) for value in starts]
        for term in range(CHUNK):
            line = [code.load(code.at(b, term * COLUMNS + column)) for column in range(0, COLUMNS, LANES)]
            for row_number in range(ROWS):
                factor = code.everywhere(builder.load(code.at(a, row_number * CHUNK + term)))
                for number, vector in enumerate(line, row_number * len(line)):
                    sums[number] = sums[number] + factor * vector
        done = builder.add(count, ir.Constant(_INTEGER, 1))
        ends = [done, code.at(a, ROWS * CHUNK), code.at(b, CHUNK * COLUMNS), *(total.value for total in sums)]
        for value, end in zip([count, a, b, *starts], ends, strict=True):
            value.add_incoming(end, body)
        builder.cbranch(builder.icmp_signed("<", done, chunks), body, after)
        builder.position_at_end(after)
        for start in range(0, len(sums), len(line)):
            for position, total in enumerate(sums[start : start + len(line)]):
                code.store(total, code.at(target, position * LANES))
            target = code.at(target, row)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), generate
