"""What solvers ask of the features, and nothing else: products with them.

space.scores(v)     # X w, of the columns that v stands for
space.lift(E)       # Xᵀ E, as such columns

A column of weights w (d numbers) is either kept itself (`WeightSpace`), or as the coefficients a of
w = Xᵀ a (`RowSpace`). Both are sums over parts of the rows, so that they may as well run over a
store, a GPU or a cluster.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Space(ABC):
    """Columns of weights as (k, P, size) tensors, their scores as (k, P, n)."""

    X: Any  # (n, d), as it was given
    size: int
    dtype: torch.dtype
    features: int  # d

    @abstractmethod
    def lift(self, E: Tensor) -> Tensor:
        """Xᵀ E: the column whose weights are the rows' sum weighted by E, (k, P, n) → (k, P, size)."""

    @abstractmethod
    def scores(self, v: Tensor) -> Tensor:
        """X w, (k, P, size) → (k, P, n)."""

    @abstractmethod
    def inner(self, v: Tensor, w: Tensor, scores: Tensor) -> Tensor:
        """Inner product of weights per problem, (P,): `scores` are w's."""

    @abstractmethod
    def precondition(self, g: Tensor, stiffness: Tensor) -> Tensor:
        """About (I + stiffness · XᵀX / n)⁻¹ g; stiffness is (k, P)."""

    @abstractmethod
    def coefficients(self, v: Tensor, intercept: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (k, P, d) and intercepts (k, P) for the features as they were given."""

    @abstractmethod
    def ridge(self, rows: Tensor, penalty: Tensor, targets: Tensor) -> Tensor:
        """The column (size,) of ridge regression on some rows; `penalty` per row."""

    @abstractmethod
    def double(self) -> "Space":
        """The same in float64."""


def as_tensor(X: NDArray[Any], dtype: torch.dtype) -> Tensor:
    """The same memory where it has that type, and torch accepts it."""
    return torch.from_numpy(np.require(X, requirements=["C", "W"])).to(dtype)
