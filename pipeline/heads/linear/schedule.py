"""Which C is solved when, with which others, and for how long.

rounds(45, first=2)    # [[0, 4], [8, 12], …, [2, 6, …], [1, 3, …]]: positions of the sorted grid

The minima for neighbouring C resemble each other, on a logarithmic scale. So every fourth C is solved
first, a few at a time from small to large; then the values half-way, all at once, then the rest.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

# Counted, with 1, 2, 4 and 8: softmax 7.6, 7.3, 8.2, 9.4 products; hinge 22.7, 18.7, 18.4, 24.2 in float32
# and 2.9, 2.9, 4.9, 7.3 in float64. 4 needs half as many rounds as 2, and products of more columns are the
# faster ones
STRIDE = 4
# Values of C side by side in the first rounds, which go from small to large so that each finds a start.
# Counted, with 1, 2 and 4: softmax 6.9, 8.2, 11.2 products; but 20 columns at a time run at half the speed
# of 200
FIRST = 2
# Of the softmax; a bound. Counted, 100 and 1,000 give the same 8.2 products
ITERATIONS = 300
# float32 seldom gets further then, and Newton's method does the rest. Counted, with 20, 40, 60: 9.6, 14.6,
# 18.4 products in float32, and 4.7 to 5.0 in float64 with all of them: fewer would do there
HINGE_ITERATIONS = 60
# Where that is too dear. A choice: fewer leave larger gaps, more cost two passes over X each
HINGE_ALONE = 100
# Of one round's numbers: a choice of memory. Fewer make rounds of fewer columns, each of which costs more
# then
BYTES = 2**30
# Multiplications for one C, after which it stays as it is: 5 s of two cores at 120 GFLOP/s. A choice of
# patience
WORK = 3e11
# Iterations that every C gets, and all that one gets above a C that stayed unfinished: the larger, the
# harder. A choice: more cost time where nothing is reached, fewer leave larger gaps
LEAST = 20


def rounds(count: int, first: int) -> list[list[int]]:
    """Which positions of a sorted grid are solved side by side, round after round."""
    coarse = sorted({*range(0, count, STRIDE), count - 1})
    found = [coarse[start : start + first] for start in range(0, len(coarse), first)]
    half = [number for number in range(STRIDE // 2, count, STRIDE) if number not in coarse]
    rest = sorted(set(range(count)) - set(coarse) - set(half))
    return [numbers for numbers in (*found, half, rest) if numbers]


def first_rounds(by_rows: bool, hinge: bool) -> int:
    """How many values of C the first rounds take: where the features are read anew, more."""
    if by_rows:
        return 1 if hinge else FIRST
    return 2 * FIRST


def that_fit(Cs: Sequence[float], column: int) -> Iterator[Sequence[float]]:
    """Cut a round where its numbers would fill memory; `column` is what one C takes, in bytes."""
    size = max(BYTES // column, 1)
    return (Cs[start : start + size] for start in range(0, len(Cs), size))


def iterations(C: Tensor, stuck: float, product: int, hinge: bool, finishable: bool) -> Tensor:
    """How many a descent may take, (P,) int64: fewer where each is long, or where there is little hope.

    Parameters
    ----------
    C : (P,)
    stuck : float
        The smallest C that stayed unfinished.
    product : int
        Multiplications of one iteration, for one C.
    finishable : bool
        Whether float64 can finish what float32 left.
    """
    longest = ITERATIONS if not hinge else HINGE_ITERATIONS if finishable else HINGE_ALONE
    limit = torch.full(C.shape, int(min(max(WORK / product, LEAST), longest)))  # (P,)
    if not finishable:
        limit[stuck < C] = LEAST
    return limit
