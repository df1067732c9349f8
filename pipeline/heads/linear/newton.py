"""Newton's method for the squared hinge, exact where rows short of their margin are few.

On those rows the objective is that of ridge regression, so a step solves one; where no row
passes its margin on the way, the step ends at the minimum. At large C few rows are short,
and float32 no longer resolves them: this is float64 throughout.

References
----------
Keerthi and DeCoste, A Modified Finite Newton Method for Fast Solution of Large Scale Linear
SVMs, JMLR 6, 2005.
"""

import torch
from torch import Tensor

from pipeline.heads.linear.conjugate_gradients import Solved
from pipeline.heads.linear.line_search import narrowed, on_line
from pipeline.heads.linear.losses import SquaredHinge, at
from pipeline.heads.linear.space import Space

# A bound. Paths of 60 × 200 and 150 × 30 random features took 35 at most where rows have length 1, 19 where
# they coincide in pairs, and all 200 where rows are 1,000 long
STEPS = 200
TRIALS = 30  # of a line search; a bound: so many halvings leave 1e-9 of a bracket
PRECISION = 1e-10  # of a step's length. A choice: another t costs no product with the features


def newton(space: Space, loss: SquaredHinge, C: Tensor, v: Tensor, tolerance: float) -> Solved:
    """Minimise from a start until every problem's gap is below tolerance · F (see `conjugate_gradients`).

    Parameters
    ----------
    space : in float64
    C : (P,)
    v : (1, P, size), the start
    """
    number = torch.arange(len(C))
    solved = Solved(v.clone(), torch.zeros_like(C)[None], torch.full_like(C, torch.inf))
    scores = space.scores(v)  # (1, P, n)
    for _ in range(STEPS):
        value, E = at(loss, loss.relative(scores))
        gradient = v + C[:, None] * space.lift(loss.raw(E))  # (1, P, size)
        objective = space.inner(v, v, scores) / 2 + C * value  # (P,)
        gap = space.inner(gradient, gradient, space.scores(gradient)) / 2 / objective
        solved.v[:, number], solved.gap[number] = v, gap
        left = gap > tolerance
        if not left.any():
            break
        number, C, v, scores, E = number[left], C[left], v[:, left], scores[:, left], E[:, left]
        loss = loss.keep(left)
        direction = _aims(space, loss, C, E) - v  # (1, P, size)
        along = space.scores(direction)  # (1, P, n)
        t = _lowest(space, loss, C, (v, scores), (direction, along))
        v, scores = v + t[:, None] * direction, scores + t[:, None] * along
    return solved


def _aims(space: Space, loss: SquaredHinge, C: Tensor, E: Tensor) -> Tensor:
    """Minima (1, P, size) as if the rows that are short now were the ones short there."""
    signs = loss.relative(torch.ones_like(E))  # (1, P, n) of ±1
    aims = []
    for problem, short in enumerate(E[0] < 0):
        rows = torch.nonzero(short)[:, 0]  # (m,)
        penalty = 1 / (2 * C[problem] * loss.weights[rows])
        aims.append(space.ridge(rows, penalty, signs[0, problem, rows]))
    return torch.stack(aims)[None]


def _lowest(
    space: Space, loss: SquaredHinge, C: Tensor, here: tuple[Tensor, Tensor], way: tuple[Tensor, Tensor]
) -> Tensor:
    """Where along its way each objective, a convex chain of parabolas, is least: (P,)."""
    Z, dZ = loss.relative(here[1]), loss.relative(way[1])
    mixed, own = space.inner(here[0], *way), space.inner(way[0], *way)
    E, t = torch.empty_like(Z), torch.ones_like(C)
    low, high = torch.zeros_like(t), torch.full_like(t, torch.inf)
    for _ in range(TRIALS):
        there = on_line(loss, Z, dZ, t, E)
        slope = mixed + t * own + C * there.slope
        step = t - slope / (own + C * there.curvature)
        if ((step - t).abs() <= PRECISION * t).all():
            break
        t, low, high = narrowed(t, slope, step, low, high)
    return t
