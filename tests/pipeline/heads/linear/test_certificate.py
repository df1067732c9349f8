"""The certificate of linear heads: against float64 counts that are not our own."""

from typing import Any

import dask.array
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.utils.class_weight import compute_sample_weight

from benchmarks.certificate import hinge_gap, softmax_gap
from pipeline.heads.linear import choose_space, solver
from pipeline.heads.linear.estimators import LinearHead, LinearSVM, LogReg

WIDE = tuple(np.geomspace(1e-8, 10, 4).tolist())


def rows(kind: str, n: int, d: int, seed: int, classes: int = 4) -> tuple[NDArray[np.float32], Any]:
    """Features through a ReLU whose classes overlap; `kind` makes them difficult."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % classes)
    X = rng.normal(size=(n, d)) / np.sqrt(1 + np.arange(d))
    X[:, :classes] += 0.4 * np.eye(classes)[y]
    X = np.maximum(X @ rng.normal(size=(d, d)) / np.sqrt(d), 0)
    if kind == "unit":
        X /= np.linalg.norm(X, axis=1, keepdims=True)
    elif kind == "long":
        X *= 1e3 / np.linalg.norm(X, axis=1, keepdims=True)
    elif kind == "constants and copies":
        X[:, : d // 3] = X[:, -1:]
        X[:, d // 3 : d // 2] = 100
    elif kind == "rows that coincide":
        X[1::2] = X[::2][: len(X[1::2])] * (1 + 1e-6)
    return X.astype(np.float32), y


def objective(head: type[LinearHead], X: Any, y: Any, C: float, weights: Any, columns: Any) -> Any:
    """Objective and gradient, float64: one sum for all columns (classes, d + 1), the last the intercepts'."""
    W, b = columns[:, :-1], columns[:, -1]
    S = X @ W.T + b
    if head is LogReg:
        own = np.eye(len(b), dtype=bool)[y]
        Z = S - S[own][:, None]  # so that nothing cancels where answers are certain
        wrong = np.where(own, 0, np.exp(Z - Z.max(1, keepdims=True)))
        top = Z.max(1)
        loss = top + np.log1p(wrong.sum(1) + np.expm1(-top))
        R = wrong / (1 + wrong.sum(1) + np.expm1(-top))[:, None]
        R -= own * R.sum(1, keepdims=True)
        R *= C * weights[:, None]
        gradient = np.column_stack([W + R.T @ X, R.sum(0)])
        return (W**2).sum() / 2 + C * (weights * loss).sum(), gradient
    signs = np.where(np.arange(len(b)) == y[:, None], 1.0, -1.0)
    short = np.maximum(1 - signs * S, 0)
    R = -2 * C * weights[:, None] * signs * short
    F = ((W**2).sum() + (b**2).sum()) / 2 + C * (weights[:, None] * short**2).sum()
    return F, np.column_stack([W + R.T @ X, b + R.sum(0)])


def lowered(head: type[LinearHead], X: Any, y: Any, C: float, weights: Any, columns: Any) -> float:
    """By how much L-BFGS finds a lower objective from here, relative to that: the gap is at least so much."""

    def flat(x: Any) -> Any:
        value, gradient = objective(head, X, y, C, weights, x.reshape(columns.shape))
        return value, gradient.ravel()

    begun = flat(columns.ravel())[0]
    found = minimize(flat, columns.ravel(), jac=True, method="L-BFGS-B", options={"ftol": 0, "maxiter": 60})
    return float(begun / found.fun - 1)


def columns_of(head: LinearHead) -> NDArray[np.float64]:
    return np.column_stack([head.coef_, head.intercept_]).astype(np.float64)


@pytest.mark.parametrize("kind", ["unit", "long", "constants and copies", "rows that coincide"])
@pytest.mark.parametrize(("n", "d"), [(40, 60), (60, 20)])
@pytest.mark.parametrize("head", [LogReg, LinearSVM])
def test_no_minimum_is_further_below_than_certified(head: Any, n: int, d: int, kind: str) -> None:
    X, y = rows(kind, n, d, seed=n)
    for _, fitted in head.path(X, y, {"C": WIDE}):
        excess = lowered(head, X.astype(np.float64), y, fitted.C, np.ones(n), columns_of(fitted))
        assert excess <= fitted.gap_ + 1e-12
        assert fitted.converged_ == (fitted.gap_ <= 1e-4)


@pytest.mark.parametrize("few", [0, 10**9])  # rows up to which there is a Gram matrix: none, or all
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("head", "count"), [(LogReg, softmax_gap), (LinearSVM, hinge_gap)])
def test_agrees_with_the_count_from_the_definition(
    head: Any, count: Any, seed: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose_space, "GRAM_ROWS", few)
    X, y = rows("unit", 60, 90, seed)
    for _, fitted in head.path(X, y, {"C": tuple(np.logspace(-6, 3, 10).tolist())}):
        W, b = np.hsplit(columns_of(fitted), [-1])
        expected = count(X.astype(np.float64), y, fitted.C, W, b[:, 0])
        assert fitted.gap_ == pytest.approx(expected, rel=1e-3, abs=1e-9)
        assert fitted.gap_ >= expected * (1 - 1e-6) - 1e-11  # what is added only widens it


@pytest.mark.parametrize("head", [LogReg, LinearSVM])
@pytest.mark.parametrize("lazy", [False, True])
def test_weights_and_rows_that_are_read_in_parts(head: Any, lazy: bool) -> None:
    X, y = rows("unit", 160, 60, seed=1)
    y = np.where(y == 3, 0, y)  # one class twice the others
    given = dask.array.from_array(X, chunks=(50, -1)) if lazy else X
    weights = compute_sample_weight("balanced", y) / 2
    grid = {"C": (1e-4, 1.0, 1e4), "class_weight": "balanced"}
    for _, fitted in head.path(given, y, grid, views=2):
        excess = lowered(head, X.astype(np.float64), y, fitted.C, weights, columns_of(fitted))
        assert excess <= fitted.gap_ <= 1e-4


def test_rows_that_cancel_start_anew() -> None:
    """Values of C far apart, more rows than features: coefficients of rows grow where they cancel."""
    X, y = rows("unit", 90, 30, seed=90)
    for _, fitted in LinearSVM.path(X, y, {"C": (1e-8, 1e-5, 1e-2)}):
        assert fitted.converged_
        assert lowered(LinearSVM, X.astype(np.float64), y, fitted.C, np.ones(90), columns_of(fitted)) <= 1e-4


def test_rounding_of_what_is_kept_is_in_the_gap() -> None:
    X, y = rows("unit", 90, 200, seed=0)
    X += 1000  # of which float32 keeps three digits
    for _, fitted in LogReg.path(X, y, {"C": (1.0, 1e4)}):
        excess = lowered(LogReg, X.astype(np.float64), y, fitted.C, np.ones(90), columns_of(fitted))
        assert excess <= fitted.gap_ + 1e-12


@pytest.mark.parametrize("head", [LogReg, LinearSVM])
def test_where_float64_is_too_dear_the_gap_is_stated(head: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_space, "GRAM_ROWS", 0)
    monkeypatch.setattr(solver, "SYSTEM", 0)
    X, y = rows("long", 120, 40, seed=3)
    for _, fitted in head.path(X, y, {"C": WIDE}):
        excess = lowered(head, X.astype(np.float64), y, fitted.C, np.ones(120), columns_of(fitted))
        assert excess <= fitted.gap_ + 1e-12
