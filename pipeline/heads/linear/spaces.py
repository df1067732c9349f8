"""Where a linear head is solved: all products with the features stand here.

A column of weights w (d numbers) is either kept itself (`WeightSpace`), or as the
coefficients a of w = Xᵀ a (`RowSpace`), which takes one product with the n × n Gram matrix
where the other takes two with the n × d features: cheaper up to about n = 2d. Both are sums
over parts of the rows, so that they may as well run over a store, a GPU or a cluster.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import get_blas_funcs
from torch import Tensor

from pipeline.heads.rows import blocks

GRAM_ROWS = 16_384  # 1 GB of float32
GRAM_ALWAYS = 4096  # rows
EXACT_RANK = 1024  # features up to which all eigenvectors are cheap
SKETCH_RANK = 192


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


def space_for(X: Any, constant: bool, dtype: torch.dtype) -> Space:
    """Choose the cheaper space.

    Parameters
    ----------
    X : (n, d) NumPy array, which may be a mapped file: it is read in parts
    constant : bool
        Add a feature that is always 1, and penalised. Otherwise features are centred, which
        changes nothing where there is a free intercept.
    """
    n, d = X.shape
    # The hinge's last steps solve systems: of few rows where there is a Gram matrix, else of d features
    most = max(2 * d, GRAM_ALWAYS) if constant else 2 * d
    if n <= min(most, GRAM_ROWS):
        return RowSpace(X, constant, dtype)
    return WeightSpace(X, constant, dtype)


class RowSpace(Space):
    """Columns are coefficients of the rows: w = Xᵀ a."""

    def __init__(self, X: NDArray[Any], constant: bool, dtype: torch.dtype) -> None:
        self.X, self.constant, self.dtype = X, constant, dtype
        self.size, self.features = X.shape
        # The hinge's last steps need float64, so its products are computed once, in that
        exact = torch.float64 if constant else dtype
        rows = as_tensor(X, exact)
        self.mean = torch.zeros(X.shape[1], dtype=dtype) if constant else rows.mean(0)
        self._products = products(rows) + 1 if constant else products(rows - self.mean)
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
        weights = v @ as_tensor(self.X, self.dtype)
        if self.constant:
            return weights, intercept + v.sum(2)
        weights -= v.sum(2, keepdim=True) * self.mean
        return weights, intercept - weights @ self.mean

    def ridge(self, rows: Tensor, penalty: Tensor, targets: Tensor) -> Tensor:
        """(K + penalty) a = targets, on the rows in question."""
        a = torch.zeros(self.size, dtype=self.dtype)
        system = self.gram[rows[:, None], rows]
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


def as_tensor(X: NDArray[Any], dtype: torch.dtype) -> Tensor:
    """The same memory where it has that type, and torch accepts it."""
    return torch.from_numpy(np.require(X, requirements=["C", "W"])).to(dtype)


def products(rows: Tensor) -> Tensor:
    """Inner products of all rows with each other, (n, n): one triangle computed, the other mirrored."""
    (syrk,) = get_blas_funcs(["syrk"], [rows.numpy()])
    half = syrk(1.0, rows.numpy().T, trans=1, lower=1).T  # Fortran's lower triangle is the upper one here
    below = np.tril_indices(len(half), -1)
    half[below] = half.T[below]
    return torch.from_numpy(half)


class WeightSpace(Space):
    """Columns are weights themselves; the features are read in parts, twice an iteration."""

    def __init__(self, X: Any, constant: bool, dtype: torch.dtype) -> None:
        self.X, self.constant, self.dtype = X, constant, dtype
        self.n, self.features = X.shape
        self.size = self.features + constant
        self.mean = torch.zeros(self.features, dtype=dtype)
        if not constant:
            total = sum(part.sum(0, dtype=np.float64) for _, part in blocks(X))
            self.mean = torch.from_numpy(np.asarray(total) / self.n).to(dtype)
        self.basis, self.eigenvalues = self._spectrum()

    def lift(self, E: Tensor) -> Tensor:
        """Summed over the parts of the rows."""
        total = torch.zeros(*E.shape[:2], self.features, dtype=self.dtype)
        for rows, part in self._parts():
            total += E[..., rows] @ part
        of_constant = E.sum(2, keepdim=True)
        return torch.cat([total, of_constant], 2) if self.constant else total - of_constant * self.mean

    def scores(self, v: Tensor) -> Tensor:
        """A part of the rows at a time."""
        weights, shift = (v[..., :-1], v[..., -1:]) if self.constant else (v, -(v @ self.mean)[..., None])
        scores = torch.empty(*v.shape[:2], self.n, dtype=self.dtype)
        for rows, part in self._parts():
            torch.add(torch.nn.functional.linear(weights, part), shift, out=scores[..., rows])
        return scores

    def inner(self, v: Tensor, w: Tensor, scores: Tensor) -> Tensor:
        """⟨v, w⟩."""
        return (v * w).sum((0, 2))

    def precondition(self, g: Tensor, stiffness: Tensor) -> Tensor:
        """Exact in the directions of the largest eigenvalues, nothing in the others."""
        shrunk = stiffness[..., None] * self.eigenvalues
        return g - ((g @ self.basis) * (shrunk / (1 + shrunk))) @ self.basis.T

    def coefficients(self, v: Tensor, intercept: Tensor) -> tuple[Tensor, Tensor]:
        """As they are, but for the mean that was taken off."""
        if self.constant:
            return v[..., :-1], intercept + v[..., -1]
        return v, intercept - v @ self.mean

    def ridge(self, rows: Tensor, penalty: Tensor, targets: Tensor) -> Tensor:
        """(I + Xᵀ penalty⁻¹ X) w = Xᵀ penalty⁻¹ targets, on the rows in question."""
        system, aim = torch.eye(self.size, dtype=self.dtype), torch.zeros(self.size, dtype=self.dtype)
        wanted = torch.zeros(self.n, dtype=self.dtype)
        wanted[rows] = 1 / penalty
        goal = torch.zeros(self.n, dtype=self.dtype)
        goal[rows] = targets
        for part_rows, part in self._parts():
            adjusted = self._adjusted(part)
            weighted = adjusted * wanted[part_rows, None]
            system += weighted.T @ adjusted
            aim += weighted.T @ goal[part_rows]
        return torch.cholesky_solve(aim[:, None], torch.linalg.cholesky(system))[:, 0]

    def double(self) -> "WeightSpace":
        """Parts are cast as they are read."""
        return self if self.dtype == torch.float64 else WeightSpace(self.X, self.constant, torch.float64)

    def _parts(self) -> Iterator[tuple[slice, Tensor]]:
        for rows, part in blocks(self.X):
            yield rows, as_tensor(part, self.dtype)

    def _adjusted(self, part: Tensor) -> Tensor:
        """Rows as they count: with the constant feature, or centred."""
        if self.constant:
            return torch.cat([part, torch.ones(len(part), 1, dtype=self.dtype)], 1)
        return part - self.mean

    def _spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvectors (size, r) and eigenvalues of XᵀX / n, from the first part where there are many."""
        if self.size <= EXACT_RANK:
            total = torch.zeros(self.size, self.size, dtype=self.dtype)
            for _, part in self._parts():
                adjusted = self._adjusted(part)
                total += adjusted.T @ adjusted
            values, vectors = torch.linalg.eigh(total / self.n)
            return vectors, values.clamp(min=0)
        some = self._adjusted(next(self._parts())[1])
        generator = torch.Generator().manual_seed(0)
        basis = torch.randn(self.size, SKETCH_RANK, generator=generator, dtype=self.dtype)
        for _ in range(2):
            basis = torch.linalg.qr(some.T @ (some @ basis))[0]
        values, vectors = torch.linalg.eigh((some @ basis).T @ (some @ basis) / len(some))
        return basis @ vectors, values.clamp(min=0)
