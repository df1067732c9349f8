"""Along a line Z + t · dZ: what a loss is there, and the next t to try. All problems at once.

there = on_line(loss, Z, dZ, t, E)                        # value, slope, curvature: (P,) each
t, low, high = narrowed(t, slope, newton, low, high)      # Newton's t, kept inside the bracket

Scores are linear in the weights, so that a line in the weights is one in the scores: trying a t costs
no product with the features.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.heads.linear.losses import Loss, parts


class Along(NamedTuple):
    """A loss on a line, per problem: (P,) each."""

    value: Tensor
    slope: Tensor
    curvature: Tensor


def on_line(loss: Loss, Z: Tensor, dZ: Tensor, t: Tensor, E: Tensor) -> Along:
    """Evaluate at Z + t · dZ; writes the gradient there to E. All (k, P, n), t is (P,)."""
    value, slope, curvature = torch.zeros(3, len(t), dtype=Z.dtype)
    for rows in parts(Z):
        there = torch.addcmul(Z[..., rows], dZ[..., rows], t[None, :, None])
        value += loss.at(there, rows, E[..., rows])
        first, second = loss.along(E[..., rows], dZ[..., rows], rows)
        slope += first
        curvature += second
    return Along(value, slope, curvature)


def narrowed(
    t: Tensor, slope: Tensor, step: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Newton's next t, of a convex function, kept between what is known too low and too high: (P,) each.

    Parameters
    ----------
    step : Newton's own proposal

    Returns
    -------
    The next t, and the bracket, which the slope at t has narrowed
    """
    low, high = torch.where(slope < 0, t, low), torch.where(slope > 0, t, high)
    between = torch.where(high.isinf(), 2 * low, (low + high) / 2)
    return torch.where((low < step) & (step < high), step, between), low, high
