"""The nearest-neighbour control: one search for every k of a path."""

import dask.array
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from features.errors import BadInput
from pipeline.heads.controls import KNN


def digits(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Digits with noise: as they are, rows lie at equal distances, and scikit-learn takes any of them."""
    X, y = load_digits(return_X_y=True)
    noise = np.random.default_rng(0).normal(0, 0.01, X[:n].shape)
    return (X[:n] / 16 + noise).astype(np.float32), y[:n]


def test_every_k_of_a_path_is_scikit_learns() -> None:
    X, y = digits()
    for point, head in KNN.path(X[:300], y[:300], {"k": (3, 15, 1)}):
        reference = KNeighborsClassifier(point["k"], algorithm="brute").fit(X[:300], y[:300])
        votes = reference.predict_proba(X[300:]) * point["k"]
        proba = head.predict_proba(X[300:])
        decided = np.isclose(votes, votes.max(axis=1, keepdims=True)).sum(axis=1) == 1
        assert decided.mean() > 0.9
        np.testing.assert_allclose(proba[decided], (votes[decided] + 0.1) / (point["k"] + 1), atol=1e-6)
        order = reference.kneighbors(X[300:], return_distance=False)
        for row in np.flatnonzero(~decided):  # of the classes with most votes, the nearest neighbour's
            most = set(np.flatnonzero(np.isclose(votes[row], votes[row].max())))
            assert proba[row].argmax() == next(y[near] for near in order[row] if y[near] in most)


@pytest.mark.parametrize("k", [(1, 5), (5, 1000), 5])  # 1000: more than there are images
def test_heads_of_a_path_are_those_fitted_alone(k: object) -> None:
    X, y = digits(300)
    heads = []
    for point, head in KNN.path(X[:240], y[:240], {"k": k}, views=3):
        alone = KNN(point.get("k", k)).fit(X[:240], y[:240], views=3)
        scores = alone.logits(X[240:])
        np.testing.assert_array_equal(head.logits(X[240:]), scores)
        heads.append((head, scores))
    for head, scores in heads:  # and after the path is over
        np.testing.assert_array_equal(head.logits(X[240:]), scores)


def test_of_rows_at_one_distance_the_first_vote() -> None:
    X = np.array([[1, 0], [0, 1], [-1, 0], [0, -1], [5, 5]], np.float32)
    y = np.array([2, 0, 1, 0, 1])
    for point, head in KNN.path(X, y, {"k": (1, 2, 3)}):
        votes = np.bincount(y[: point["k"]], minlength=3) + np.array([0, 0, 0.1 * (point["k"] > 1)])
        expected = (votes + 1 / 3) / (
            votes.sum() + 1
        )  # of classes at one vote each, the nearest has a tenth more
        np.testing.assert_allclose(head.predict_proba(np.zeros((1, 2)))[0], expected)


def test_rows_are_searched_once_for_all_k(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []
    search = NearestNeighbors.kneighbors
    monkeypatch.setattr(
        NearestNeighbors,
        "kneighbors",
        lambda *args, **options: searched.append(1) or search(*args, **options),
    )
    X, y = digits()
    for _, head in KNN.path(X[:300], y[:300], {"k": (1, 5, 15)}):
        head.logits_by_view(X[300:])
    assert len(searched) == 1


def test_out_of_memory_says_what_to_do() -> None:
    X, y = digits(100)
    with pytest.raises(BadInput, match=r"heads\.knn.*leave.*out or raise tuning\.memory_gb"):
        next(KNN.path(dask.array.from_array(X), y, {"k": (1,)}))
