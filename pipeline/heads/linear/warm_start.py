"""Where a C starts from: what is solved already points to it.

problems = extrapolated(0.3, solved, zero)    # between solved ones a cubic, beyond them a line
problems = nearest(0.3, solved, zero)         # the one before, as it is
"""

import math
from collections.abc import Mapping

from pipeline.heads.linear.problems import Problems

Solved = Mapping[float, Problems]  # by C


def extrapolated(C: float, solved: Solved, start: Problems) -> Problems:
    """Follow the path to C: a cubic through the four nearest, or a line on from the last two.

    Parameters
    ----------
    start : this C's problems at zero, which are moved, and returned
    """
    x, known = math.log(C), {math.log(other): one for other, one in solved.items()}
    near = sorted(known, key=lambda other: abs(other - x))[:4]
    if near and not min(known) <= x <= max(known):
        near = near[:2]
    for one in near:  # Lagrange's form of the polynomial through them, in log C
        share = math.prod((x - other) / (one - other) for other in near if other != one)
        start.v += share * known[one].v  # (k, P, size)
        start.intercept += share * known[one].intercept  # (k, P)
    return start


def nearest(C: float, solved: Solved, start: Problems) -> Problems:
    """The solved one before this C, or the first; where nothing is solved, the start."""
    before = [other for other in solved if other <= C] or sorted(solved)[:1]
    return solved[max(before)] if before else start
