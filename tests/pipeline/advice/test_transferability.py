"""LogME against the published formulae, written out literally; neighbours and probe against scikit-learn."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from pipeline.advice.linear_probe import PENALTIES, Probe
from pipeline.advice.transferability import cosines, gram, logme, neighbour_accuracy

Array = NDArray[np.float64]
SHAPES = [(60, 9), (40, 120)]  # more rows than columns, and fewer


def clusters(n: int, d: int, *, seed: int = 0, classes: int = 3) -> tuple[Array, NDArray[np.intp]]:
    """Rows around a centre for each class, on top of a common offset; labels unevenly often."""
    rng = np.random.default_rng(seed)
    y = rng.choice(classes, n, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    y[:classes] = range(classes)
    return 2 + rng.normal(size=(classes, d))[y] + rng.normal(size=(n, d)), y


def near(X: Array) -> Array:
    products = gram(X)
    return cosines(products, np.diag(products), np.diag(products))


def all_scores(X: Array, y: NDArray[np.intp]) -> dict[str, float]:
    unit = np.arange(len(y))
    return {"5-NN": neighbour_accuracy(near(X), y, unit, 5), "LogME": logme(gram(X), y)}


@pytest.mark.parametrize("shape", SHAPES)
def test_logme_is_the_greatest_log_marginal_likelihood(shape: tuple[int, int]) -> None:
    X, y = clusters(*shape)
    K, n = X @ X.T, len(y)

    def greatest(target: Array) -> float:
        def minus(point: Array) -> float:
            cov = K * np.exp(point[0]) + np.eye(n) * np.exp(point[1])
            return -float(multivariate_normal.logpdf(target, cov=cov)) / n

        starts = [np.array([a, b]) for a in (-8.0, -2.0) for b in (-6.0, -1.0)]
        return max(-minimize(minus, start, method="Nelder-Mead", tol=1e-9).fun for start in starts)

    want = np.mean([greatest((y == k).astype(float)) for k in range(3)])
    assert logme(gram(X), y) == pytest.approx(want, abs=1e-4)


def test_logme_is_what_the_published_fixed_point_converges_to() -> None:
    X, y = clusters(80, 6, seed=1)
    n, d = X.shape
    evidences = []
    for k in range(3):
        target = (y == k).astype(float)
        alpha = beta = 1.0
        for _ in range(500):
            A = alpha * np.eye(d) + beta * X.T @ X
            m = beta * np.linalg.solve(A, X.T @ target)
            gamma = np.sum(beta * np.linalg.eigvalsh(X.T @ X) / (alpha + beta * np.linalg.eigvalsh(X.T @ X)))
            alpha, beta = gamma / (m @ m), (n - gamma) / np.sum((target - X @ m) ** 2)
        A = alpha * np.eye(d) + beta * X.T @ X
        m = beta * np.linalg.solve(A, X.T @ target)
        evidences.append(
            d / 2 * np.log(alpha) + n / 2 * np.log(beta) - np.linalg.slogdet(A)[1] / 2
            - beta / 2 * np.sum((target - X @ m) ** 2) - alpha / 2 * (m @ m) - n / 2 * np.log(2 * np.pi)
        )  # fmt: skip
    assert logme(gram(X), y) == pytest.approx(np.mean(evidences) / n, abs=1e-7)


@pytest.mark.parametrize("k", [1, 3])
def test_neighbours_vote_as_scikit_learns_leave_one_out(k: int) -> None:
    X, y = clusters(70, 5, seed=2)
    right = 0
    for row in range(70):
        rest = np.arange(70) != row
        voters = KNeighborsClassifier(k, metric="cosine").fit(X[rest], y[rest])
        if np.isclose(voters.predict_proba(X[[row]]).max(), 1 / 3):  # one vote each: the nearest decides
            nearest = voters.kneighbors(X[[row]], return_distance=False)[0]
            right += int(y[rest][nearest[0]] == y[row])
        else:
            right += int(voters.predict(X[[row]])[0] == y[row])
    assert neighbour_accuracy(near(X), y, np.arange(70), k) == pytest.approx(right / 70)


def test_copies_and_groups_do_not_vote_for_each_other() -> None:
    X = np.array([[1, 0], [1, 0], [0, 1], [0.1, 1], [0.9, 0.1]])
    y = np.array([0, 0, 1, 1, 1])
    assert neighbour_accuracy(near(X), y, np.arange(5), 1) == 4 / 5  # the last is nearest to the first two
    assert neighbour_accuracy(near(X), y, np.array([0, 0, 1, 2, 3]), 1) == 2 / 5  # and these now to the last
    assert neighbour_accuracy(near(X), y, np.zeros(5, int), 1) == 0  # nobody may vote


@pytest.mark.parametrize("shape", SHAPES)
def test_labels_that_mean_nothing_score_lower(shape: tuple[int, int]) -> None:
    X, y = clusters(*shape)
    scores, shuffled = all_scores(X, y), all_scores(X, np.random.default_rng(0).permutation(y))
    assert all(scores[name] > shuffled[name] for name in scores)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_changes_nothing(shape: tuple[int, int]) -> None:
    X, y = clusters(*shape)
    scores = all_scores(X, y)
    rng = np.random.default_rng(3)
    order, names = rng.permutation(len(y)), np.array([7, 2, 4])
    turned = X @ np.linalg.qr(rng.normal(size=(shape[1], shape[1])))[0]
    wider = np.hstack([X, np.zeros((len(X), 3))])  # dead units
    changed = ((X[order], y[order]), (X, names[y]), (turned, y), (100 * X, y), (wider, y))
    for features, labels in changed:
        assert all_scores(features, labels) == pytest.approx(scores, rel=1e-6)


def test_features_without_any_content_score_lowest_and_finite() -> None:
    X, y = clusters(30, 5)
    for useless in (np.zeros((30, 5)), np.full((30, 5), 3.0)):
        scores = all_scores(useless, y)
        assert all(np.isfinite(list(scores.values())))
        assert scores["LogME"] < logme(gram(X), y)


def test_wide_float32_features_lose_no_accuracy() -> None:
    """At the width of pool5 at 224 px, with the size of its activations and its many zeros."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 50)
    X = np.maximum(rng.normal(-1, 20, (4, 25088))[y] + rng.normal(0, 20, (50, 25088)), 0).astype(np.float32)
    exact = X.astype(np.float64)
    assert gram(X).dtype == np.float64
    np.testing.assert_allclose(gram(X), exact @ exact.T, rtol=1e-12)
    np.testing.assert_allclose(gram(X[:7], X), exact[:7] @ exact.T, rtol=1e-12)
    turned = np.linalg.qr(exact.T)[1].T  # the same inner products in 50 columns
    assert logme(gram(X), y) == pytest.approx(logme(gram(turned), y), rel=1e-6)


def test_probe_is_the_ridge_with_the_least_leave_one_out_error() -> None:
    X, y = clusters(25, 40, seed=5)
    X, held = X[:20], X[20:]
    labels = y[:20]
    targets = (labels[:, None] == np.unique(labels)).astype(float)
    mean = np.linalg.eigvalsh((X - X.mean(axis=0)) @ (X - X.mean(axis=0)).T).mean()
    errors = []
    for penalty in PENALTIES * mean:
        rest = [np.arange(20) != row for row in range(20)]
        fits = [Ridge(penalty).fit(X[keep], targets[keep]) for keep in rest]
        guesses = np.stack([fit.predict(X[[row]])[0] for row, fit in enumerate(fits)])
        errors.append(((targets - guesses) ** 2).sum())
    best = Ridge(PENALTIES[np.argmin(errors)] * mean).fit(X, targets)
    probe = Probe.fit(gram(X), labels)
    scores = (gram(held, X) - probe.mean) @ probe.dual + probe.offset
    np.testing.assert_allclose(
        scores - scores.mean(axis=1, keepdims=True),
        best.predict(held) - best.predict(held).mean(axis=1, keepdims=True),
        atol=1e-8,
    )
    np.testing.assert_array_equal(probe.predict(gram(held, X)), best.predict(held).argmax(axis=1))
