"""A linear head's whole regularisation path: all values of C, from few products with the features.

    for fitted in solve(X, y, 10, [0.1, 1.0], np.ones(len(X)), "softmax", 1e-4):
        scores = X @ fitted.coef.T + fitted.intercept

Round after round (`schedule`), each value of C starts from where those that are solved point to
(`warm_start`), and goes down to its minimum (`solver`). In the end all are turned into weights of the
features and certified (`finish`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.heads.linear.finish import Fitted, finished
from pipeline.heads.linear.problems import Problems
from pipeline.heads.linear.schedule import first_rounds, rounds, that_fit
from pipeline.heads.linear.solver import Solver
from pipeline.heads.linear.warm_start import extrapolated, nearest
from pipeline.heads.rows import at_hand

# Multiplications of a product that one core does alone: half a millisecond. Two threads took 16 to 36 ms
# for any product of 2²⁰ to 2²⁶ while other processes wanted both cores (AMD EPYC, float32)
SMALL = 2**24
# Of the rows: with fewer short of their margin, Newton's method comes first. On the photographs' fc7 it is
# as fast as descent at 0.45, and with 0.15 the path took four times as long. On 500 rows of the stand-in
# 0.15 and 0.3 cost what 0.45 does, and 0.6 a third
FEW = 0.45


def solve(
    X: Any,
    y: NDArray[Any],
    n_classes: int,
    Cs: Sequence[float],
    weights: NDArray[np.float64],
    kind: Literal["softmax", "squared hinge"],
    tolerance: float,
) -> Iterator[Fitted]:
    """Solve every C; yields them in the order given.

    Parameters
    ----------
    X : (n, d) NumPy array, or dask array
    y : (n,) class numbers
    weights : (n,)
        What each row's loss counts.
    kind : str
        The softmax's intercept is free. The hinge's is the weight of a feature that is always
        1, and penalised, as in LIBLINEAR.
    tolerance : float
        Of the gap. Below 1e-5 everything is solved in float64.
    """
    product = X.shape[0] * min(X.shape) * n_classes  # multiplications, of all columns of one C
    ordered, solved = sorted(Cs), dict[float, Problems]()
    with _cores(product):
        solver = Solver(at_hand(X), y, n_classes, weights, kind, tolerance)
        n, space, k = len(solver.labels), solver.space, len(solver.columns)
        for numbers in rounds(len(Cs), first_rounds(solver.by_rows, solver.hinge)):
            # float32: five tensors of scores, and five of columns
            for some in that_fit([ordered[number] for number in numbers], 4 * 5 * (n + space.size) * k):
                solved |= _round(solver, some, solved)
    # float64: four of scores, and four of weights
    for some in that_fit(Cs, 8 * (4 * n + 4 * space.features) * k):
        with _cores(product):
            problems = Problems.joined([solved[C] for C in some])
            found = finished(solver, problems, len(some), _stuck(solver, solved))
        yield from found


def _round(solver: Solver, Cs: Sequence[float], solved: Mapping[float, Problems]) -> dict[float, Problems]:
    """Solve some C side by side, from where those that are solved point to."""
    problems = Problems.joined([extrapolated(C, solved, solver.zero(C)) for C in Cs])
    left = torch.ones_like(problems.exact)  # (P,)
    if solver.hinge and solver.by_rows:
        left = _newton_first(solver, Cs, problems, solved)
    solver.descend(problems, left, solver.space, solver.aim, _stuck(solver, solved))
    if solver.hinge:
        solver.newton(problems, problems.gap > solver.tolerance, solver.aim)
    problems.restart()
    return dict(zip(Cs, problems.each(len(problems.C) // len(Cs)), strict=True))


def _newton_first(
    solver: Solver, Cs: Sequence[float], problems: Problems, solved: Mapping[float, Problems]
) -> Tensor:
    """Newton's method on those hinges where few rows are short of their margin; the others, (P,) bool."""
    near = Problems.joined([nearest(C, solved, solver.zero(C)) for C in Cs])
    _, loss, _, v, _ = solver.posed(near, torch.ones_like(near.exact), solver.space)
    short = (loss.relative(solver.space.scores(v)) < 1).sum((0, 2))  # (1, P, n) → (P,)
    many = short > FEW * len(solver.labels)
    # Beyond what is solved the column before is the better start: a line leaves few rows short
    beyond = max(solved, default=0) < problems.C
    problems.v = torch.where((~many & beyond)[:, None], near.v, problems.v)
    solver.newton(problems, ~many, solver.aim)
    return many


def _stuck(solver: Solver, solved: Mapping[float, Problems]) -> float:
    """The smallest C that stayed unfinished; infinity where there is none."""
    return min((C for C, one in solved.items() if one.gap.max() > solver.tolerance), default=math.inf)


@contextmanager
def _cores(product: int) -> Iterator[None]:
    """One core where products are small: handing them to others costs more, most of all busy ones."""
    before = torch.get_num_threads()
    if product < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
