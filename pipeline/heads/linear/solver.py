"""Both methods, each on some of the problems, in float32 or in float64.

solver = Solver(X, y, n_classes, weights, "softmax", tolerance=1e-4)
solver.descend(problems, which, solver.space, solver.aim, stuck)    # changes problems where `which`

Conjugate gradients in float32 are the rule. The squared hinge with few rows short of their margin,
and what float32 cannot finish, goes to Newton's method, in float64.
"""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.heads.linear.choose_space import space_for
from pipeline.heads.linear.conjugate_gradients import descend
from pipeline.heads.linear.losses import Loss, Softmax, SquaredHinge
from pipeline.heads.linear.newton import newton
from pipeline.heads.linear.problems import Problems
from pipeline.heads.linear.row_space import RowSpace
from pipeline.heads.linear.schedule import iterations
from pipeline.heads.linear.space import Space

# Of the tolerance: what is descended to. A free intercept is settled last and adds to the gap, and float64,
# which would have to finish then, is dear where there is a Gram matrix. Counted, softmax with 0.1, 0.2,
# 0.5, 0.9: 8.9, 8.2, 7.4, 10.0 products (with 0.9 one in six is certified twice); hinge with 0.2, 0.5, 0.9:
# 20.9, 19.5, 18.4
AIM = {"softmax": 0.2, "squared hinge": 0.9}
# Where features are read anew. 2,600 × 1,100, C to 56, softmax with 0.2, 0.5, 0.9: 5.1, 4.6, 4.8 products
AIM_BY_PASSES = {"softmax": 0.5, "squared hinge": 0.9}
# Rows × columns² up to which float64 finishes what float32 left: multiplications of one system of Newton's
# method, which every problem solves at every step. A choice of patience: beyond, the gap is stated, and
# stays
SYSTEM = 2e9
# Tolerance down to which float32 is tried. A choice, and a careful one: on 500 rows of length 1 of the
# stand-in the softmax reaches 1e-6, too; features of another scale lose more
SINGLE = 1e-5


class Solver:
    """The data of a path, and what solves some of its problems.

    Parameters
    ----------
    X : (n, d) NumPy array
    y : (n,) class numbers
    weights : (n,) float64
        What each row's loss counts.
    kind : "softmax" or "squared hinge"
    tolerance : float
        Of the gap.

    Attributes
    ----------
    space : Space
        In float32, unless the tolerance is too small for it.
    columns : (n_classes,) int64
        Classes that have a column: of two, the hinge needs the second's only.
    aim : float
        The gap that is descended to.
    """

    def __init__(
        self, X: Any, y: NDArray[Any], n_classes: int, weights: NDArray[Any], kind: str, tolerance: float
    ) -> None:
        self.hinge = kind == "squared hinge"
        self.space = space_for(X, self.hinge, torch.float64 if tolerance < SINGLE else torch.float32)
        self.by_rows = isinstance(self.space, RowSpace)
        self.tolerance, self.aim = tolerance, (AIM if self.by_rows else AIM_BY_PASSES)[kind] * tolerance
        self.labels, self.weights = torch.from_numpy(y.astype(np.int64)), torch.from_numpy(weights)
        self.columns = torch.tensor([1]) if self.hinge and n_classes == 2 else torch.arange(n_classes)

    @cached_property
    def exact(self) -> Space:
        """The space in float64, once it is needed."""
        return self.space.double()

    @property
    def finishable(self) -> bool:
        """Whether float64 can finish what float32 left, in seconds."""
        return self.by_rows or len(self.labels) * self.space.size**2 <= SYSTEM

    def zero(self, C: float) -> Problems:
        """The problems of one C: of the softmax one, of the hinge one for each column."""
        k, P = (1, len(self.columns)) if self.hinge else (len(self.columns), 1)
        return Problems.zero(C, k, P, self.space.size)

    def descend(self, problems: Problems, which: Tensor, space: Space, aim: float, stuck: float) -> None:
        """Conjugate gradients on those that `which`, (P,) bool, says (`stuck`: see `schedule.iterations`)."""
        if which.any():
            product = 2 * len(self.labels) * self.space.size * len(self.columns)
            limit = iterations(problems.C[which], stuck, product, self.hinge, self.finishable)
            found = descend(*self.posed(problems, which, space), aim, limit)
            problems.v[:, which], problems.intercept[:, which] = found.v.double(), found.intercept.double()
            problems.gap[which] = found.gap.double()
            problems.exact[which] = space is not self.space or space.dtype == torch.float64

    def newton(self, problems: Problems, which: Tensor, aim: float) -> None:
        """Newton's method on those that `which`, (P,) bool, says; of the hinge only."""
        if which.any() and self.finishable:
            space, loss, C, v, _ = self.posed(problems, which, self.exact)
            assert isinstance(loss, SquaredHinge)  # noqa: S101 - narrows the type
            found = newton(space, loss, C, v, aim)
            problems.v[:, which], problems.gap[which] = found.v, found.gap
            problems.exact |= which

    def posed(
        self, problems: Problems, which: Tensor, space: Space
    ) -> tuple[Space, Loss, Tensor, Tensor, Tensor]:
        """Some problems as methods take them, in the space's precision: space, loss, C, v, intercept."""
        loss = self.loss(problems, which, space.dtype)
        numbers = (problems.C[which], problems.v[:, which], problems.intercept[:, which])
        C, v, intercept = (part.to(space.dtype) for part in numbers)
        return space, loss, C, v, intercept

    def loss(self, problems: Problems, which: Tensor, dtype: torch.dtype) -> Loss:
        """The loss of some problems."""
        weights = self.weights.to(dtype)
        if self.hinge:
            classes = self.columns.repeat(len(problems.C) // len(self.columns))[which]
            return SquaredHinge(self.labels, weights, classes)
        return Softmax(self.labels, weights)
