"""Columns of weights as coefficients of the rows, w = Xᵀ a: one product with the Gram matrix K = X Xᵀ."""

from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import get_blas_funcs
from torch import Tensor

from pipeline.heads.linear.space import Space, as_tensor


class RowSpace(Space):
    """Columns are coefficients of the rows: w = Xᵀ a."""

    def __init__(self, X: NDArray[Any], constant: bool, dtype: torch.dtype) -> None:
        self.X, self.constant, self.dtype = X, constant, dtype
        self.size, self.features = X.shape
        # The hinge's last steps need float64, so its products are computed once, in that
        exact = torch.float64 if constant else dtype
        rows = as_tensor(X, exact)  # (n, d)
        self.mean = torch.zeros(X.shape[1], dtype=dtype) if constant else rows.mean(0)
        # A feature that is always 1 adds 1 to every product
        self._products = products(rows) + 1 if constant else products(rows - self.mean)  # (n, n)
        self.gram = self._products.to(dtype)

    def lift(self, E: Tensor) -> Tensor:
        """Coefficients as they are."""
        return E

    def scores(self, v: Tensor) -> Tensor:
        """One product with the Gram matrix."""
        return torch.nn.functional.linear(v, self.gram)  # symmetric, and faster so than v @ gram

    def inner(self, v: Tensor, w: Tensor, scores: Tensor) -> Tensor:
        """⟨a, K b⟩."""
        return (v * scores).sum((0, 2))

    def precondition(self, g: Tensor, stiffness: Tensor) -> Tensor:
        """Nothing: at these sizes it gains nothing."""
        return g

    def coefficients(self, v: Tensor, intercept: Tensor) -> tuple[Tensor, Tensor]:
        """W = A X, and the intercept moved by the mean that was taken off."""
        weights = v @ as_tensor(self.X, self.dtype)  # (k, P, n) → (k, P, d)
        if self.constant:
            return weights, intercept + v.sum(2)
        weights -= v.sum(2, keepdim=True) * self.mean
        return weights, intercept - weights @ self.mean

    def ridge(self, rows: Tensor, penalty: Tensor, targets: Tensor) -> Tensor:
        """(K + penalty) a = targets, on the rows in question."""
        a = torch.zeros(self.size, dtype=self.dtype)
        system = self.gram[rows[:, None], rows]  # (m, m)
        system.diagonal().add_(penalty)
        a[rows] = torch.cholesky_solve(targets[:, None], torch.linalg.cholesky(system))[:, 0]
        return a

    def double(self) -> "RowSpace":
        """The same products where they are at hand, new ones otherwise."""
        if self.dtype == torch.float64:
            return self
        if not self.constant:
            return RowSpace(self.X, self.constant, torch.float64)
        space = copy(self)
        space.dtype, space.mean, space.gram = torch.float64, self.mean.double(), self._products
        return space


def products(rows: Tensor) -> Tensor:
    """Inner products of all rows with each other, (n, n): one triangle computed, the other mirrored."""
    (syrk,) = get_blas_funcs(["syrk"], [rows.numpy()])
    half = syrk(1.0, rows.numpy().T, trans=1, lower=1).T  # Fortran's lower triangle is the upper one here
    below = np.tril_indices(len(half), -1)
    half[below] = half.T[below]
    return torch.from_numpy(half)
