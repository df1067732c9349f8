"""One contract for all heads, and each against an independent solver."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_estimator

from features.errors import BadInput
from pipeline.classifier import Classifier
from pipeline.heads import HEADS, KNN, MLP, LinearSVM, LogReg, Majority, RbfSVM
from pipeline.heads.base import Head
from pipeline.heads.normalisation import Normalisation

GRIDS = {
    "logreg": {"C": (0.01, 1.0), "tol": 1e-9},
    "linear-svm": {"C": (0.01, 1.0), "tol": 1e-9},
    "rbf-svm": {"C": (1.0, 10.0), "gamma": (0.5, 1.0)},
    "mlp": {"hidden": 16, "learning_rate": (1e-2,), "epochs": 3},
    "knn": {"k": (1, 5)},
    "majority": {},
}


def digits(n: int = 200, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    keep = np.flatnonzero(y < classes)[:n]
    return (X[keep] / 16).astype(np.float32), y[keep]


@pytest.mark.parametrize(
    "head",
    [LogReg(), LinearSVM(), RbfSVM(), MLP(epochs=60, class_weight="balanced"), KNN(), Majority()],
    ids=repr,
)
def test_is_a_scikit_learn_estimator(head: Head) -> None:
    weak = {"check_classifiers_train": "the majority does not separate blobs"}
    check_estimator(head, on_skip=None, expected_failed_checks=weak if isinstance(head, Majority) else None)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("classes", [2, 10])
def test_path_equals_single_fits(name: str, classes: int) -> None:
    X, y = digits(150, classes)
    reached = []
    for point, head in HEADS[name].path(X, y, GRIDS[name]):
        fixed = {k: v for k, v in GRIDS[name].items() if not isinstance(v, tuple)}
        alone = HEADS[name](**{**fixed, **point}).fit(X, y)
        scores = head.logits(X)
        assert scores.shape == (len(X), classes)
        np.testing.assert_allclose(scores, alone.logits(X), rtol=1e-3, atol=1e-4)
        reached.append(tuple(point.values()))
    assert len(set(reached)) == len(reached) > 0


@pytest.mark.parametrize("name", HEADS)
def test_is_deterministic(name: str) -> None:
    X, y = digits(120)
    first, second = ([h.logits(X) for _, h in HEADS[name].path(X, y, GRIDS[name])] for _ in "ab")
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("classes", [2, 3])
def test_saved_head_is_the_same_head(name: str, classes: int, tmp_path: Path) -> None:
    X, y = digits(90, classes)
    normalisation = Normalisation("standard").fit(X)
    *_, (_, head) = HEADS[name].path(normalisation(X), y, GRIDS[name])
    names = tuple("abcdefghij"[:classes])
    classifier = Classifier(normalisation, head, 0.7, names)
    classifier.save(tmp_path, {"method": "x"})
    loaded = Classifier.load(tmp_path)
    assert loaded.classes == names
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    np.testing.assert_allclose(loaded.predict_proba(X).sum(axis=1), 1)
    card = (tmp_path / "card.json").read_text("utf-8")
    (tmp_path / "card.json").write_text(card.replace('"schema": 1', '"schema": 99'), "utf-8")
    with pytest.raises(BadInput, match="schema 99"):
        Classifier.load(tmp_path)
    (tmp_path / "card.json").write_text(card, "utf-8")
    (tmp_path / "head.safetensors").write_bytes(b"damaged")
    with pytest.raises(BadInput, match="holds no saved head"):
        Classifier.load(tmp_path)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_rbf_svm_is_scikit_learns(classes: int) -> None:
    X, y = digits(300, classes)
    reference = SVC(C=10, gamma=0.5 / (X.shape[1] * X.var()), decision_function_shape="ovr").fit(X, y)
    scores = reference.decision_function(X)
    if classes == 2:
        scores = np.stack([-scores / 2, scores / 2], axis=1)
    head = RbfSVM(C=10, gamma=0.5).fit(X, y)
    np.testing.assert_allclose(head.logits(X), scores, atol=5e-3)
    np.testing.assert_array_equal(head.predict(X), reference.predict(X))


def test_knn_is_scikit_learns() -> None:
    X, y = digits(300)
    reference = KNeighborsClassifier(5, algorithm="brute").fit(X[:200], y[:200])
    votes = reference.predict_proba(X[200:]) * 5
    proba = KNN(5).fit(X[:200], y[:200]).predict_proba(X[200:])
    np.testing.assert_allclose(proba, (votes + 0.1) / 6, atol=1e-6)


def test_mlp_learns_what_a_line_cannot() -> None:
    X = np.random.default_rng(0).uniform(-1, 1, (600, 2)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] > 0).astype(int)  # exclusive or
    assert MLP(hidden=32, learning_rate=0.01, epochs=60).fit(X[:400], y[:400]).score(X[400:], y[400:]) > 0.9
    assert LogReg().fit(X[:400], y[:400]).score(X[400:], y[400:]) < 0.7


def test_normalisation_is_fitted_on_train_rows_only() -> None:
    X = np.random.default_rng(0).normal(3, 2, (50, 4)).astype(np.float32)
    X[:, 1] = 7  # constant
    X[0] = 0
    standard = Normalisation("standard").fit(X)
    Z = standard(X)
    np.testing.assert_allclose(Z[:, [0, 2, 3]].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(Z[:, [0, 2, 3]].std(0), 1, atol=1e-6)
    np.testing.assert_allclose(standard(X + 1) - Z, np.ones_like(X) / standard.scale, rtol=1e-4)
    lengths = np.linalg.norm(Normalisation("l2").fit(X)(X), axis=1)
    np.testing.assert_allclose(lengths[1:], 1, rtol=1e-6)
    assert lengths[0] == 0
    assert Normalisation("standard").fit(X[:, 1:2] * 0 + 7)(X[:, 1:2] * 0 + 7).any() == np.False_
    np.testing.assert_array_equal(Normalisation("none").fit(X)(X), X)
