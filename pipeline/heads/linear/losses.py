"""Losses of the linear heads, for many problems side by side.

Scores stand as (k, P, n): P problems (values of C), each of k columns that belong together,
on n rows. Both losses work with **relative** scores Z, of which zero speaks for no class:
the softmax's are differences from the true class's score, the hinge's are margins y · s.
There neither loss nor gradient cancels when most rows are fitted perfectly (large C).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

# Numbers that are worked on at once, 4 MB of float32: they stay in a core's share of the cache. A choice;
# sums are added up part by part, so that another size changes their bits
PART = 2**20


@dataclass(frozen=True)
class Loss(ABC):
    """A sum of row losses, and what descent needs of it.

    Parameters
    ----------
    labels : (n,) int64
    weights : (n,)
        What each row's loss counts.
    """

    labels: Tensor
    weights: Tensor
    has_intercept: ClassVar[bool]  # an intercept without penalty, besides the weights

    @abstractmethod
    def relative(self, scores: Tensor) -> Tensor:
        """Relative scores (k, P, n): linear in the scores."""

    @abstractmethod
    def raw(self, E: Tensor) -> Tensor:
        """Gradient with respect to scores from the one with respect to relative scores."""

    @abstractmethod
    def at(self, Z: Tensor, rows: slice, E: Tensor) -> Tensor:
        """Losses (P,) of some rows at (k, P, m) relative scores; their gradient is written to E."""

    @abstractmethod
    def along(self, E: Tensor, dZ: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Slope and curvature (P,) along dZ where the gradient is E, both (k, P, m)."""

    @abstractmethod
    def columns_curvature(self, E: Tensor) -> Tensor:
        """Sum of second derivatives with respect to each column's own score: (k, P)."""

    @abstractmethod
    def keep(self, which: Tensor) -> Self:
        """Leave out finished problems: `which` is (P,) bool."""


def at(loss: Loss, Z: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (P,), and the gradient with respect to relative scores (k, P, n)."""
    E, value = torch.empty_like(Z), torch.zeros(Z.shape[1], dtype=Z.dtype)
    for rows in parts(Z):
        value += loss.at(Z[..., rows], rows, E[..., rows])
    return value, E


def parts(Z: Tensor) -> Iterator[slice]:
    """Rows a part at a time."""
    k, P, n = Z.shape
    size = max(PART // (k * P), 64)
    return (slice(start, start + size) for start in range(0, n, size))


class Softmax(Loss):
    """Multinomial logistic loss: log Σ exp(Z), of which the true class's own term is 1."""

    has_intercept = True

    def relative(self, scores: Tensor) -> Tensor:
        """Differences from the true class's score."""
        return scores - scores.gather(0, self._own(scores))

    def raw(self, E: Tensor) -> Tensor:
        """The true class's gradient is minus the sum of the others'."""
        return E.scatter(0, self._own(E), -E.sum(0, keepdim=True))

    def at(self, Z: Tensor, rows: slice, E: Tensor) -> Tensor:
        """E holds the wrong classes' probabilities, and zero for the true class."""
        top = Z.amax(0)  # (P, m), never negative: the true class is among them
        torch.exp(Z - top, out=E)
        E.scatter_(0, self._own(Z, rows), 0)
        wrong = E.sum(0) + torch.expm1(-top)  # with the true class's own term, less 1
        E *= self.weights[rows] / (1 + wrong)
        return ((top + torch.log1p(wrong)) * self.weights[rows]).sum(1)

    def along(self, E: Tensor, dZ: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Mean and variance of dZ under the probabilities."""
        product = E * dZ
        first = product.sum(0)
        second = (product * dZ).sum(0)
        return first.sum(1), (second - first * first / self.weights[rows]).sum(1)

    def columns_curvature(self, E: Tensor) -> Tensor:
        """Σ p (1 − p)."""
        P = E.scatter(0, self._own(E), self.weights - E.sum(0, keepdim=True))
        return (P * (1 - P / self.weights)).sum(2)

    def hessian(self, E: Tensor) -> Tensor:
        """Second derivatives with respect to the columns' intercepts, (P, k, k), made definite.

        Σ diag p − p pᵀ, and 1 in the direction of all columns alike, which changes nothing.
        """
        P = E.scatter(0, self._own(E), self.weights - E.sum(0, keepdim=True)).transpose(0, 1)  # (P, k, n)
        mixed = P @ (P / self.weights).transpose(1, 2)
        k = len(E)
        return torch.diag_embed(P.sum(2)) - mixed + self.weights.sum() / k**2

    def keep(self, which: Tensor) -> Self:
        """Nothing here belongs to one problem."""
        return self

    def _own(self, Z: Tensor, rows: slice = slice(None)) -> Tensor:
        labels = self.labels[rows]
        return labels.expand(1, Z.shape[1], len(labels))


@dataclass(frozen=True)
class SquaredHinge(Loss):
    """max(0, 1 − Z)² of margins Z = ±s: each class against the rest is a problem of its own, k = 1.

    Parameters
    ----------
    classes : (P,) int64
        Which class a problem's column speaks for.
    """

    classes: Tensor
    has_intercept = False

    def relative(self, scores: Tensor) -> Tensor:
        """Margins."""
        return torch.where(self._is_own(slice(None)), scores, -scores)

    def raw(self, E: Tensor) -> Tensor:
        """Same signs."""
        return self.relative(E)

    def at(self, Z: Tensor, rows: slice, E: Tensor) -> Tensor:
        """E is zero for rows beyond their margin."""
        short = (1 - Z).clamp_(min=0)
        torch.mul(short, -2 * self.weights[rows], out=E)
        return (short * short * self.weights[rows]).sum((0, 2))

    def along(self, E: Tensor, dZ: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """A parabola, as long as no row passes its margin."""
        curvature = (dZ * dZ).mul_(E < 0).mul_(self.weights[rows])
        return (E * dZ).sum((0, 2)), 2 * curvature.sum((0, 2))

    def columns_curvature(self, E: Tensor) -> Tensor:
        """Twice the weight of the rows short of their margin."""
        return 2 * ((E < 0) * self.weights).sum(2)

    def keep(self, which: Tensor) -> Self:
        """Leave out finished problems' classes."""
        return replace(self, classes=self.classes[which])

    def _is_own(self, rows: slice) -> Tensor:
        return self.labels[rows] == self.classes[:, None]  # (P, m)
