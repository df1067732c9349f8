"""How far linear heads are at most above their minima, whatever precision they were found in.

    intercept, gap = certified(X, loss, C, coef, intercept, single)

F = ½‖W‖² + C Σ loss is computed in float64, from the features as they were given and the weights as they
are kept. A gradient A of the losses with respect to the scores is a point of the dual problem, whose
value bounds the minimum from below: F exceeds it by ½‖W + XᵀA‖², that is ½‖∇F‖². Three things are
added, so that the bound holds as it stands:

- what a free intercept, kept as it is rounded, costs against the best one;
- what the best one still leaves: A's sums over the rows, which the dual wants to be zero, are made so by
  mixing A with the classes' frequencies;
- rounding of float64, of products with the features, at its worst (γ = n u).

References
----------
Boyd & Vandenberghe, Convex Optimization, 5.5.1 (the dual's bound); Higham, Accuracy and Stability of
Numerical Algorithms, 3.1 (γ).
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.heads.linear.losses import Loss, Softmax, at
from pipeline.heads.linear.space import as_tensor
from pipeline.heads.rows import blocks

# Bounds and a precision of the intercepts' own Newton's method, all choices: what they leave is in the gap
STEPS = 20  # two or three do; five where classes lie far apart
HALVINGS = 10  # of a step, to a thousandth
SETTLED = 1e-10  # of the gradient's absolute sum: what the best intercept may leave of it
UNIT = torch.finfo(torch.float64).eps / 2


class Certified(NamedTuple):
    """Intercepts (k, P) to be kept, and how far each problem is at most above its minimum, (P,)."""

    intercept: Tensor
    gap: Tensor  # relative to what the minimum is at least; infinite where nothing is known of it


def certified(X: Any, loss: Loss, C: Tensor, coef: Tensor, intercept: Tensor, single: Tensor) -> Certified:
    """Move a free intercept to its own minimum, and bound the distance of F from its minimum there.

    Parameters
    ----------
    X : (n, d) NumPy array, read in parts
    loss : in float64
    C : (P,) float64
    coef : (k, P, d) float64, of the features as they are given
    intercept : (k, P) float64
    single : (P,) bool
        Which intercepts are kept in float32.
    """
    point = _point(X, loss, coef, intercept, single)
    n, d = X.shape
    raw, lengths, weight = loss.raw(point.E), point.lengths, point.weight  # raw is A / C, (k, P, n)
    longest = _gradient(X, loss, C, coef, point, raw)  # ‖∇F‖ at most, (P,)
    # E is the gradient at rounded scores; second derivatives are 2 at most, so that costs at most their
    # rounding's square: (P,)
    scattered = ((d + 3) * UNIT) ** 2 * weight * (loss.weights * lengths.square()).sum()
    excess = C * (point.given - point.value).clamp(min=0) + C * scattered
    if isinstance(loss, Softmax):
        left = raw.sum(2)  # (k, P): zero, were the best intercept quite the best
        mixed = _mixed(loss, left, n * UNIT * raw.abs().sum(2))
        moved = mixed * 2 * math.sqrt(2) * C * (loss.weights * lengths).sum()  # at most, of XᵀA
        longest = longest + moved
        excess = excess + moved * weight.sqrt() + C * (left * (point.best - point.best.mean(0))).sum(0).abs()
        excess = excess + mixed * C * loss.weights.sum() * math.log(len(coef))
    excess = excess + longest.square() / 2
    least = weight / 2 + C * point.given - excess
    gap = torch.where(least > 0, excess / least, torch.inf)
    return Certified(point.intercept, gap.nan_to_num(torch.inf, torch.inf))


class _Point(NamedTuple):
    """Where P problems stand, in float64."""

    intercept: Tensor  # (k, P), as it is kept
    best: Tensor  # (k, P), where the losses' sum is least; the hinge's is a weight, and stays
    given: Tensor  # (P,), Σ loss at the intercept that is kept
    value: Tensor  # (P,), Σ loss at the best one
    E: Tensor  # (k, P, n), gradient of the losses with respect to relative scores, at the best one
    lengths: Tensor  # (n,), of the rows; with the constant feature where the intercept is penalised
    weight: Tensor  # (P,), ‖W‖², the intercept with it where it is penalised


def _point(X: Any, loss: Loss, coef: Tensor, intercept: Tensor, single: Tensor) -> _Point:
    scores, lengths = _scores(X, coef)
    weight = coef.square().sum((0, 2))  # (P,)
    if isinstance(loss, Softmax):
        best, value, E = _settled(loss, scores, intercept)
        intercept = torch.where(single, best.float().double(), best)  # (k, P)
        given, _ = at(loss, loss.relative(scores + intercept[..., None]))
        return _Point(intercept, best, given, value, E, lengths, weight)
    weight = weight + intercept.square().sum(0)
    lengths = (lengths.square() + 1).sqrt()
    given, E = at(loss, loss.relative(scores + intercept[..., None]))
    return _Point(intercept, intercept, given, given, E, lengths, weight)


def _gradient(X: Any, loss: Loss, C: Tensor, coef: Tensor, point: _Point, raw: Tensor) -> Tensor:
    """‖∇F‖, (P,), and what rounding of the sums over n rows adds to it at most."""
    gradient = coef + C[:, None] * _lift(X, raw)  # (k, P, d)
    squares = gradient.square().sum((0, 2))  # (P,)
    if not isinstance(loss, Softmax):
        squares = squares + (point.intercept + C * raw.sum(2)).square().sum(0)
    summed = C * (raw.abs() * point.lengths).sum((0, 2)) + point.weight.sqrt()
    rows: int = X.shape[0]
    return squares.sqrt() + (rows + 2) * UNIT * summed


def _scores(X: Any, coef: Tensor) -> tuple[Tensor, Tensor]:
    """X W, (k, P, n), and the rows' lengths, (n,)."""
    scores, lengths = torch.empty(*coef.shape[:2], X.shape[0], dtype=coef.dtype), []
    for rows, part in blocks(X):
        exact = as_tensor(part, coef.dtype)
        scores[..., rows] = torch.nn.functional.linear(coef, exact)
        lengths.append(torch.linalg.vector_norm(exact, dim=1))
    return scores, torch.cat(lengths)


def _lift(X: Any, raw: Tensor) -> Tensor:
    """Rows' sum weighted by `raw`: (k, P, n) → (k, P, d)."""
    total = torch.zeros(*raw.shape[:2], X.shape[1], dtype=raw.dtype)
    for rows, part in blocks(X):
        total += raw[..., rows] @ as_tensor(part, raw.dtype)
    return total


def _settled(loss: Softmax, scores: Tensor, intercept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Intercepts (k, P) where the losses' sum is least, by Newton's method; that sum, and its gradient."""
    value, E = at(loss, loss.relative(scores + intercept[..., None]))
    for _ in range(STEPS):
        raw = loss.raw(E)
        gradient = raw.sum(2)  # (k, P)
        open_ = gradient.abs().sum(0) > SETTLED * raw.abs().sum((0, 2))
        if not open_.any():
            break
        # Where answers are certain beyond what float64 holds there is no curvature, and no step to take
        solution, singular = torch.linalg.solve_ex(loss.hessian(E), gradient.T)
        step = solution.where((open_ & (singular == 0))[:, None], 0.0).T
        for _ in range(HALVINGS):
            there, E = at(loss, loss.relative(scores + (intercept - step)[..., None]))
            above = there > value * (1 + SETTLED)
            if not above.any():
                break
            step = torch.where(above, step / 2, step)
        else:
            there, E = at(loss, loss.relative(scores + (intercept - step)[..., None]))
        intercept, value = intercept - step, there
    return intercept, value, E


def _mixed(loss: Loss, left: Tensor, rounding: Tensor) -> Tensor:
    """What share of the classes' frequencies makes probabilities (P,) sum to the classes' weights.

    Parameters
    ----------
    left, rounding : (k, P)
        By how much the probabilities' sums are above them, and how far that is known
    """
    classes = torch.zeros(len(left), dtype=left.dtype).index_add_(0, loss.labels, loss.weights)
    above = (left + rounding).clamp(min=0)
    return (above / (classes[:, None] + above)).amax(0)
