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
from pipeline.heads.linear.spaces import as_tensor
from pipeline.heads.rows import blocks

STEPS = 20  # of Newton's method in the intercepts; two or three do
HALVINGS = 10
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
    n, d = X.shape
    scores, lengths = _scores(X, coef)
    weight = coef.square().sum((0, 2))  # ‖W‖², (P,)
    if isinstance(loss, Softmax):
        best, value, E = _settled(loss, scores, intercept)
        intercept = torch.where(single, best.float().double(), best)
        given, _ = at(loss, loss.relative(scores + intercept[..., None]))
    else:
        weight = weight + intercept.square().sum(0)
        lengths = (lengths.square() + 1).sqrt()
        given, E = at(loss, loss.relative(scores + intercept[..., None]))
        best, value = intercept, given
    raw = loss.raw(E)  # A / C
    gradient = coef + C[:, None] * _lift(X, raw)
    squares, left = gradient.square().sum((0, 2)), raw.sum(2)
    if not isinstance(loss, Softmax):
        squares = squares + (intercept + C * left).square().sum(0)
    absolute = raw.abs()
    length = squares.sqrt() + (n + 2) * UNIT * (C * (absolute * lengths).sum((0, 2)) + weight.sqrt())
    scattered = ((d + 3) * UNIT) ** 2 * weight * (loss.weights * lengths.square()).sum()
    excess = C * (given - value).clamp(min=0) + C * scattered
    if isinstance(loss, Softmax):
        mixed = _mixed(loss, left, n * UNIT * absolute.sum(2))
        moved = mixed * 2 * math.sqrt(2) * C * (loss.weights * lengths).sum()  # at most, of XᵀA
        length = length + moved
        excess = excess + moved * weight.sqrt() + C * (left * (best - best.mean(0))).sum(0).abs()
        excess = excess + mixed * C * loss.weights.sum() * math.log(len(coef))
    excess = excess + length.square() / 2
    least = weight / 2 + C * given - excess
    gap = torch.where(least > 0, excess / least, torch.inf)
    return Certified(intercept, gap.nan_to_num(torch.inf, torch.inf))


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
