"""Nonlinear conjugate gradients for many linear heads side by side.

Minimised is, per problem, F = ½‖W‖² + C Σ loss. F is 1-strongly convex in W: where the
intercept is optimal, F exceeds its minimum by at most ½‖∇_W F‖². That is the gap a problem
is finished by; what an intercept that is not yet optimal may add is estimated from its own
curvature.

The direction's scores follow by recurrence, so that the line search costs no product with
the features. It is Newton's method in one dimension, for all problems at once.

References
----------
Polak and Ribière 1969; Gilbert and Nocedal 1992 (the positive part of β).
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.heads.linear.line_search import narrowed, on_line
from pipeline.heads.linear.losses import Loss, at
from pipeline.heads.linear.space import Space

TINY = 1e-30  # against 0 / 0: far below what anything is, and above float32's smallest, 1e-38
# Of the slope before: what a line search may leave. Counted, 0.05, 0.2 and 0.5 cost the same 8.1 to 8.2
# products (hinge 18.6, 18.4, 18.4)
SLACK = 0.2
# Of a line search; a bound. Most take one, or two; where classes lie far apart, all ten. Counted, softmax
# with 1, 3 and 30: 8.1, 8.2, 8.2 products
TRIALS = 10


class Solved(NamedTuple):
    """Columns (k, P, size), intercepts (k, P), and how far each problem is at most from its minimum, (P,)."""

    v: Tensor
    intercept: Tensor
    gap: Tensor  # relative to the objective


class PerProblem:
    """Tensors that belong to problems: (P,), (k, P) or (k, P, …)."""

    def keep(self, which: Tensor) -> None:
        """Leave out finished problems."""
        for field in fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            value = getattr(self, field.name)
            if isinstance(value, PerProblem):
                value.keep(which)
            else:
                setattr(self, field.name, value[which] if value.ndim == 1 else value[:, which])


@dataclass
class Gradient(PerProblem):
    """The gradient, and the step that the preconditioner makes of it."""

    weights: Tensor  # (k, P, size)
    intercept: Tensor  # (k, P)
    step: Tensor  # (k, P, size)
    step_scores: Tensor  # (k, P, n)
    intercept_step: Tensor  # (k, P)
    product: Tensor  # (P,), ⟨gradient, step⟩


@dataclass
class Direction(PerProblem):
    """Where a line search goes."""

    weights: Tensor  # (k, P, size)
    scores: Tensor  # (k, P, n)
    intercept: Tensor  # (k, P)


@dataclass
class State(PerProblem):
    """Where every problem stands."""

    number: Tensor  # (P,), which problem
    C: Tensor  # (P,)
    v: Tensor  # (k, P, size)
    intercept: Tensor  # (k, P)
    Z: Tensor  # (k, P, n), relative scores
    E: Tensor  # (k, P, n), the loss's gradient with respect to them
    value: Tensor  # (P,), Σ loss
    square: Tensor  # (P,), ‖W‖²
    gradient: Gradient
    direction: Direction


def descend(
    space: Space, loss: Loss, C: Tensor, v: Tensor, intercept: Tensor, tolerance: float, limit: Tensor
) -> Solved:
    """Minimise from a start until every problem's gap is below tolerance · F.

    Parameters
    ----------
    C : (P,)
    v : (k, P, size), intercept : (k, P)
        The start; the intercept stays as it is where the loss has none.
    limit : (P,) int64
        Iterations; a problem that is not finished by then has its gap to show for it.
    """
    state = _start(space, loss, C, v, intercept)
    solved = Solved(torch.empty_like(v), torch.empty_like(intercept), torch.empty_like(C))
    for iteration in range(int(limit.max())):
        gap = _gap(space, state)
        done = (gap <= tolerance) | (limit[state.number] <= iteration + 1)
        if done.any():
            at_end = state.number[done]
            solved.v[:, at_end], solved.intercept[:, at_end] = state.v[:, done], state.intercept[:, done]
            solved.gap[at_end] = gap[done]
            state.keep(~done)
            loss = loss.keep(~done)
            if not len(state.C):
                break
        _search(space, loss, state)
        _turn(space, loss, state)
    return solved


def _start(space: Space, loss: Loss, C: Tensor, v: Tensor, intercept: Tensor) -> State:
    scores = space.scores(v)
    square = space.inner(v, v, scores)
    Z = loss.relative(scores + intercept[..., None])
    value, E = at(loss, Z)
    g = _differentiate(space, loss, C, v, E)
    downhill = Direction(-g.step, -g.step_scores, -g.intercept_step)
    return State(torch.arange(len(C)), C, v, intercept, Z, E, value, square, g, downhill)


def _differentiate(space: Space, loss: Loss, C: Tensor, v: Tensor, E: Tensor) -> Gradient:
    """The one product with the features that an iteration takes."""
    raw = loss.raw(E)  # (k, P, n)
    curvature = C * loss.columns_curvature(E)  # (k, P)
    weights = v + C[:, None] * space.lift(raw)  # (k, P, size)
    step = space.precondition(weights, curvature)  # (k, P, size)
    scores = space.scores(step)  # (k, P, n)
    product = space.inner(weights, step, scores)  # (P,)
    if not loss.has_intercept:
        none = torch.zeros_like(curvature)
        return Gradient(weights, none, step, scores, none, product)
    intercept = C * raw.sum(2)  # (k, P)
    intercept_step = intercept / (curvature + TINY)
    product = product + (intercept * intercept_step).sum(0)
    return Gradient(weights, intercept, step, scores, intercept_step, product)


def _gap(space: Space, state: State) -> Tensor:
    """½‖∇F‖² over F, (P,)."""
    g = state.gradient
    # In a space without preconditioner these are the gradient's own scores; the other needs none
    squares = space.inner(g.weights, g.weights, g.step_scores) + (g.intercept * g.intercept_step).sum(0)
    return squares / 2 / (state.square / 2 + state.C * state.value)


def _search(space: Space, loss: Loss, state: State) -> None:
    """Go along the direction to where F is least."""
    direction = state.direction
    dZ = loss.relative(direction.scores + direction.intercept[..., None])  # (k, P, n)
    mixed = space.inner(state.v, direction.weights, direction.scores)
    own = space.inner(direction.weights, direction.weights, direction.scores)
    slope, curvature = loss.along(state.E, dZ, slice(None))
    begun = mixed + state.C * slope
    t = -begun / (own + state.C * curvature + TINY)  # (P,)
    low, high = torch.zeros_like(t), torch.full_like(t, torch.inf)
    for trial in range(TRIALS):
        there = on_line(loss, state.Z, dZ, t, state.E)
        slope = mixed + t * own + state.C * there.slope
        open_ = slope.abs() > SLACK * begun.abs()
        if trial == TRIALS - 1 or not open_.any():
            break
        newton = t - slope / (own + state.C * there.curvature + TINY)
        further, low, high = narrowed(t, slope, newton, low, high)
        t = torch.where(open_, further, t)
    state.value = there.value
    state.square = state.square + 2 * t * mixed + t * t * own
    state.v = torch.addcmul(state.v, direction.weights, t[:, None])
    state.intercept = torch.addcmul(state.intercept, direction.intercept, t)
    state.Z.addcmul_(dZ, t[:, None])


def _turn(space: Space, loss: Loss, state: State) -> None:
    """Take the next direction, conjugate to the last one as long as that leads down."""
    old, last = state.gradient, state.direction
    g = _differentiate(space, loss, state.C, state.v, state.E)
    overlap = space.inner(old.weights, g.step, g.step_scores) + (old.intercept * g.intercept_step).sum(0)
    beta = ((g.product - overlap) / (old.product + TINY)).clamp(min=0)
    along = space.inner(g.weights, last.weights, last.scores) + (g.intercept * last.intercept).sum(0)
    beta = torch.where(beta * along < g.product, beta, 0)
    state.gradient = g
    state.direction = Direction(
        last.weights * beta[:, None] - g.step,
        last.scores * beta[:, None] - g.step_scores,
        last.intercept * beta - g.intercept_step,
    )
