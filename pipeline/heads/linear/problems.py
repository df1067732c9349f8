"""P minimisations side by side, as tensors: what is worked on together costs fewer, larger products.

problems = Problems.joined([one, other])    # P = 2
first, second = problems.each(1)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class Problems:
    """Some of the minimisations: P of them, each of k columns.

    Of the softmax, a value of C is one problem of as many columns as classes; of the hinge, it is
    a problem of one column for each class.
    """

    C: Tensor  # (P,) float64, as all of these
    v: Tensor  # (k, P, size)
    intercept: Tensor  # (k, P)
    gap: Tensor  # (P,)
    exact: Tensor  # (P,) bool: float64 made it

    @classmethod
    def zero(cls, C: float, k: int, P: int, size: int) -> "Problems":
        """All P of one C, at weights of zero, of which nothing is known."""
        every = torch.ones(P, dtype=torch.float64)
        v, intercept = torch.zeros(k, P, size, dtype=torch.float64), torch.zeros(k, P, dtype=torch.float64)
        return cls(C * every, v, intercept, math.inf * every, every < 0)

    @classmethod
    def joined(cls, some: Sequence["Problems"]) -> "Problems":
        """Side by side; a copy."""
        tensors = ([getattr(one, field.name) for one in some] for field in fields(cls))
        return cls(*(torch.cat(same, min(same[0].ndim - 1, 1)) for same in tensors))

    def each(self, size: int) -> "list[Problems]":
        """Apart again, `size` problems each."""
        tensors = (getattr(self, field.name) for field in fields(self))
        return [
            Problems(*parts)
            for parts in zip(*(t.split(size, min(t.ndim - 1, 1)) for t in tensors), strict=True)
        ]

    def restart(self) -> None:
        """Put what float32 has lost back to the start, so that it is nobody's neighbour."""
        lost = ~(self.v.isfinite().all(2).all(0) & self.intercept.isfinite().all(0) & self.gap.isfinite())
        self.v[:, lost], self.intercept[:, lost], self.gap[lost] = 0, 0, math.inf
