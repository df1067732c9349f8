"""Which C is solved when, with which others, and for how long.

rounds(45, first=2)    # [[0, 4], [8, 12], …, [2, 6, …], [1, 3, …]]: positions of the sorted grid

The minima for neighbouring C resemble each other, on a logarithmic scale. So every fourth C is solved
first, a few at a time from small to large; then the values half-way, all at once, then the rest.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

STRIDE = 4
FIRST = 2  # values of C side by side in the first rounds, which have to go from small to large
ITERATIONS = 300  # of the softmax
HINGE_ITERATIONS = 60  # float32 seldom gets further then; the rest is for Newton's method
HINGE_ALONE = 100  # where that is too dear; what is left by then changes hardly an answer
BYTES = 2**30  # of one round's numbers: the more columns side by side, the cheaper is each
WORK = 3e11  # multiplications for one C, after which it stays as it is: seconds of two cores
LEAST = 20  # iterations, also for a C above one that stayed unfinished: the larger, the harder


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
