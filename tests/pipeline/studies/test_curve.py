"""Learning curves: subsets, cross-fitting and extrapolation against independent references; the command."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import Normalizer, StandardScaler

from features.errors import BadInput
from features.store import FeatureStore
from pipeline.heads.base import Head
from pipeline.heads.linear.estimators import LogReg
from pipeline.project import Project
from pipeline.statistics.metrics import Interval
from pipeline.stores.extract import extract
from pipeline.studies.curve import curve
from pipeline.studies.learning_curve import Design, cross_fitted, halves, measure, over_draws, sizes
from pipeline.studies.outlook import Outlook
from pipeline.tuning.folds import Rows
from tests.conftest import Cli, refusal


def rows(X: np.ndarray, y: np.ndarray) -> Rows:
    return Rows(X, y, np.arange(len(y)))


def design(y: np.ndarray, draws: int = 3, seed: int = 0) -> Design:
    return Design.draw(y, y, np.arange(len(y)), draws=draws, seed=seed)


def test_sizes_end_with_all() -> None:
    assert sizes(1) == (1,)
    assert sizes(3) == (1, 2, 3)
    assert sizes(104) == (1, 2, 5, 10, 20, 50, 104)  # 100 of 104 would be the same images in every draw
    assert sizes(1000) == (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def test_subsets_are_stratified_nested_and_drawn() -> None:
    y = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [30, 12, 3])).astype(np.int32)
    drawn = design(y)
    for draw in range(3):
        smaller: set[int] = set()
        for size in drawn.sizes:
            subset = drawn.subset(size, draw)
            np.testing.assert_array_equal(np.bincount(y[subset]), np.minimum([30, 12, 3], size))
            assert smaller <= set(subset)
            smaller = set(subset)
        np.testing.assert_array_equal(subset, np.arange(len(y)))
    assert drawn.images == tuple(sum(min(n, size) for n in (30, 12, 3)) for size in drawn.sizes)
    assert len({tuple(drawn.subset(5, draw)) for draw in range(3)}) == 3
    np.testing.assert_array_equal(design(y, draws=4).places[:3], drawn.places)
    np.testing.assert_array_equal(design(y, draws=4).second, drawn.second)
    assert (design(y, seed=1).places != drawn.places).any()
    assert (design(y, seed=1).second != drawn.second).any()


def test_every_image_is_as_likely_to_be_drawn() -> None:
    y = np.repeat([0, 1], 4).astype(np.int32)
    seen = sum(np.bincount(design(y, 1, seed).subset(1, 0), minlength=8) for seed in range(400))
    assert stats.chisquare(seen).pvalue > 1e-3


def test_halves_are_stratified_and_part_no_unit() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [40, 21, 3]).astype(np.int32)
    alone = halves(y, np.arange(len(y)), rng)
    assert abs(np.bincount(y[alone], minlength=3) - np.bincount(y[~alone], minlength=3)).max() <= 1
    assert abs(int(alone.sum()) - int((~alone).sum())) <= 1
    units = np.array([f"patient {number}" for number in rng.integers(0, 20, len(y))])
    second = halves(y, units, rng)
    assert not set(units[second]) & set(units[~second])
    assert second.any()
    assert not second.all()
    with pytest.raises(BadInput, match="one group"):
        halves(y, np.zeros(len(y)), rng)


def test_cross_fitting_is_scikit_learns_by_hand() -> None:
    X, y = load_wine(return_X_y=True)
    rng = np.random.default_rng(1)
    X, y = (X + rng.normal(0, X.std(0), X.shape)).astype(np.float32), y.astype(np.int32)
    order = rng.permutation(len(y))
    fit, score = order[:30], order[30:]
    train, validation = rows(X[fit], y[fit]), rows(X[score], y[score])
    second = halves(validation.y, np.arange(len(score)), np.random.default_rng(0))
    grid = {"C": (1e-3, 0.1, 10.0)}
    right = cross_fitted(LogReg, grid, ("l2", "standard"), train, validation, second)

    proba = []
    for scaler in (Normalizer(), StandardScaler()):
        Z, Z_validation = scaler.fit_transform(train.X), scaler.transform(validation.X)
        for C in grid["C"]:
            model = LogisticRegression(C=C, tol=1e-8, max_iter=5000).fit(Z, train.y)
            proba.append(model.predict_proba(Z_validation))
    expected = np.zeros(len(score), bool)
    for own in (second, ~second):
        ranks = [
            (
                (p.argmax(1) == validation.y)[own].mean(),
                -log_loss(validation.y[own], p[own], labels=[0, 1, 2]),
            )
            for p in proba
        ]
        best = proba[ranks.index(max(ranks))]
        expected[~own] = (best.argmax(1) == validation.y)[~own]
    assert 0.5 < expected.mean() < 1
    np.testing.assert_array_equal(right, expected)


class Guesses(Head):
    """A grid of many heads that know nothing: the best of them looks good on the rows that chose it."""

    @classmethod
    def path(cls, X: Any, y: Any, grid: Mapping[str, Any], views: int = 1) -> Iterator[tuple[Any, Any]]:
        for seed in grid["seed"]:
            head = cls()
            head.weights = np.random.default_rng(seed).normal(size=(X.shape[1], 2))
            yield {"seed": seed}, head

    def logits(self, X: Any) -> Any:
        return X @ self.weights


def test_choosing_does_not_flatter() -> None:
    rng = np.random.default_rng(0)
    honest, best = [], []
    for _ in range(20):
        validation = rows(
            rng.normal(size=(60, 5)).astype(np.float32), rng.integers(0, 2, 60).astype(np.int32)
        )
        train = rows(validation.X[:4], validation.y[:4])
        second = halves(validation.y, np.arange(60), rng)
        grid = {"seed": range(100)}
        honest.append(cross_fitted(Guesses, grid, ("none",), train, validation, second).mean())
        heads = [head for _, head in Guesses.path(train.X, train.y, grid)]
        best.append(max((head.logits(validation.X).argmax(1) == validation.y).mean() for head in heads))
    assert np.mean(best) > 0.6
    # Deviation of the mean: at most √(¼ / 60 / 20) = 0.014, were the rows of one repeat independent
    assert abs(np.mean(honest) - 0.5) < 0.06


def test_views_are_averaged_and_full_size_is_one_fit() -> None:
    X, y = load_wine(return_X_y=True)
    X = ((X - X.mean(0)) / X.std(0)).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(y))
    X, y = X[order], y[order].astype(np.int32)
    copies = np.repeat(X[:, None], 3, axis=1)
    plan = Design.draw(y[:80], y[80:], np.arange(len(y) - 80), draws=2, seed=0)
    grid = {"C": (0.1, 1.0)}
    once = measure(LogReg, grid, ("none",), rows(X[:80], y[:80]), rows(X[80:], y[80:]), plan)
    views = measure(LogReg, grid, ("none",), rows(copies[:80], y[:80]), rows(copies[80:], y[80:]), plan)
    assert once[0] == views[0]  # three views that are the same image
    assert len(once[0]) == len(plan.sizes)
    assert once[0][-1] == (once[1].mean(),) * 2
    assert once[0][0][0] != once[0][0][1]


def test_interval_over_draws_is_students() -> None:
    values = [0.91, 0.94, 0.9, 0.93, 0.92]
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert over_draws(values) == pytest.approx((np.mean(values), low, high))
    assert over_draws([1.0, 0.9])[2] == 1.0


def test_power_law_is_found_again() -> None:
    images = [10, 100, 125, 250, 500, 1000]
    error = 0.8 * np.array(images, float) ** -0.3
    error[0] = 0.99  # far from the end, and not on the law
    accuracy = np.stack([1 - error * factor for factor in (0.98, 1.0, 1.02)], axis=1)
    outlook = Outlook.of(images, accuracy, 10_000)
    assert outlook.doubled is not None
    assert outlook.error == pytest.approx(error[-1])
    assert outlook.gained == pytest.approx(error[-2] - error[-1])
    assert outlook.doubled.value == pytest.approx(0.8 * 2000**-0.3)
    assert outlook.doubled.low < outlook.doubled.value < outlook.doubled.high
    sampled = Interval(1 - error[-1], 1 - error[-1] - 0.01, 1 - error[-1] + 0.01)
    gain = 100 * 0.8 * (1000**-0.3 - 2000**-0.3)
    words = outlook.words("fc7.logreg", 1000, sampled, 384)
    assert f"{gain:+.1f} points; more than the ±1.0 points of sampling error on 384 validation" in words
    unsure = outlook.words("fc7.logreg", 1000, Interval(0.9, 0.8, 0.95), 30)
    assert "too few images to tell: that is within about ±7.5 points" in unsure


def test_nothing_to_extrapolate_from() -> None:
    perfect = Outlook.of([10, 20, 40], [[0.9, 0.9], [0.95, 0.95], [1.0, 1.0]], 50)
    assert perfect.doubled is None
    assert "No error is left" in perfect.words("x", 40, Interval(1, 0.93, 1), 50)
    assert Outlook.of([10, 20], [[0.8, 0.8], [0.9, 0.9]], 50).doubled is None
    assert Outlook.of([10], [[0.8, 0.8]], 50).gained is None


OVERRIDES = ["extract.layers=[conv1_1:avg]", "heads.rbf-svm=null", "heads.mlp=null", "heads.linear-svm=null"]


@pytest.fixture
def extracted(prepared: Project) -> Project:
    project = Project.open(prepared.root, OVERRIDES)
    extract(project, project.layers)
    return project


def test_command_measures_without_test_rows(
    extracted: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []
    read = FeatureStore.rows

    def watched(self: FeatureStore, positions: Any, view: int | None = None) -> Any:
        asked.extend(positions)
        return read(self, positions, view)

    monkeypatch.setattr(FeatureStore, "rows", watched)
    curve(extracted, draws=3)
    manifest = extracted.read_manifest()
    assert set(asked) == {*manifest.where("train"), *manifest.where("validation")}
    record = json.loads((extracted.studies / "curve.json").read_text("utf-8"))
    assert record["manifest"] == manifest.digest
    assert set(record["features"]) == {"conv1_1:avg", "pixels"}
    assert record["weights"] == {"conv1_1:avg": "random", "pixels": "none"}
    assert record["train_images"][-1] == len(manifest.where("train"))
    assert [each["method"] for each in record["curves"]] == [
        "conv1_1:avg.logreg", "conv1_1:avg.knn", "pixels.logreg", "pixels.knn", "majority",
    ]  # fmt: skip
    for each in record["curves"]:
        assert np.shape(each["accuracy"]) == (len(record["images_per_class"]), 3)
        assert len(set(each["accuracy"][-1])) == 1
        np.testing.assert_allclose(each["mean"], np.mean(each["accuracy"], axis=1))
        assert each["all_images"]["low"] <= each["mean"][-1] <= each["all_images"]["high"]
    validation = manifest.labels[manifest.where("validation")]
    most = np.bincount(manifest.labels[manifest.where("train")]).argmax()
    assert record["curves"][-1]["mean"][-1] == pytest.approx((validation == most).mean())
    svg = ET.parse(extracted.studies / "curve.svg").getroot()
    texts = {text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"conv1_1:avg (random weights)", "pixels (no network)", "logreg", "knn"} <= texts
    shown = capsys.readouterr().out
    assert "What would twice the images buy?" in shown
    assert f"{len(validation)} validation images" in shown
    # Again, one head on one layer: the same subsets, and so the same numbers
    curve(extracted, ["knn"], ["pixels"], draws=3)
    again = json.loads((extracted.studies / "curve.json").read_text("utf-8"))
    assert [each["accuracy"] for each in again["curves"]] == [record["curves"][3]["accuracy"]]


def test_refuses_what_there_is_not(extracted: Project, cli: Cli) -> None:
    for arguments, said in (
        ({"seed": -1}, "--seed should be from 0"),
        ({"heads": ["logrge"]}, "there is no 'logrge'"),
        ({"heads": ["mlp"]}, "there is no 'mlp' in heads:"),
        ({"layers": ["fc77"]}, "did you mean 'fc7'"),
        ({"layers": ["pool4"]}, "run `extract` first"),
    ):
        with pytest.raises(BadInput, match=said):
            curve(extracted, **arguments)
    small = Project.open(extracted.root, [*OVERRIDES, "tuning.memory_gb=1e-6"])
    with pytest.raises(BadInput, match=r"more than tuning\.memory_gb = 1e-06"):
        curve(small)
    done = cli("curve", "--draws", 1, "--project", extracted.root, code=2)
    assert "--draws should be at least 2" in refusal(done)
    assert not (extracted.studies / "curve.json").exists()
