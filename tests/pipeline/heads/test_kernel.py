"""The Gaussian-kernel SVM: scikit-learn's where it is exact, and its Nyström approximation beyond."""

import pickle
import weakref
from itertools import product
from pathlib import Path

import dask.array
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.estimator_checks import check_estimator

from pipeline.heads.classifier import Classifier
from pipeline.heads.gaussian import draw, kernel, root, squared_distances, unit
from pipeline.heads.kernel import RbfSVM
from pipeline.heads.normalisation import Normalisation

GRID = {"C": (1.0, 10.0), "gamma": (0.3, 3.0)}


def digits(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return (X[:n] / 16).astype(np.float32), y[:n]


@pytest.fixture
def approximated(monkeypatch: pytest.MonkeyPatch) -> int:
    """As for many rows: beyond 50 of them, with 150 landmarks."""
    monkeypatch.setattr("pipeline.heads.kernel.GRAM_ROWS", 50)
    monkeypatch.setattr("pipeline.heads.kernel.LANDMARKS", 150)
    return 150


@pytest.mark.parametrize("weight", [None, "balanced"])
def test_is_a_scikit_learn_estimator(weight: str | None) -> None:
    check_estimator(RbfSVM(class_weight=weight), on_skip=None)


@pytest.mark.parametrize("weight", [None, "balanced"])
@pytest.mark.parametrize("classes", [2, 7])
def test_every_point_of_a_path_is_scikit_learns(weight: str | None, classes: int) -> None:
    X, y = digits(800)
    keep = np.random.default_rng(0).random(800) < np.where(y == 0, 0.2, 0.8)  # unequal classes
    X, y = X[keep & (y < classes)], y[keep & (y < classes)]
    train, new = slice(0, 2 * len(X) // 3), slice(2 * len(X) // 3, None)
    scale = 1 / (X.shape[1] * X[train].var())
    points = []
    for point, head in RbfSVM.path(X[train], y[train], {**GRID, "class_weight": weight}):
        # Of classes with equally many votes we, and scikit-learn if told so, take the more confident
        reference = SVC(
            C=point["C"], gamma=point["gamma"] * scale, class_weight=weight, break_ties=classes > 2
        )
        reference.fit(X[train].astype(np.float64), y[train])
        np.testing.assert_array_equal(head.predict(X[new]), reference.predict(X[new]))
        assert head.kernel_ == "exact"
        points.append((point["gamma"], point["C"]))
    assert points == list(product(GRID["gamma"], GRID["C"]))


def test_scores_within_a_path_are_those_of_the_head_alone() -> None:
    """While the path lasts heads share their distances; afterwards, and loaded, they have their own rows."""
    X, y = digits()
    during = [(head, head.logits(X[300:])) for _, head in RbfSVM.path(X[:300], y[:300], GRID)]
    for head, scores in during:
        np.testing.assert_allclose(head.logits(X[300:]), scores, atol=1e-9)
        again = RbfSVM(**head.get_params()).restore(head.arrays(), head.classes_)
        np.testing.assert_array_equal(again.logits(X[300:]), head.logits(X[300:]))


def test_shared_distances_are_of_the_rows_asked_now() -> None:
    X, y = digits()
    _, head = next(path := RbfSVM.path(X[:300], y[:300], GRID))
    asked = X[300:].copy()
    head.logits(asked)
    asked[:] = X[:100]  # the same memory, other rows
    scores = head.logits(asked)
    path.close()
    np.testing.assert_allclose(scores, head.logits(X[:100]), atol=1e-9)


def test_a_head_outlives_its_path_without_the_train_rows() -> None:
    X, y = digits(900)
    y = (y > 4).astype(int)
    _, head = next(path := RbfSVM.path(X, y, {"C": (10.0,), "gamma": (0.1,)}))
    assert len(head.support_) < 400
    path.close()
    assert len(pickle.dumps(head)) < 1.2 * sum(array.nbytes for array in head.arrays().values()) + 10_000


def test_a_path_holds_on_to_no_head_that_it_gave() -> None:
    """Each is as large as the train rows, and only the best is kept."""
    X, y = digits(200)
    given = []
    for _, head in RbfSVM.path(X, y, {"C": (1.0, 2.0, 3.0, 4.0), "gamma": (1.0,)}):
        given.append(weakref.ref(head))
        assert sum(reference() is not None for reference in given) <= 2 + 4 - len(given)


@pytest.mark.parametrize("d", [3, 5000])  # fewer and more features than are cast at once
def test_distances_and_unit_are_scikit_learns(d: int) -> None:
    rng = np.random.default_rng(0)
    A, B = (rng.normal(5, 1, (n, d)).astype(np.float32) for n in (40, 30))
    expected = euclidean_distances(A.astype(np.float64), B.astype(np.float64), squared=True)
    np.testing.assert_allclose(squared_distances(A, B), expected, rtol=1e-9)
    among = squared_distances(A, A)
    np.testing.assert_allclose(among, euclidean_distances(A.astype(np.float64)) ** 2, rtol=1e-9, atol=1e-8)
    assert unit(A) == pytest.approx(1 / (d * A.var(dtype=np.float64)), rel=1e-9)
    assert unit(dask.array.from_array(A, chunks=(7, d))) == pytest.approx(unit(A), rel=1e-12)


@pytest.mark.parametrize("value", [0, 0.1, 1000.1])
def test_constant_features_are_no_error(value: float) -> None:
    X, y = np.full((90, 5), value, np.float32), np.arange(90) % 3
    assert unit(X) == 1
    for _, head in RbfSVM.path(X, y, GRID):
        assert np.isfinite(head.logits(X)).all()


@pytest.mark.parametrize("gamma", [0.1, 1.0])
def test_features_are_nystroems(gamma: float) -> None:
    X, _ = digits(300)
    L = draw(X, 100)
    absolute = gamma * unit(X)
    Z = kernel(squared_distances(X, L), absolute) @ root(kernel(squared_distances(L, L), absolute))
    reference = Nystroem(gamma=absolute, n_components=100).fit(L.astype(np.float64)).transform(X)
    np.testing.assert_allclose(Z @ Z.T, reference @ reference.T, atol=1e-6)  # the same up to a rotation
    exact = kernel(squared_distances(X, X), absolute)
    assert np.abs(Z @ Z.T - exact).mean() < 0.02


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_approximated_is_a_linear_svm_on_nystroems_features(classes: int, approximated: int) -> None:
    X, y = digits(900)
    X, y = X[y < classes], y[y < classes]
    train, new = slice(0, len(X) // 2), slice(len(X) // 2, None)
    L = draw(X[train], approximated).astype(np.float64)
    for point, head in RbfSVM.path(X[train], y[train], {"C": (0.1, 1.0), "gamma": (0.3, 3.0)}):
        assert head.kernel_ == f"Nyström, {len(L)} landmarks"
        features = Nystroem(gamma=head.gamma_.item(), n_components=len(L)).fit(L)
        reference = LinearSVC(C=point["C"], tol=1e-6, max_iter=10_000).fit(
            features.transform(X[train]), y[train]
        )
        expected = reference.decision_function(features.transform(X[new]))
        if classes == 2:
            expected = np.stack([-expected / 2, expected / 2], axis=1)
        np.testing.assert_allclose(head.logits(X[new]), expected, atol=0.03)
        alone = RbfSVM(**point).fit(X[train], y[train])
        np.testing.assert_allclose(alone.logits(X[new]), head.logits(X[new]), atol=0.03)


def test_out_of_memory_it_is_approximated_the_same(approximated: int) -> None:
    X, y = digits(600)
    names = np.array([f"digit {number}" for number in y])
    lazy = dask.array.from_array(X[:500], chunks=((80, 120, 300), 64))
    held = RbfSVM.path(X[:500], names[:500], GRID)
    for (point, head), (same, other) in zip(RbfSVM.path(lazy, names[:500], GRID), held, strict=True):
        assert point == same
        np.testing.assert_allclose(head.logits(X[500:]), other.logits(X[500:]), atol=1e-6)
        assert head.score(X[500:], names[500:]) > 0.8


def test_what_it_was_approximated_by_survives_saving(approximated: int, tmp_path: Path) -> None:
    X, y = digits(300)
    *_, (_, head) = RbfSVM.path(X, y, GRID)
    classifier = Classifier(Normalisation("none").fit(X), head, 1.0, tuple("abcdefghij"))
    classifier.save(tmp_path, {"method": "x"})
    loaded = Classifier.load(tmp_path)
    assert isinstance(loaded.head, RbfSVM)
    assert loaded.head.kernel_ == head.kernel_ == "Nyström, 150 landmarks"
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    assert head.trained_parameters == 150 * 10 + 10


def test_rows_beyond_the_limit_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = digits(120)
    monkeypatch.setattr("pipeline.heads.kernel.GRAM_ROWS", 120)
    assert RbfSVM().fit(X, y).kernel_ == "exact"
    monkeypatch.setattr("pipeline.heads.kernel.GRAM_ROWS", 119)
    assert RbfSVM().fit(X, y).kernel_ == "Nyström, 120 landmarks"  # no more than there are rows
