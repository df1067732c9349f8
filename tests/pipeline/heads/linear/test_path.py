"""The regularisation path: against scikit-learn's solvers, and its certificate against the optimum."""

from itertools import pairwise
from typing import Any

import dask.array
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_sample_weight

from pipeline.heads.linear import row_space, schedule, solver, weight_space
from pipeline.heads.linear.estimators import LinearHead, LinearSVM, LogReg
from pipeline.heads.linear.path import solve
from pipeline.heads.linear.reference import minimum
from pipeline.heads.linear.schedule import rounds

Data = tuple[NDArray[np.float64], NDArray[np.int64]]
CS = tuple(np.logspace(-4, 3, 15).tolist())


def real(load: Any, d: int | None = None, n: int | None = None) -> Data:
    """A data set, standardised; with `d`, mapped to so many features."""
    X, y = load(return_X_y=True)
    keep = np.random.default_rng(1).permutation(len(y))[:n]
    X, y = X[keep], y[keep]
    deviation = X.std(0)
    X = (X - X.mean(0)) / np.where(deviation > 0, deviation, 1)
    if d:
        X = X @ np.random.default_rng(0).normal(size=(X.shape[1], d)) / np.sqrt(d)
    return X, y


PROBLEMS = {
    "wine, n > d": real(load_wine),
    "wine, n < d": real(load_wine, 400),
    "two classes": real(load_breast_cancer),
    "two classes, n < d": real(load_breast_cancer, 900, 200),
    "iris": real(load_iris),
    "digits": real(load_digits, n=500),
    "random labels": (np.random.default_rng(2).normal(size=(60, 90)), np.arange(60) % 5),
}


def objectives(head: type[LinearHead], X: Any, y: Any, C: float, coef: Any, intercept: Any) -> Any:
    """scikit-learn's objective in float64: one number, or one for each column of the hinge."""
    coef, intercept = np.asarray(coef, np.float64), np.asarray(intercept, np.float64)
    classes = np.unique(y)
    scores = X @ coef.T + intercept
    if head is LinearSVM:
        own = (y == classes[1])[:, None] if len(coef) == 1 else y[:, None] == classes
        short = np.maximum(1 - np.where(own, scores, -scores), 0)
        return ((coef**2).sum(1) + intercept**2) / 2 + C * (short**2).sum(0)
    if len(coef) == 1:
        margin = np.where(y == classes[1], scores[:, 0], -scores[:, 0])
        return (coef**2).sum() / 2 + C * np.logaddexp(0, -margin).sum()
    top = scores.max(1, keepdims=True)
    losses = (
        np.log(np.exp(scores - top).sum(1)) + top[:, 0] - scores[range(len(y)), np.searchsorted(classes, y)]
    )
    return (coef**2).sum() / 2 + C * losses.sum()


def reference(head: type[LinearHead], C: float) -> Any:
    if head is LogReg:
        return LogisticRegression(C=C, tol=1e-10, max_iter=20_000)
    return LinearSVC(C=C, tol=1e-10, max_iter=200_000, dual=False)


def columns(head: LinearHead) -> tuple[Any, Any]:
    """As scikit-learn has them: one column for two classes."""
    if len(head.coef_) == 2:
        return np.diff(head.coef_, axis=0), np.diff(head.intercept_)
    return head.coef_, head.intercept_


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("head", [LogReg, LinearSVM])
@pytest.mark.parametrize("C", [1e-3, 0.1, 10.0])
def test_agrees_with_scikit_learn(head: type[LinearHead], problem: str, C: float) -> None:
    X, y = PROBLEMS[problem]
    expected = reference(head, C).fit(X, y)
    fitted = head(C, tol=1e-9).fit(X, y)
    coef, intercept = columns(fitted)
    np.testing.assert_allclose(coef, expected.coef_, atol=2e-4 * np.abs(expected.coef_).max())
    scores = np.abs(expected.decision_function(X)).max()
    if len(intercept) > 1 and head is LogReg:  # the same for all classes changes nothing
        intercept = intercept - intercept.mean() + expected.intercept_.mean()
    np.testing.assert_allclose(intercept, expected.intercept_, atol=1e-3 * scores)
    if head is LogReg:
        np.testing.assert_allclose(fitted.predict_proba(X), expected.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("head", [LogReg, LinearSVM])
def test_certificate_bounds_the_distance_from_the_optimum(head: type[LinearHead], problem: str) -> None:
    X, y = PROBLEMS[problem]
    fitted = [one for _, one in head.path(X.astype(np.float32), y, {"C": CS})]
    exact = [one for _, one in head.path(X, y, {"C": CS, "tol": 1e-10})]
    for C, fast, best in zip(CS, fitted, exact, strict=True):
        assert fast.gap_ <= 1e-4
        assert fast.converged_
        least = objectives(head, X, y, C, *columns(best))
        excess = objectives(head, X, y, C, *columns(fast)) / least - 1
        assert np.all(excess <= fast.gap_ + 1e-5)  # the rows were rounded to float32


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("head", [LogReg, LinearSVM])
def test_is_within_its_gap_of_what_scipy_finds(head: type[LinearHead], problem: str) -> None:
    X, y = PROBLEMS[problem]
    some, ones = (1e-3, 0.1, 10.0), np.ones(len(y))
    for C, fast in zip(some, solve(X, y, y.max() + 1, some, ones, head.loss, 1e-4), strict=True):
        coef, intercept = minimum(X, y, C, head.loss)
        least = objectives(head, X, y, C, coef, intercept)
        found = objectives(head, X, y, C, fast.coef, fast.intercept)
        assert np.all(found <= least * (1 + fast.gap + 1e-9))
        # Strongly convex: what is near in F is near in the weights
        assert np.square(fast.coef - coef).sum() / 2 <= (fast.gap + 1e-9) * np.sum(least)


@pytest.mark.parametrize("loss", ["softmax", "squared hinge"])
def test_rows_weigh_what_scipy_lets_them_weigh(loss: Any) -> None:
    X, y = PROBLEMS["wine, n < d"]
    weights = np.random.default_rng(0).uniform(0.2, 2, len(y))
    (fast,) = solve(X, y, 3, [0.1], weights, loss, 1e-9)
    coef, _ = minimum(X, y, 0.1, loss, weights)
    np.testing.assert_allclose(fast.coef, coef, atol=1e-4 * np.abs(coef).max())
    assert np.abs(minimum(X, y, 0.1, loss)[0] - coef).max() > 1e-2 * np.abs(coef).max()


@pytest.mark.parametrize("head", [LogReg, LinearSVM])
def test_order_and_company_of_the_grid_do_not_matter(head: type[LinearHead]) -> None:
    X, y = PROBLEMS["wine, n < d"]
    some = (10.0, 0.01, 1.0)
    together = {point["C"]: one.coef_ for point, one in head.path(X, y, {"C": some, "tol": 1e-10})}
    assert tuple(together) == some
    for C, coef in together.items():
        np.testing.assert_allclose(coef, head(C, tol=1e-10).fit(X, y).coef_, atol=1e-4)


@pytest.mark.parametrize("head", [LogReg, LinearSVM])
@pytest.mark.parametrize("chunk", [170, 500])
def test_rows_read_in_parts_give_the_same(head: type[LinearHead], chunk: int) -> None:
    X, y = PROBLEMS["digits"]
    lazy = dask.array.from_array(X.astype(np.float32), chunks=(chunk, -1))
    grid = {"C": CS[:8], "tol": 1e-7, "class_weight": "balanced"}
    in_memory, in_parts = (
        [one for _, one in head.path(rows, y, grid)] for rows in (X.astype(np.float32), lazy)
    )
    for one, other in zip(in_memory, in_parts, strict=True):
        np.testing.assert_allclose(other.coef_, one.coef_, atol=3e-3 * np.abs(one.coef_).max())


@pytest.mark.parametrize("head", [LogReg, LinearSVM])
def test_both_spaces_solve_the_same_problem(head: type[LinearHead], monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = PROBLEMS["digits"]
    grid = {"C": CS, "tol": 1e-8}
    monkeypatch.setattr(weight_space, "EXACT_RANK", 10)  # so that the eigenvectors are a sketch
    monkeypatch.setattr(weight_space, "SKETCH_RANK", 20)
    by_weights = [one for _, one in head.path(X, y, grid)]
    monkeypatch.setattr(solver, "space_for", row_space.RowSpace)
    by_rows = [one for _, one in head.path(X, y, grid)]
    for one, other in zip(by_weights, by_rows, strict=True):
        np.testing.assert_allclose(other.coef_, one.coef_, atol=1e-3 * np.abs(one.coef_).max())


@pytest.mark.parametrize("head", [LogReg, LinearSVM])
def test_balanced_classes_weigh_the_same(head: type[LinearHead]) -> None:
    X, y = real(load_iris)
    keep = np.r_[0:150:1][(y != 0) | (np.arange(150) % 5 == 0)]
    X, y = X[keep], y[keep]
    # By rows: LIBLINEAR's own class weights leave out those of the rest
    expected = reference(head, 0.1).fit(X, y, sample_weight=compute_sample_weight("balanced", y))
    fitted = head(0.1, class_weight="balanced", tol=1e-9).fit(X, y)
    np.testing.assert_allclose(fitted.coef_, expected.coef_, atol=1e-4)


def test_stopping_early_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = PROBLEMS["digits"]
    monkeypatch.setattr(schedule, "ITERATIONS", 2)
    head = LogReg(1000.0).fit(X, y)
    assert not head.converged_
    assert head.gap_ > head.tol


def test_answers_that_are_certain_beyond_float64_are_solved() -> None:
    y = np.arange(60) % 3
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 50)) + 30 * rng.normal(size=(3, 50))[y]  # no class comes near another
    grid = np.geomspace(1e-6, 1e5, 45).tolist()
    for _, head in LogReg.path(X.astype(np.float32), y, {"C": grid}):
        assert head.converged_
        assert (head.predict(X) == y).all()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 45])
@pytest.mark.parametrize("first", [1, 2])
def test_every_value_is_solved_once(count: int, first: int) -> None:
    found = rounds(count, first)
    assert sorted(number for numbers in found for number in numbers) == list(range(count))
    assert all(numbers == sorted(numbers) for numbers in found)
    coarse = [numbers for numbers in found if len(numbers) <= first][: (count + 3) // 4]
    assert all(before[-1] < after[0] for before, after in pairwise(coarse[:-1]))
