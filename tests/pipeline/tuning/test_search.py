"""Tuning: what is chosen, on which rows, and what the rows that are not seen cannot change."""

import math
from typing import Any

import dask.array
import numpy as np
import pytest
from sklearn import metrics
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from features.errors import BadInput
from pipeline.heads.controls import KNN
from pipeline.heads.kernel import RbfSVM
from pipeline.heads.linear.estimators import LogReg
from pipeline.heads.mlp import MLP
from pipeline.heads.normalisation import Normalisation
from pipeline.statistics.metrics import mcnemar
from pipeline.tuning.folds import CrossValidation, Fold, Rows
from pipeline.tuning.search import nested, tune

NAMES = tuple("0123456789")


def rows(n: int = 500, noise: float = 0.25) -> Rows:
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))[:n]
    X = X[order] / 16 + np.random.default_rng(1).normal(0, noise, (n, 64))
    return Rows(X.astype(np.float32), y[order].astype(np.int32), np.arange(n))


def split(n: int = 500, noise: float = 0.25) -> Fold:
    everything = rows(n, noise)
    return Fold(everything.take(np.arange(0, n // 2)), everything.take(np.arange(n // 2, n)))


def test_the_best_point_on_held_rows_is_chosen() -> None:
    fold = split()
    Cs = (1e-3, 1e-2, 0.1, 1.0, 10.0)
    tuned = tune(LogReg, {"C": Cs, "tol": 1e-8}, ["standard"], [fold], NAMES)
    scaled = StandardScaler().fit(fold.train.X)
    scores = {}
    for C in Cs:
        model = LogisticRegression(C=C, tol=1e-8, max_iter=10_000).fit(
            scaled.transform(fold.train.X), fold.train.y
        )
        scores[C] = float((model.predict(scaled.transform(fold.held.X)) == fold.held.y).mean())
    for trial in tuned.trials:
        assert trial.top1 == pytest.approx(scores[trial.point["C"]], abs=0.005)
        assert trial.score == trial.top1
        assert trial.error == pytest.approx(math.sqrt(trial.top1 * (1 - trial.top1) / 250))
    assert tuned.chosen.top1 == max(trial.top1 for trial in tuned.trials)


def test_a_grid_that_ends_too_early_is_extended_and_said() -> None:
    fold, given = split(), (1e-5, 1e-4, 1e-3)  # below what these rows want
    tuned = tune(LogReg, {"C": given}, ["standard"], [fold], NAMES)
    tried = sorted(trial.point["C"] for trial in tuned.trials)
    np.testing.assert_allclose(np.diff(np.log10(tried)), 1)  # the grid goes on in the same steps
    assert set(given) < set(tried)
    chosen = tuned.chosen.point["C"]
    inside = tried[0] < chosen < tried[-1]
    assert inside == (tuned.edges == ())
    # It ends where the edge is ahead by no more than McNemar's test lets chance be
    answers = {}
    scaled = StandardScaler().fit(fold.train.X)
    for C in tried:
        model = LogisticRegression(C=C, tol=1e-8, max_iter=10_000).fit(
            scaled.transform(fold.train.X), fold.train.y
        )
        answers[C] = model.predict(scaled.transform(fold.held.X)) == fold.held.y
    best, *others = sorted(tried, key=lambda C: (chosen != C, -answers[C].sum()))
    assert len(tried) == len(given) + 2 * 2 or mcnemar(answers[best], answers[others[0]]) > 0.04
    assert mcnemar(answers[given[-1]], answers[given[-2]]) < 0.04  # where it went on


@pytest.mark.parametrize("by", ["top1", "macro-f1"])
def test_a_grid_is_not_extended_for_one_image(by: str) -> None:
    """500 images of one class and 5 of another, one of which only the largest C is right about."""
    rng = np.random.default_rng(0)

    def drawn(counts: tuple[int, int]) -> Rows:
        y = np.repeat([0, 1], counts).astype(np.int32)
        X = rng.normal(size=(len(y), 20)).astype(np.float32)
        X[y == 1, 0] += 2.5
        return Rows(X, y, np.arange(len(y)))

    fold = Fold(drawn((400, 4)), drawn((100, 3)))
    given = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    tuned = tune(LogReg, {"C": given}, ["none"], [fold], ("often", "seldom"), by=by)
    assert tuned.edges == ("C = 1",)  # said, and left at that
    assert sorted(trial.point["C"] for trial in tuned.trials) == list(given)


def test_one_standard_error_takes_the_simplest_that_is_as_good() -> None:
    fold = split(noise=1.0)
    grid = {"C": tuple(np.logspace(-5, 2, 15).tolist())}
    best = tune(LogReg, grid, ["standard", "l2"], [fold], NAMES)
    simple = tune(LogReg, grid, ["standard", "l2"], [fold], NAMES, rule="one-standard-error")
    least = best.chosen.top1 - best.chosen.error
    near = [
        trial.point["C"]
        for trial in best.trials
        if trial.normalisation == best.chosen.normalisation and trial.top1 >= least
    ]
    assert simple.chosen.point["C"] == min(near) < best.chosen.point["C"]
    fitted = simple.classifier.head
    assert isinstance(fitted, LogReg)
    assert min(near) == fitted.C


@pytest.mark.parametrize(
    ("head", "simple", "complex_"),
    [
        (KNN, {"k": 15}, {"k": 1}),
        (RbfSVM, {"C": 10.0, "gamma": 0.1}, {"C": 1.0, "gamma": 1.0}),
        (
            MLP,
            {"hidden": 8, "learning_rate": 0.1, "epochs": 9},
            {"hidden": 16, "learning_rate": 0.01, "epochs": 1},
        ),
    ],
)
def test_which_head_is_simpler(head: Any, simple: dict[str, Any], complex_: dict[str, Any]) -> None:
    assert head.complexity(simple) < head.complexity(complex_)


def test_cross_validation_is_scikit_learns() -> None:
    everything = rows(300)
    cut = CrossValidation(everything, 4, 1, 7)
    grid = {"C": (1e-3, 0.1, 10.0), "tol": 1e-8}
    tuned = tune(LogReg, grid, ["standard"], cut, NAMES, refit=everything)
    folds = StratifiedGroupKFold(4, shuffle=True, random_state=7)
    model = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-8, max_iter=10_000))
    search = GridSearchCV(model, {"logisticregression__C": list(grid["C"])}, cv=folds)
    search.fit(everything.X, everything.y, groups=everything.unit)
    expected = dict(zip(grid["C"], search.cv_results_["mean_test_score"], strict=True))
    for trial in tuned.trials:
        assert trial.top1 == pytest.approx(expected[trial.point["C"]], abs=0.005)
    assert tuned.chosen.point["C"] == search.best_params_["logisticregression__C"]
    # fitted on all rows in the end
    proba = search.best_estimator_.predict_proba(everything.X)
    raw = tuned.classifier.head.predict_proba(tuned.classifier.normalisation(everything.X))
    np.testing.assert_allclose(raw, proba, atol=1e-3)


def test_folds_keep_units_together_and_score_every_row_once() -> None:
    everything = rows(200)._replace(unit=np.arange(200) // 2)
    seen: list[int] = []
    for number, fold in enumerate(CrossValidation(everything, 4, 2, 0)):
        assert not set(fold.train.unit) & set(fold.held.unit)
        assert len(fold.train.y) + len(fold.held.y) == 200
        seen += fold.held.unit.tolist() if number < 4 else []
    assert sorted(seen) == sorted(everything.unit.tolist())


def test_more_folds_than_images_of_a_class_is_said() -> None:
    y = np.repeat([0, 1], [20, 3]).astype(np.int32)
    few = Rows(np.zeros((23, 2), np.float32), y, np.arange(23))
    with pytest.raises(BadInput, match=r"tuning\.folds is 5, but class 'dog' has 3 images"):
        CrossValidation(few, 5, 1, 0).check(("cat", "dog"))


def test_nested_accuracy_is_not_flattered_by_choosing() -> None:
    noise = np.random.default_rng(3)
    n = 120
    everything = Rows(
        noise.normal(size=(n, 30)).astype(np.float32), (np.arange(n) % 2).astype(np.int32), np.arange(n)
    )
    grid = {"C": tuple(np.logspace(-6, 3, 12).tolist()), "tol": 1e-3}
    cut = CrossValidation(everything, 5, 1, 0)
    honest = nested(LogReg, grid, ["none", "standard", "l2"], cut, ("a", "b"))
    assert len(honest) == 5
    chosen = tune(LogReg, grid, ["none", "standard", "l2"], cut, ("a", "b"), refit=everything).chosen
    assert float(np.mean(honest)) < chosen.top1  # labels are noise: 0.5 at most is real
    assert abs(float(np.mean(honest)) - 0.5) < 0.15


def test_a_class_without_validation_rows_is_no_obstacle() -> None:
    fold = split()
    fold = fold._replace(held=fold.held.take(np.flatnonzero(fold.held.y != 3)))
    tuned = tune(LogReg, {"C": (0.1, 1.0)}, ["l2"], [fold], NAMES)
    assert tuned.classifier.predict_proba(fold.held.X).shape == (len(fold.held.y), 10)


def test_a_class_without_train_rows_is_said() -> None:
    fold = split()
    fold = fold._replace(train=fold.train.take(np.flatnonzero(fold.train.y != 3)))
    with pytest.raises(BadInput, match="class '3' has no image in train"):
        tune(LogReg, {"C": (1.0,)}, ["l2"], [fold], NAMES)


def test_refit_keeps_the_epoch_and_the_temperature() -> None:
    fold = split(200)
    grid = {"hidden": (8, 16), "learning_rate": (1e-2,), "epochs": 6}
    tuned = tune(MLP, grid, ["l2"], [fold], NAMES)
    everything = rows(200)
    again = tune(MLP, grid, ["l2"], [fold], NAMES, refit=everything)
    assert again.chosen == tuned.chosen
    assert again.classifier.temperature == tuned.classifier.temperature
    point = {name: tuned.chosen.point[name] for name in ("hidden", "learning_rate", "epochs")}
    expected = MLP(**point).fit(again.classifier.normalisation(everything.X), everything.y)
    np.testing.assert_allclose(
        again.classifier.scores(everything.X), expected.logits(again.classifier.normalisation(everything.X)),
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["none", "l2", "standard"])
def test_rows_out_of_memory_are_tuned_to_the_same(kind: str) -> None:
    fold = split(400)
    lazy = fold.train._replace(X=dask.array.from_array(fold.train.X, chunks=(60, 64)))
    normalised = (Normalisation(kind).fit(X)(X) for X in (lazy.X, fold.train.X))
    np.testing.assert_allclose(*(np.asarray(X) for X in normalised), rtol=1e-4, atol=1e-6)
    grid = {"C": (0.01, 1.0), "tol": 1e-6}
    held = tune(LogReg, grid, [kind], [fold], NAMES)
    read = tune(LogReg, grid, [kind], [Fold(lazy, fold.held)], NAMES)
    assert read.chosen.point == held.chosen.point
    np.testing.assert_allclose(
        read.classifier.predict_proba(fold.held.X), held.classifier.predict_proba(fold.held.X), atol=1e-3
    )


def rare(n: int, few: int, seed: int) -> Rows:
    """Two classes that overlap, `few` of n images in the second."""
    rng, y = np.random.default_rng(seed), np.r_[np.zeros(n - few), np.ones(few)].astype(np.int32)
    return Rows((rng.normal(size=(n, 6)) + 1.5 * y[:, None]).astype(np.float32), y, np.arange(n))


@pytest.mark.parametrize("by", ["top1", "macro-f1", "log-loss"])
@pytest.mark.parametrize("crossed", [False, True])
def test_the_score_that_is_asked_for_chooses(by: str, crossed: bool) -> None:
    fold = Fold(rare(300, 20, 0), rare(200, 14, 1))
    everything = rare(300, 20, 0)
    folds: Any = CrossValidation(everything, 4, 1, 0) if crossed else [fold]
    refit = everything if crossed else None
    grid: dict[str, Any] = {"C": tuple(np.logspace(-5, 2, 8).tolist()), "tol": 1e-8}
    tuned = tune(LogReg, grid, ["none"], folds, ("often", "seldom"), by=by, refit=refit)
    found = {}
    for C in grid["C"]:
        each = []
        for train, held in folds:
            proba = (
                LogisticRegression(C=C, max_iter=10_000, tol=1e-8).fit(train.X, train.y).predict_proba(held.X)
            )
            answers = proba.argmax(axis=1)
            f1 = metrics.f1_score(held.y, answers, average="macro", zero_division=0)
            each.append({"top1": (answers == held.y).mean(), "macro-f1": f1}.get(by, np.nan))
        found[C] = float(np.mean(each))
    for trial in tuned.trials:
        if by != "log-loss" and trial.point["C"] in found:
            assert trial.score == pytest.approx(found[trial.point["C"]], abs=0.01)
    best = max(trial.score for trial in tuned.trials)
    assert tuned.chosen.score == pytest.approx(best)
    if by == "log-loss":
        assert tuned.chosen.log_loss == min(trial.log_loss for trial in tuned.trials)
        assert tuned.chosen.score == pytest.approx(-tuned.chosen.log_loss)
    simple = tune(
        LogReg, grid, ["none"], folds, ("often", "seldom"), by=by, rule="one-standard-error", refit=refit
    )
    near = [
        trial.point["C"] for trial in tuned.trials if trial.score >= tuned.chosen.score - tuned.chosen.error
    ]
    assert simple.chosen.point["C"] == min(near)


def test_nested_folds_need_a_class_twice() -> None:
    X = np.random.default_rng(0).normal(size=(22, 3)).astype(np.float32)
    y = np.array([0] * 20 + [1] * 2)
    cut = CrossValidation(Rows(X, y, np.arange(22)), 2, 1, 0)
    cut.check(("cat", "dog"))  # two images are enough for two folds
    with pytest.raises(BadInput, match=r"of class 'dog', with 2 images.* an outer fold leaves 1, too few"):
        cut.check_nested(("cat", "dog"))
    more = CrossValidation(Rows(X[:14], np.array([0] * 10 + [1] * 4), np.arange(14)), 2, 1, 0)
    more.check_nested(("cat", "dog"))
