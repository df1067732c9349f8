"""How vector instructions are written: LLVM's, as long as the vectors of the CPU at hand.

    code = Code(builder)
    code.store(code.load(here) + 2 * code.load(there), here)

A `Vector` stands for a register, not for numbers: what looks like a sum here writes an
instruction that adds, once, while a kernel is compiled. So `transforms.py` reads as arithmetic.

References
----------
https://llvmlite.readthedocs.io/en/latest/user-guide/ir/ir-builder.html
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba import config

_FEATURES = (config.CPU_FEATURES or binding.get_host_cpu_features().flatten()).split(",")
# Numbers in float32 that one vector holds: of AVX-512, of AVX2, of SSE and NEON
LANES = 16 if "+avx512f" in _FEATURES else 8 if "+avx2" in _FEATURES else 4

_FLOAT, _INTEGER = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_CONTRACT = ("contract",)  # a product and a sum may become one instruction


class Code:
    """The instructions of one function, on vectors and on pointers to float32."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def pointer(self, address: Any) -> Any:
        """Take an address, an integer, for a pointer to float32."""
        return self.builder.inttoptr(address, _FLOAT.as_pointer())

    def at(self, pointer: Any, offset: Any) -> Any:
        """`offset` numbers further on; an int or a value."""
        constant = ir.Constant(_INTEGER, offset) if isinstance(offset, int) else offset
        return self.builder.gep(pointer, [constant])

    def times(self, value: Any, factor: int) -> Any:
        """Multiply an integer."""
        return self.builder.mul(value, ir.Constant(_INTEGER, factor))

    def load(self, pointer: Any) -> "Vector":
        """Read `LANES` numbers, from wherever they begin: nothing is aligned to a vector's length."""
        cast = self.builder.bitcast(pointer, _VECTOR.as_pointer())
        return Vector(self.builder, self.builder.load(cast, align=4))

    def store(self, vector: "Vector", pointer: Any) -> None:
        """Write `LANES` numbers."""
        cast = self.builder.bitcast(pointer, _VECTOR.as_pointer())
        self.builder.store(vector.value, cast, align=4)

    def everywhere(self, scalar: Any) -> "Vector":
        """Give a vector of the same number `LANES` times."""
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return Vector(self.builder, self.builder.shuffle_vector(first, undefined, zeros))

    def zeros(self) -> Any:
        """Give the value of a vector of zeros."""
        return ir.Constant(_VECTOR, [0.0] * LANES)

    def loop(self, times: Any, start: Sequence[Any], body: Callable[[list[Any]], list[Any]]) -> list[Any]:
        """Write a loop, once round at least, that carries values along; gives them as they are behind it.

        `body` writes what one round does with the values, and gives those of the next round.
        """
        before = self.builder.block
        inside, behind = (self.builder.function.append_basic_block(name) for name in ("round", "behind"))
        self.builder.branch(inside)
        self.builder.position_at_end(inside)
        first = [ir.Constant(_INTEGER, 0), *start]
        count, *carried = phis = [self.builder.phi(value.type) for value in first]
        ends = body(carried)
        done = self.builder.add(count, ir.Constant(_INTEGER, 1))
        for phi, value, end in zip(phis, first, [done, *ends], strict=True):
            phi.add_incoming(value, before)
            phi.add_incoming(end, inside)
        self.builder.cbranch(self.builder.icmp_signed("<", done, times), inside, behind)
        self.builder.position_at_end(behind)
        return ends


class Vector:
    """A vector in a register: arithmetic with it writes instructions."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: "Vector") -> "Vector":
        return Vector(self.builder, self.builder.fadd(self.value, other.value, flags=_CONTRACT))

    def __sub__(self, other: "Vector") -> "Vector":
        return Vector(self.builder, self.builder.fsub(self.value, other.value, flags=_CONTRACT))

    def __mul__(self, other: "Vector") -> "Vector":
        return Vector(self.builder, self.builder.fmul(self.value, other.value, flags=_CONTRACT))

    def __rmul__(self, factor: float) -> "Vector":
        return self * Vector(self.builder, ir.Constant(_VECTOR, [float(factor)] * LANES))

    def maximum(self, other: "Vector") -> "Vector":
        """Take the larger number of each pair; a NaN in this vector is kept."""
        # Unordered: a NaN is kept, so that `extract` can refuse it
        greater = self.builder.fcmp_unordered(">", self.value, other.value)
        return Vector(self.builder, self.builder.select(greater, self.value, other.value))
