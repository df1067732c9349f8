"""Transferability scores against the published formulae, written out literally, and by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from pipeline.advice.probe import PENALTIES, Probe
from pipeline.advice.transferability import (
    cosines,
    gram,
    h_score,
    leep,
    logme,
    nce,
    neighbour_accuracy,
    transrate,
)

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
    products, unit = gram(X), np.arange(len(y))
    return {
        "1-NN": neighbour_accuracy(near(X), y, unit, 1),
        "5-NN": neighbour_accuracy(near(X), y, unit, 5),
        "LogME": logme(products, y),
        "H-score": h_score(products, y, X.shape[1]),
        "TransRate": transrate(products, y),
    }


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


@pytest.mark.parametrize("shape", SHAPES)
def test_h_score_is_the_reference_formula_with_ledoit_wolf(shape: tuple[int, int]) -> None:
    X, y = clusters(*shape)
    estimate = LedoitWolf().fit(X)
    means = np.stack([X[y == k].mean(axis=0) for k in range(3)])[y]  # (n, d)
    between = (1 - estimate.shrinkage_) * np.cov(means, rowvar=False)
    want = np.trace(np.linalg.solve(estimate.covariance_, between))
    assert 0 < estimate.shrinkage_ < 1
    assert h_score(gram(X), y, X.shape[1]) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_transrate_is_the_published_listing(shape: tuple[int, int]) -> None:
    X, y = clusters(*shape)

    def rate(Z: Array) -> float:
        n, d = Z.shape
        return float(np.linalg.slogdet(np.eye(d) + Z.T @ Z / (n * 1e-4))[1] / 2)

    Z = X - X.mean(axis=0)
    want = rate(Z) - sum(rate(Z[y == k]) for k in range(3)) / 3
    assert transrate(gram(X), y) == pytest.approx(want, rel=1e-9)


def test_leep_and_nce_are_the_published_formulae() -> None:
    rng = np.random.default_rng(0)
    proba, y = rng.dirichlet(np.full(6, 0.3), 50), rng.integers(0, 3, 50)
    joint = np.zeros((3, 6))
    for theta, label in zip(proba, y, strict=True):
        joint[label] += theta / 50
    want = 0.0
    for theta, label in zip(proba, y, strict=True):
        want += np.log(sum(joint[label, z] / joint[:, z].sum() * theta[z] for z in range(6))) / 50
    assert leep(proba, y) == pytest.approx(want)

    source, want = proba.argmax(axis=1), 0.0
    for label in range(3):
        for z in range(6):
            both, given = np.mean((y == label) & (source == z)), np.mean(source == z)
            want += both * np.log(both / given) if both else 0
    assert nce(source, y) == pytest.approx(want)


def test_leep_and_nce_by_hand() -> None:
    y = np.array([0, 0, 1, 1, 1, 2])
    assert leep(np.eye(5)[[4, 4, 0, 0, 2, 1]], y) == pytest.approx(0)  # the source tells the classes apart
    assert nce(np.array([4, 4, 0, 0, 2, 1]), y) == pytest.approx(0)
    entropy = -sum(p * np.log(p) for p in (2 / 6, 3 / 6, 1 / 6))
    assert leep(np.full((6, 1000), 1e-3, np.float32), y) == pytest.approx(-entropy, rel=1e-5)
    assert nce(np.full(6, 7), y) == pytest.approx(-entropy)  # it knows nothing
    assert nce(np.array([0, 0, 0, 0, 1, 1]), y) == pytest.approx(-np.log(2))


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
    source = y + 5 * (np.arange(len(y)) % 2)
    assert nce(source, y) > nce(source, np.random.default_rng(0).permutation(y))
    proba = np.full((len(y), 9), 0.05)
    proba[np.arange(len(y)), source] += 0.55
    assert leep(proba, y) > leep(proba, np.random.default_rng(0).permutation(y))


@pytest.mark.parametrize("shape", SHAPES)
def test_what_changes_nothing(shape: tuple[int, int]) -> None:
    X, y = clusters(*shape)
    scores = all_scores(X, y)
    rng = np.random.default_rng(3)
    order, names = rng.permutation(len(y)), np.array([7, 2, 4])
    turned = X @ np.linalg.qr(rng.normal(size=(shape[1], shape[1])))[0]
    for changed in (all_scores(X[order], y[order]), all_scores(X, names[y]), all_scores(turned, y)):
        assert changed == pytest.approx(scores, rel=1e-6)
    larger = all_scores(100 * X, y)
    for name in scores.keys() - {"TransRate"}:  # whose distortion is in the features' units
        assert larger[name] == pytest.approx(scores[name], rel=1e-6)
    shifted = gram(X + 50)
    assert h_score(shifted, y, shape[1]) == pytest.approx(scores["H-score"], rel=1e-6)
    assert transrate(shifted, y) == pytest.approx(scores["TransRate"], rel=1e-6)
    wider = gram(np.hstack([X, np.zeros((len(X), 3))]))  # dead units
    assert logme(wider, y) == pytest.approx(scores["LogME"], rel=1e-9)
    assert transrate(wider, y) == pytest.approx(scores["TransRate"], rel=1e-9)


def test_features_without_any_content_score_lowest_and_finite() -> None:
    X, y = clusters(30, 5)
    for useless in (np.zeros((30, 5)), np.full((30, 5), 3.0)):
        scores = all_scores(useless, y)
        assert all(np.isfinite(list(scores.values())))
        assert scores["H-score"] == pytest.approx(0, abs=1e-9)
        assert scores["TransRate"] == pytest.approx(0, abs=1e-9)
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
    assert transrate(gram(X), y) == pytest.approx(transrate(gram(turned), y), rel=1e-7)


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
