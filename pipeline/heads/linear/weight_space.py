"""Columns of weights as they are; the features are read in parts, twice an iteration."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.heads.linear.space import Space, as_tensor
from pipeline.heads.rows import blocks

# Features up to which all eigenvectors are computed: a second of one busy core for 1,024, ten for 2,048
EXACT_RANK = 1024
# Eigenvectors of a preconditioner otherwise. 2,600 × 1,100 of the stand-in, C to 56, softmax, with 1, 64,
# 192, 512, all: 10.8, 5.3, 4.6, 4.2, 4.0 products
SKETCH_RANK = 192


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
        total = torch.zeros(*E.shape[:2], self.features, dtype=self.dtype)  # (k, P, d)
        for rows, part in self._parts():
            total += E[..., rows] @ part  # (k, P, m) @ (m, d)
        of_constant = E.sum(2, keepdim=True)  # (k, P, 1)
        return torch.cat([total, of_constant], 2) if self.constant else total - of_constant * self.mean

    def scores(self, v: Tensor) -> Tensor:
        """A part of the rows at a time."""
        weights, shift = (v[..., :-1], v[..., -1:]) if self.constant else (v, -(v @ self.mean)[..., None])
        scores = torch.empty(*v.shape[:2], self.n, dtype=self.dtype)  # (k, P, n)
        for rows, part in self._parts():
            torch.add(torch.nn.functional.linear(weights, part), shift, out=scores[..., rows])
        return scores

    def inner(self, v: Tensor, w: Tensor, scores: Tensor) -> Tensor:
        """⟨v, w⟩."""
        return (v * w).sum((0, 2))

    def precondition(self, g: Tensor, stiffness: Tensor) -> Tensor:
        """Exact in the directions of the largest eigenvalues, nothing in the others."""
        shrunk = stiffness[..., None] * self.eigenvalues  # (k, P, r)
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
        wanted[rows] = 1 / penalty  # zero elsewhere, so that whole parts can be multiplied
        goal = torch.zeros(self.n, dtype=self.dtype)
        goal[rows] = targets
        for part_rows, part in self._parts():
            adjusted = self._adjusted(part)  # (m, size)
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
        some = self._adjusted(next(self._parts())[1])  # (m, size)
        generator = torch.Generator().manual_seed(0)
        basis = torch.randn(self.size, SKETCH_RANK, generator=generator, dtype=self.dtype)
        for _ in range(2):  # subspace iteration: Halko et al. 2011, 4.5
            basis = torch.linalg.qr(some.T @ (some @ basis))[0]  # (size, r)
        values, vectors = torch.linalg.eigh((some @ basis).T @ (some @ basis) / len(some))
        return basis @ vectors, values.clamp(min=0)
