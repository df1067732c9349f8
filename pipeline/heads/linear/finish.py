"""From columns to heads: weights of the features as they are kept, certified, and mended where that fails.

heads = finished(solver, problems, count=3, stuck=math.inf)    # one `Fitted` for each of three C

The gap that a method stops at is that of its own numbers. What is kept is something else: weights of
the features, rounded to float32. So it is these that are certified, and what does not pass is solved on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.heads.linear.certificate import certified
from pipeline.heads.linear.problems import Problems
from pipeline.heads.linear.solver import Solver

# What falls short of the tolerance in the end is solved again: in float64 or not, to which part of the aim.
# Counted: none of the softmax's columns, 7 % of the hinge's. The parts are a choice: larger ones may fall
# short again
AGAIN = ((False, 4), (True, 4), (True, 16))


@dataclass(frozen=True)
class Fitted:
    """A linear head at one C.

    Attributes
    ----------
    coef : (n_classes, d), intercept : (n_classes,)
        float32, or float64 where that was needed. One column, for the second class, where the hinge tells
        two classes apart.
    gap : float
        The objective is at most so far above its minimum, relative to that: of these very numbers.
    """

    coef: NDArray[Any]
    intercept: NDArray[Any]
    gap: float


@dataclass
class Kept:
    """Heads of P problems as they are kept, in float64 that float32 holds where nothing more was needed."""

    coef: Tensor  # (k, P, d)
    intercept: Tensor  # (k, P)

    @classmethod
    def empty(cls, problems: Problems, d: int) -> "Kept":
        """For some problems."""
        shape = problems.intercept.shape
        return cls(torch.empty(*shape, d, dtype=torch.float64), torch.empty(shape, dtype=torch.float64))

    def heads(self, problems: Problems, count: int, flat: int) -> Iterator[Fitted]:
        """One for each of `count` C; `flat` is the axis that has one entry then."""
        size = len(problems.C) // count
        parts = (self.coef.split(size, 1), self.intercept.split(size, 1))
        for one, *own in zip(problems.each(size), *parts, strict=True):
            dtype = torch.float64 if one.exact.any() else torch.float32
            coef, intercept = (part.squeeze(flat).to(dtype).numpy() for part in own)
            yield Fitted(coef, intercept, float(one.gap.max()))


def finished(solver: Solver, problems: Problems, count: int, stuck: float) -> list[Fitted]:
    """Turn columns into weights of the features, certify these, and go on where a gap is too large.

    Parameters
    ----------
    problems : of `count` values of C; changed
    stuck : see `schedule.iterations`
    """
    kept = Kept.empty(problems, solver.space.features)
    # Where float64 is too dear, those that ran out of iterations stay as they are
    hopeful = (problems.gap <= solver.tolerance) | solver.finishable
    left = torch.ones_like(hopeful)
    for double, further in _attempts(solver):
        _certify(solver, problems, left, kept)
        left = hopeful & (problems.gap > solver.tolerance)
        if not left.any():
            break
        problems.restart()
        _again(solver, problems, left, double, solver.aim / further, stuck)
    _certify(solver, problems, left, kept)
    return list(kept.heads(problems, count, flat=0 if solver.hinge else 1))


def _attempts(solver: Solver) -> tuple[tuple[bool, int], ...]:
    """Those of `AGAIN` that help: none in float64 where it is too dear, one for Newton's method."""
    if not solver.finishable:
        return AGAIN[:1]
    return AGAIN[:2] if solver.hinge else AGAIN


def _again(solver: Solver, problems: Problems, left: Tensor, double: bool, aim: float, stuck: float) -> None:
    """Solve on what is left, (P,) bool."""
    if not solver.hinge or not solver.finishable:
        solver.descend(problems, left, solver.exact if double else solver.space, aim, stuck)
        return
    if double:  # coefficients of rows may have grown where they cancel: from the start
        problems.v[:, left] = 0
    solver.newton(problems, left, aim)


def _certify(solver: Solver, problems: Problems, which: Tensor, kept: Kept) -> None:
    """Write weights as they are to be kept, each in the precision it was solved in, and their gaps."""
    for double in (False, True):
        some = which & (problems.exact == double)  # (P,)
        if some.any():
            space, _, _, v, intercept = solver.posed(problems, some, solver.exact if double else solver.space)
            weights, shifted = (part.double() for part in space.coefficients(v, intercept))
            loss = solver.loss(problems, some, torch.float64)
            single = torch.full((len(shifted[0]),), space.dtype == torch.float32)
            found = certified(solver.space.X, loss, problems.C[some], weights, shifted, single)
            kept.coef[:, some], kept.intercept[:, some] = weights, found.intercept
            problems.gap[some] = found.gap
