"""One contract for all heads, and each against an independent solver."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_estimator

from features.errors import BadInput
from features.immutable import sealed
from pipeline.heads import HEADS
from pipeline.heads.base import Head
from pipeline.heads.classifier import Classifier
from pipeline.heads.controls import KNN, Majority
from pipeline.heads.kernel import RbfSVM
from pipeline.heads.linear.estimators import LinearSVM, LogReg
from pipeline.heads.mlp import MLP
from pipeline.heads.normalisation import Normalisation
from pipeline.statistics.ranking import SIMPLEST

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


SINGLE: dict[str, dict[str, Any]] = {
    "logreg": {"C": 1.0, "tol": 1e-8},
    "linear-svm": {"C": 0.1, "tol": 1e-8},
    "rbf-svm": {"C": 1.0},
    "mlp": {"hidden": 16, "epochs": 5, "learning_rate": 1e-2},
    "knn": {"k": 3},
    "majority": {},
}
WEIGHTED = ("logreg", "linear-svm", "rbf-svm", "mlp")


def one(name: str, **changed: Any) -> Head:
    return HEADS[name](**{**SINGLE[name], **changed})


@pytest.mark.parametrize("name", sorted(set(HEADS) - {"mlp"}))  # whose steps depend on the order
@pytest.mark.parametrize("wide", [False, True])  # more and fewer rows than features
def test_order_of_rows_does_not_matter(name: str, wide: bool) -> None:
    X, y = digits(60 if wide else 150, 5)
    if wide:
        X = X @ np.random.default_rng(0).normal(size=(64, 300)).astype(np.float32)
    order = np.random.default_rng(1).permutation(len(y))
    first, second = one(name).fit(X, y).logits(X), one(name).fit(X[order], y[order]).logits(X)
    # Not all: where two classes of a kernel SVM tie, rounding decides
    assert (np.abs(second - first) > 2e-3 * np.abs(first).max()).mean() < 0.01


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_precision_of_features_does_not_matter(name: str, dtype: str) -> None:
    X, y = digits(120)  # sixteenths: exact in float16
    expected = one(name).fit(X, y).logits(X)
    scores = one(name).fit(X.astype(dtype), y).logits(X.astype(dtype))
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores, expected, atol=5e-3 * np.abs(expected).max())


@pytest.mark.parametrize("name", HEADS)
def test_classes_may_be_text(name: str) -> None:
    X, y = digits(120, 4)
    names = np.array(["zero", "<b>one</b>", "二", "ثلاثة"])
    head = one(name).fit(X, names[y])
    assert sorted(head.classes_) == sorted(names)
    numbers = one(name).fit(X, np.argsort(np.argsort(names))[y])  # in the order of the names
    np.testing.assert_allclose(head.logits(X), numbers.logits(X), rtol=1e-5, atol=1e-6)
    assert set(head.predict(X)) <= set(names)


@pytest.mark.parametrize("name", WEIGHTED)
def test_balanced_raises_the_rare_class(name: str) -> None:
    X, y = digits(400, 2)
    noise = np.random.default_rng(0).normal(0, 1.5, X.shape).astype(np.float32)
    keep = (y == 0) | (np.cumsum(y == 1) % 8 == 0)
    X, y = (X + noise)[keep], y[keep]
    rare = {weight: one(name, class_weight=weight).fit(X, y).predict_proba(X)[:, 1].mean()
            for weight in (None, "balanced")}  # fmt: skip
    assert rare["balanced"] > rare[None]


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("constant", [0.0, 3.5])
def test_features_that_say_nothing_are_survived(name: str, constant: float) -> None:
    X, y = np.full((30, 7), constant, np.float32), np.arange(30) % 3
    scores = one(name).fit(X, y).logits(X)
    assert np.isfinite(scores).all()
    assert np.ptp(scores, axis=0).max() < 1e-3 + 1e-3 * np.abs(scores).max()


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused(name: str, bad: float) -> None:
    X, y = digits(50, 3)
    X[7, 3] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        one(name).fit(X, y)


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
    path = tmp_path / "card.json"
    card = path.read_bytes()
    path.write_bytes(card.replace(b'"schema": 1', b'"schema": 99'))
    with pytest.raises(BadInput, match=r"card\.json does not match its seal"):
        Classifier.load(tmp_path)
    path.write_bytes(sealed({**json.loads(card), "schema": 99}))
    with pytest.raises(BadInput, match="schema 99"):
        Classifier.load(tmp_path)
    path.write_bytes(card)
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
    tied = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) > 1
    np.testing.assert_allclose(proba[~tied], (votes[~tied] + 0.1) / 6, atol=1e-6)
    assert 0 < tied.sum() < 20


def test_of_classes_with_as_many_votes_the_nearest_answers() -> None:
    X = np.array([[0.0], [1.0], [3.0], [4.0]], np.float32)  # a at 0 and 4, b at 1 and 3
    asked = np.array([[0.2], [0.9], [1.5], [3.2], [3.9]], np.float32)
    by_hand = ["a", "b", "b", "b", "a"]  # all four vote, two for each
    for names in ("abba", "baab"):  # whatever the classes are called
        renamed = dict(zip("abba", names, strict=True))
        head = KNN(4).fit(X, np.array(list(names)))
        assert head.predict(asked).tolist() == [renamed[name] for name in by_hand]
        # Seen in what is saved, too: float32, at any temperature
        proba = softmax(head.logits(asked) / 30, axis=1).astype(np.float32)
        assert head.classes_[proba.argmax(axis=1)].tolist() == [renamed[name] for name in by_hand]
    near = KNN(3).fit(X, np.array(list("abba")))
    assert near.predict(asked).tolist() == ["b", "b", "b", "b", "b"]  # more votes outweigh the nearest


@pytest.mark.parametrize("name", HEADS)
def test_names_of_classes_decide_nothing(name: str) -> None:
    """Renamed classes are renamed answers, in the same numbers: also where votes or counts are equal."""
    X, y = digits(120, 4)
    X = X.round(1)  # many distances are equal
    y = np.where(np.arange(120) < 100, np.arange(120) % 4, y)  # nearly random: votes and counts tie
    new = np.array([2, 0, 3, 1])
    for point in ({"k": 2}, {"k": 4}, {"k": 6}) if name == "knn" else ({},):
        head, renamed = (
            one(name, **point).fit(X[:100], y[:100]),
            one(name, **point).fit(X[:100], new[y[:100]]),
        )
        expected, found = head.logits(X), renamed.logits(X)[:, new]
        np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
        same = new[head.predict(X)] == renamed.predict(X)
        assert same.all() if name in ("knn", "majority") else same.mean() > 0.98  # of solvers, to a tolerance


def test_a_majority_among_equals_is_the_class_met_first() -> None:
    for labels, first in (("baab", "b"), ("abba", "a"), ("cabcab", "c"), ("abccba", "a")):
        head = Majority().fit(np.zeros((len(labels), 1)), np.array(list(labels)))
        assert head.predict(np.zeros((1, 1))).tolist() == [first]
    assert Majority().fit(np.zeros((5, 1)), np.array(list("baaab"))).predict(np.zeros((1, 1))) == ["a"]


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


def test_every_head_has_its_place_among_equals() -> None:
    assert set(SIMPLEST) == set(HEADS)
