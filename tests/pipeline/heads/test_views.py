"""Several views per image: each weighs 1/k in the loss, and probabilities are averaged over them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC, LinearSVC

from pipeline.heads import HEADS
from pipeline.heads.base import Head
from pipeline.heads.batches import one_view_each
from pipeline.heads.classifier import Classifier
from pipeline.heads.controls import KNN
from pipeline.heads.kernel import RbfSVM
from pipeline.heads.linear.estimators import LinearSVM, LogReg
from pipeline.heads.normalisation import Normalisation
from pipeline.statistics.calibration import calibrated, log_loss, temperature
from pipeline.tuning.folds import Fold, Rows
from pipeline.tuning.search import Tuned, tune
from tests.pipeline.heads.test_heads import GRIDS

SOLVERS = {
    "logreg": lambda: LogisticRegression(C=0.5, tol=1e-10, max_iter=20_000),
    "linear-svm": lambda: LinearSVC(C=0.5, tol=1e-8, max_iter=100_000),
    "rbf-svm": lambda: SVC(C=0.5, tol=1e-8),  # gamma: scikit-learn's `scale` is our 1
}
NAMES = tuple("abc")


def images(n: int = 90, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Digits 0 to 2 in k views, (n, k, 64) float32: shifted to the right by 0, 1, … columns, with noise."""
    X, y = load_digits(n_class=3, return_X_y=True)
    pictures = X[:n].reshape(n, 8, 8) / 16
    views = np.stack([np.roll(pictures, shift, axis=2).reshape(n, 64) for shift in range(k)], axis=1)
    noise = np.random.default_rng(0).normal(0, 0.2, views.shape)
    return (views + noise).astype(np.float32), y[:n].astype(np.int32)


def rows(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return X.reshape(-1, X.shape[2]), np.repeat(y, X.shape[1])


def tuned_on(name: str, X: np.ndarray, y: np.ndarray) -> Tuned:
    rows = Rows(X, y, np.arange(len(y)))
    fold = Fold(rows.take(np.arange(90)), rows.take(np.arange(90, len(y))))
    return tune(HEADS[name], GRIDS[name], ("l2", "standard"), [fold], NAMES)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("n", [15, 90])  # fewer and more rows than the 64 features
def test_each_view_weighs_one_of_k_in_the_loss(name: str, n: int) -> None:
    X, y = rows(*images(n))
    reference = SOLVERS[name]().fit(X, y, sample_weight=np.full(len(X), 1 / 3))
    head = HEADS[name](C=0.5)
    if name != "rbf-svm":
        head.set_params(tol=1e-9)
    head.fit(X, y, views=3)
    scores, expected = head.logits(X), reference.decision_function(X)
    if name == "logreg":  # the same for all classes changes nothing
        scores, expected = (one - one.mean(axis=1, keepdims=True) for one in (scores, expected))
    np.testing.assert_allclose(scores, expected, atol=2e-3)


@pytest.mark.parametrize(
    "head", [LogReg(0.5, tol=1e-9), LinearSVM(0.5, tol=1e-9), RbfSVM(0.5), KNN(5)], ids=repr
)
def test_copies_of_an_image_weigh_as_much_as_the_image(head: Head) -> None:
    X, y = images(120)
    once, new = X[:90, 0], X[90:, 0]
    expected = head.fit(once, y[:90]).logits(new)
    copies = head.fit(once.repeat(4, axis=0), y[:90].repeat(4), views=4).logits(new)
    np.testing.assert_allclose(copies, expected, atol=1e-3)


@pytest.mark.parametrize("name", HEADS)
def test_path_equals_single_fits(name: str) -> None:
    X, y = rows(*images())
    for point, head in HEADS[name].path(X, y, GRIDS[name], views=3):
        fixed = {k: v for k, v in GRIDS[name].items() if not isinstance(v, tuple)}
        alone = HEADS[name](**{**fixed, **point}).fit(X, y, views=3)
        np.testing.assert_allclose(head.logits(X), alone.logits(X), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("k", [1, 5, 1000])
def test_knn_asks_the_nearest_distinct_images(k: int) -> None:
    X, y = images(120)
    new = X[90:, 1]
    proba = KNN(k).fit(*rows(X[:90], y[:90]), views=3).predict_proba(new)
    for row, found in zip(new, proba, strict=True):
        distances = [min(np.linalg.norm(row - view) for view in image) for image in X[:90]]
        voters = Counter(y[i] for i in np.argsort(distances)[:k])
        votes = np.array([voters[number] + 1 / 3 for number in range(3)])
        np.testing.assert_allclose(found, votes / votes.sum(), atol=1e-6)


def test_mlp_sees_every_image_once_an_epoch_and_every_view_equally_often() -> None:
    generator = torch.Generator().manual_seed(0)
    epochs = torch.stack([one_view_each(50, 4, generator) for _ in range(2000)])
    assert (epochs.div(4, rounding_mode="floor").sort(dim=1).values == torch.arange(50)).all()
    share = torch.bincount(epochs.flatten(), minlength=200) / 2000
    np.testing.assert_allclose(share, 0.25, atol=5 * np.sqrt(0.25 * 0.75 / 2000))
    without = one_view_each(50, 1, torch.Generator().manual_seed(7))
    assert torch.equal(without, torch.randperm(50, generator=torch.Generator().manual_seed(7)))


@pytest.mark.parametrize("name", ["logreg", "linear-svm", "rbf-svm", "knn", "majority"])
def test_order_of_views_does_not_matter(name: str) -> None:
    X, y = images(120)
    order = np.random.default_rng(1).random((120, 3, 1)).argsort(axis=1)  # of each image its own
    tuned, other = tuned_on(name, X, y), tuned_on(name, np.take_along_axis(X, order, axis=1), y)
    assert tuned.chosen.point == other.chosen.point
    proba = tuned.classifier.predict_proba(X)
    np.testing.assert_allclose(other.classifier.predict_proba(X), proba, atol=2e-3)


@pytest.mark.parametrize("name", HEADS)
def test_one_view_is_the_same_as_none(name: str) -> None:
    X, y = images(120, k=1)
    one, none = tuned_on(name, X, y), tuned_on(name, X[:, 0], y)
    assert one.trials == none.trials
    assert one.classifier.temperature == none.classifier.temperature
    proba = none.classifier.predict_proba(X[:, 0])
    np.testing.assert_array_equal(one.classifier.predict_proba(X), proba)


@pytest.mark.parametrize("name", HEADS)
def test_tuning_scores_the_average_over_views(name: str) -> None:
    X, y = images(120)
    tuned = tuned_on(name, X, y)
    proba = tuned.classifier.predict_proba(X[90:])
    assert tuned.chosen.top1 == (proba.argmax(axis=1) == y[90:]).mean()
    assert tuned.chosen.log_loss == pytest.approx(-np.log(proba[np.arange(30), y[90:]]).mean(), rel=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_classifier_averages_and_survives_saving(name: str, tmp_path: Path) -> None:
    X, y = images(120)
    classifier = tuned_on(name, X, y).classifier
    proba = classifier.predict_proba(X)
    by_view = [classifier.predict_proba(X[:, view]) for view in range(3)]
    np.testing.assert_allclose(proba, sum(by_view) / 3, atol=1e-5)
    classifier.save(tmp_path, {})
    np.testing.assert_array_equal(Classifier.load(tmp_path).predict_proba(X), proba)


@pytest.mark.parametrize("kind", ["none", "l2", "standard"])
def test_normalisation_treats_views_as_rows(kind: str) -> None:
    X, _ = images()
    normalise = Normalisation(kind).fit(X.reshape(-1, 64))
    np.testing.assert_array_equal(normalise(X).reshape(-1, 64), normalise(X.reshape(-1, 64)))


def test_probabilities_of_two_views_by_hand() -> None:
    scores = np.log([[[0.5, 0.5], [0.9, 0.1]]])  # softmax of them: the numbers themselves
    np.testing.assert_allclose(calibrated(scores, 1.0), [[0.7, 0.3]])
    np.testing.assert_allclose(calibrated(scores, 0.5), [[(0.5 + 0.81 / 0.82) / 2, (0.5 + 0.01 / 0.82) / 2]])
    assert log_loss(scores, np.array([1])) == pytest.approx(-np.log(0.3))


@pytest.mark.parametrize("k", [1, 2, 10])
@pytest.mark.parametrize("size", [-2, 0, 2])
def test_temperature_minimises_the_averaged_log_loss(k: int, size: int) -> None:
    rng = np.random.default_rng(k)
    labels = rng.integers(0, 4, 60)
    own = 2 * np.eye(4)[labels]  # the right class scores higher, and so do others at times
    scores = 10.0**size * (own[:, None] + rng.normal(size=(60, 1, 4)) + rng.normal(size=(60, k, 4)))
    grid = 10.0**size * np.geomspace(1e-2, 1e2, 600)
    losses = [
        -np.log(softmax(scores / T, axis=2).mean(1)[np.arange(60), labels] + 1e-300).mean() for T in grid
    ]
    T = temperature(scores, labels, smoothed=0)
    assert log_loss(scores / T, labels) <= min(losses) + 1e-9


def test_temperature_is_not_caught_in_a_lesser_minimum() -> None:
    rng = np.random.default_rng(0)
    # Ten images at a time, whose views contradict each other
    own = 2 * np.eye(4)[rng.integers(0, 4, (60, 10))]
    for right in own:
        labels = right.argmax(axis=1)
        scores = right[:, None] + rng.normal(size=(10, 5, 4)) * rng.uniform(1, 3)
        least = min(log_loss(scores / T, labels) for T in np.geomspace(1e-2, 1e2, 120))
        assert log_loss(scores / temperature(scores, labels, smoothed=0), labels) <= least + 2e-3


def test_extreme_scores_have_finite_losses() -> None:
    scores = np.array([[[0.0, 1e6], [0.0, 2e6]]], np.float32)
    assert log_loss(scores, np.array([0])) == pytest.approx(1e6 + np.log(2))
    np.testing.assert_array_equal(calibrated(scores, 1.0), [[0, 1]])
