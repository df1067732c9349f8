import csv
import html.parser
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image
from sklearn.decomposition import PCA

from features.manifest import Manifest, Row
from features.publish import publish
from features.store import FeatureStore
from pipeline.heads.inference import to_unit_length
from pipeline.inspection import embedding, reduction
from pipeline.inspection.inspection import Inspection, inspection, store_for
from pipeline.inspection.neighbours import examples, mixture
from pipeline.inspection.reduction import Reduction, reduce, sample
from pipeline.inspection.search import neighbours
from pipeline.inspection.suspects import Vote, trial, votes
from pipeline.inspection.thumbnails import Thumbnails
from pipeline.project import Project
from pipeline.records.comparison import Line
from pipeline.records.predictions import Predictions
from tests.conftest import make_project, note_predictions

HOSTILE = ("<img src=x onerror=alert(1)>", "裙子 \"'&</script>", "قميص")


def head(method: str, top1: float = 0.9, weights: str = "imagenet") -> Line:
    """A line of the comparison, of which only what chooses a head is filled in."""
    nothing: dict[str, Any] = dict.fromkeys(Line.__dataclass_fields__)
    known = {"method": method, "validation_score": top1, "trainable_parameters": 1, "weights": weights}
    return Line(**nothing | known)


class Set:
    """A project whose features are given: images that exist by their digests only, in path order."""

    def __init__(
        self, folder: Path, labels: Sequence[str], splits: Sequence[str], groups: Sequence[str] | None = None
    ) -> None:
        self.project = Project.open(
            make_project(folder, ["dataset.name=folder", f"dataset.root={folder / 'images'}"])
        )
        groups = groups or [""] * len(labels)
        rows = [
            Row(f"{i:06}.png", f"{i:06}.png", label, split, sha256(str(i).encode()).hexdigest(), 9, 9, group)
            for i, (label, split, group) in enumerate(zip(labels, splits, groups, strict=True))
        ]
        self.manifest = Manifest(tuple(rows))

    def store(self, layer: str, X: np.ndarray) -> FeatureStore:
        target = self.project.features / f"{layer}.zarr"
        publish(
            target,
            scratch=self.project.artifacts,
            manifest=self.manifest,
            rows=lambda start, stop: X[start:stop].astype(np.float16),
            shape=X.shape[1:],
            dtype="float16",
            attributes={
                "parameters": self.project.parameters(), "manifest": self.manifest.digest, "fingerprint": "x",
            },
        )  # fmt: skip
        return FeatureStore.open(target)

    def inspect(self, lines: Sequence[Line] = ()) -> Inspection | None:
        return inspection(self.project, lines, Thumbnails(self.project, self.manifest))


def clusters(n: int, classes: int, seed: int = 0, width: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Separable features as a ReLU leaves them, (n, width), and class numbers."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    centres = rng.normal(0, 1.5, (classes, width))
    return np.maximum(centres[y] + rng.normal(0, 1, (n, width)), 0).astype(np.float32), y


def splits_of(n: int, seed: int = 0) -> list[str]:
    names = np.array(["train", "validation", "test"])
    return names[np.random.default_rng(seed).choice(3, n, p=[0.6, 0.2, 0.2])].tolist()


def test_neighbours_are_the_nearest_of_other_groups():
    rng = np.random.default_rng(0)
    unit = to_unit_length(rng.normal(size=(700, 12)).astype(np.float32))  # more than a block
    groups = rng.integers(0, 300, 700)
    found, similarity = neighbours(unit, groups, 5)
    for row in range(0, 700, 61):
        others = np.flatnonzero(groups != groups[row])
        order = others[np.argsort(-(unit[others] @ unit[row]), kind="stable")][:5]
        assert found[row].tolist() == order.tolist()
        np.testing.assert_allclose(similarity[row], unit[order] @ unit[row], rtol=1e-5)


def test_where_a_group_leaves_too_few_none_is_invented():
    unit = np.eye(4, dtype=np.float32)
    similarity = neighbours(unit, np.array([0, 0, 0, 1]), 3)[1]
    assert np.isfinite(similarity).sum(axis=1).tolist() == [1, 1, 1, 3]


def test_similarities_are_those_of_a_pca(tmp_path: Path):
    X, y = clusters(300, 3)
    some = Set(tmp_path / "p", [str(k) for k in y], splits_of(300))
    reduced = reduce(some.store("fc7", X), some.manifest, "fc7")
    stored = X.astype(np.float16).astype(np.float64)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    model = PCA().fit(stored)
    expected = model.transform(stored)
    np.testing.assert_allclose(np.abs(reduced.coordinates[:, :5]), np.abs(expected[:, :5]), atol=2e-3)
    np.testing.assert_allclose(reduced.variance[:5], model.explained_variance_ratio_[:5], rtol=1e-2)
    cosines = expected @ expected.T
    lengths = np.sqrt(np.diag(cosines))
    np.testing.assert_allclose(reduced.unit @ reduced.unit.T, cosines / np.outer(lengths, lengths), atol=6e-3)


@pytest.mark.parametrize("stored", [1 << 30, 4_000_000])
def test_a_sample_is_drawn_from_every_split_and_read_in_whole_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: int
):
    X, y = clusters(6000, 4, width=400)  # chunks of 1,311 rows; 4.8 MB
    some = Set(tmp_path / "p", [str(k) for k in y], splits_of(6000))
    store = some.store("fc7", X)
    monkeypatch.setattr(reduction, "ROWS", 1000)
    monkeypatch.setattr(reduction, "STORED", stored)
    rows = sample(store, some.manifest)
    assert len(rows) == pytest.approx(1000, abs=2)
    assert (np.diff(rows) > 0).all()
    shares = np.bincount(some.manifest.splits[rows]) / len(rows)
    np.testing.assert_allclose(shares, np.bincount(some.manifest.splits) / 6000, atol=0.03)
    assert len(np.unique(rows // store.features.chunks[0])) == (5 if stored == 1 << 30 else 3)
    assert rows.tolist() == sample(store, some.manifest).tolist()
    assert f"{len(rows):,} of the 6,000 images" in reduce(store, some.manifest, "fc7").words


def test_of_several_views_the_first_is_looked_at(tmp_path: Path):
    X, y = clusters(80, 2)
    views = np.stack([X, X[::-1]], axis=1)
    some = Set(tmp_path / "p", [str(k) for k in y], splits_of(80))
    reduced = reduce(some.store("pool5", views), some.manifest, "pool5")
    alone = reduce(some.store("fc7", X), some.manifest, "fc7")
    np.testing.assert_array_equal(reduced.coordinates, alone.coordinates)


def test_votes_are_weighted_by_similarity():
    found = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    similarity = np.array([[0.9, 0.8, 0.8]] * 3 + [[0.5, -np.inf, -np.inf]], np.float32)
    labels = np.array([0, 1, 1, 2])
    vote = votes(found, similarity, labels)
    weights = np.exp([0, -1, -1])
    weights /= weights.sum()
    np.testing.assert_allclose(vote.other[:3], [weights[:2].sum(), weights[0], weights[0]], rtol=1e-5)
    np.testing.assert_allclose(vote.given[:3], [0, weights[1], weights[1]], rtol=1e-5)
    assert vote.says[:2].tolist() == [1, 0]
    assert (vote.other[3], vote.given[3], vote.says[3]) == (1, 0, 0)  # its only neighbour decides
    assert not vote.judged.any()  # of classes with one or two images nothing is known


def test_most_planted_labels_are_found_and_few_clean_ones_named():
    X, y = clusters(2000, 8)
    unit = to_unit_length(X - X.mean(axis=0))
    found, similarity = neighbours(unit, np.arange(2000), 20)
    assert len(votes(found, similarity, y).suspects) <= 2
    rng = np.random.default_rng(5)
    planted = rng.choice(2000, 100, replace=False)
    changed = y.copy()
    changed[planted] = (y[planted] + rng.integers(1, 8, 100)) % 8
    vote = votes(found, similarity, changed)
    suspects = vote.suspects
    assert np.isin(planted, suspects).mean() > 0.9
    assert np.isin(suspects, planted).mean() > 0.97
    assert np.isin(suspects[:30], planted).all()
    right = np.intersect1d(suspects, planted)
    assert (vote.says[right] == y[right]).mean() > 0.97
    tried = trial(found, similarity, y)
    assert tried is not None
    assert 80 <= tried.planted <= 100
    assert tried.found / tried.planted > 0.9
    assert tried.among_first == tried.first == 30


def test_labels_without_meaning_are_not_suspected():
    X, _ = clusters(1000, 5)
    found, similarity = neighbours(to_unit_length(X), np.arange(1000), 20)
    y = np.random.default_rng(1).integers(0, 5, 1000)
    assert len(votes(found, similarity, y).suspects) <= 3


def test_suspects_stand_in_the_order_of_their_margin():
    vote = Vote(
        given=np.array([0.1, 0.0, 0.05, 0.5, 0.0], np.float32),
        other=np.array([0.85, 0.9, 1.0, 0.5, 1.0], np.float32),
        says=np.zeros(5, int),
        judged=np.array([True, True, True, True, False]),
    )
    assert vote.suspects.tolist() == [2, 1, 0]


def photographs(n: int, seed: int = 0) -> np.ndarray:
    """Smooth random pictures, (n, 32, 32, 3) in 0 … 1."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (n, 6, 6, 3), np.uint8)
    large = [np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BICUBIC)) for one in small]
    return np.stack(large).astype(np.float32) / 255


class WithCopies(Set):
    """300 images; rows 280 … 299 are test images, of these 280 … 289 show train images 0 … 9 again."""

    def __init__(self, folder: Path) -> None:
        X, y = clusters(300, 3)
        rng = np.random.default_rng(3)
        pixels = photographs(300)
        X[280:300] = np.maximum(
            X[:20] + rng.normal(0, 0.03, (20, X.shape[1])), 0
        )  # all look alike to the network
        y[280:300] = y[:20]
        pixels[280:290] = np.clip(pixels[:10] * 0.9 + rng.normal(0, 0.01, (10, 32, 32, 3)), 0, 1)
        pixels[285:290] = pixels[285:290, :, ::-1]
        names = [HOSTILE[k] for k in y]
        super().__init__(folder, names, ["train"] * 260 + ["validation"] * 20 + ["test"] * 20)
        self.store("fc7", X)
        self.store("pixels", pixels.reshape(300, -1))

    def predict(self) -> None:
        """Answers that are right for the copies and for 5 of the other 10 test images."""
        test = self.manifest.where("test")
        proba = np.full((20, 3), 0.1, np.float32)
        proba[np.arange(20), self.manifest.labels[test]] = 0.8
        proba[15:] = np.roll(proba[15:], 1, axis=1)
        self.project.predictions.mkdir(parents=True)
        file = self.project.predictions_file("fc7.logreg")
        Predictions.of(self.manifest, "test", proba).write(file)
        note_predictions(self.project, "fc7.logreg")


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WithCopies:
    monkeypatch.setattr(embedding, "UMAP_IMAGES", (10**6, 10**6))  # compiled for 6 s
    made = WithCopies(tmp_path / "project")
    made.predict()
    return made


def test_pairs_are_alike_to_the_network_and_pixel_by_pixel(copies: WithCopies):
    found = copies.inspect([head("fc7.logreg")])
    assert found is not None
    assert found.duplicates is not None
    pairs = {(pair.row, pair.train) for pair in found.duplicates.pairs}
    assert pairs == {(280 + k, k) for k in range(10)}  # not 290 … 299: alike by their features only
    assert found.duplicates.compared >= 20
    assert found.accuracy == (0.75, 0.5)
    with (copies.project.report.parent / "duplicates.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert {(line["path"], line["train_path"]) for line in table} == {
        (f"{a:06}.png", f"{b:06}.png") for a, b in pairs
    }


def test_without_copies_there_are_no_pairs(tmp_path: Path):
    X, y = clusters(150, 3)
    some = Set(tmp_path / "p", [str(k) for k in y], splits_of(150))
    some.store("fc7", X)
    some.store("pixels", photographs(150).reshape(150, -1))
    found = some.inspect()
    assert found is not None
    assert found.duplicates is not None
    assert found.duplicates.pairs == ()
    assert found.accuracy is None


def test_without_pixels_and_images_nothing_is_said_of_pairs(tmp_path: Path):
    X, y = clusters(150, 3)
    some = Set(tmp_path / "p", [str(k) for k in y], splits_of(150))
    some.store("fc7", X)
    found = some.inspect()
    assert found is not None
    assert found.duplicates is None
    assert found.thumbnails.missing > 0
    assert "nothing is said of near-duplicates" in page(found)


def test_suspects_never_hear_their_own_group(tmp_path: Path):
    X, y = clusters(180, 2)
    X[:8] = X[y == 1][0] + np.random.default_rng(0).normal(0, 0.01, (8, 40))  # a burst, labelled wrongly
    labels = [str(k) for k in y]
    labels[:8] = ["0"] * 8
    groups = ["burst"] * 8 + [""] * 172
    named = {}
    for name, given in (("with", groups), ("without", None)):
        some = Set(tmp_path / name, labels, ["train"] * 150 + ["validation"] * 15 + ["test"] * 15, given)
        some.store("fc7", X)
        found = some.inspect()
        assert found is not None
        named[name] = {suspect.row for suspect in found.suspects}
    assert named["with"] >= set(range(8))
    assert not named["without"] & set(range(8))


def test_examples_show_wrong_answers_first_and_the_nearest_train_images(copies: WithCopies):
    found = copies.inspect([head("fc7.logreg")])
    assert found is not None
    assert found.heard is not None
    assert found.wrong == 5
    assert len(found.examples) == 12
    assert {example.row for example in found.examples[:5]} == set(range(295, 300))
    for example in found.examples:
        assert example.nearest[0][0] == example.row - 280
        assert copies.manifest.splits[[row for row, _ in example.nearest]].tolist() == [0] * 5
        similarities = [similarity for _, similarity in example.nearest]
        assert similarities == sorted(similarities, reverse=True)


def test_mixture_counts_neighbours():
    found = np.array([[1, 2], [0, 2], [0, 1]])
    mixed = mixture(found, np.zeros((3, 2), np.float32), np.array([0, 0, 1]), ["a", "b"])
    assert mixed.own == pytest.approx(2 / 6)
    assert mixed.pairs == [("b", "a", 1.0), ("a", "b", 0.5)]


@pytest.mark.parametrize("classes", [2, 10, 11, 40])
def test_a_legend_of_at_most_ten_colours(tmp_path: Path, classes: int):
    y = clusters(400, classes)[1]
    some = Set(tmp_path / "p", [f"c{k:02}" for k in y], splits_of(400))
    drawn = embedding.Map(np.arange(400), ())
    names, colours = drawn.legend(some.manifest)
    assert len(names) == (classes if classes <= 10 else 9)
    for row, colour in enumerate(colours):
        label = some.manifest.rows[row].label
        assert names[colour] == label if colour < len(names) else label not in names
    if classes > 10:
        counts = np.bincount(colours)[:9]
        rest = np.bincount(y)[[int(f"c{k:02}" not in names) == 1 for k in range(classes)]]
        assert counts.min() >= rest.max()


@pytest.mark.slow
def test_umap_keeps_clusters_apart_and_repeats(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("umap")
    X, y = clusters(300, 3)
    centred = X - X.mean(axis=0)
    reduced = Reduction("fc7", np.arange(300), centred, np.full(40, 1 / 40), 300)
    first, again = (embedding.draw(reduced).layouts[1] for _ in range(2))
    np.testing.assert_array_equal(first.places, again.places)
    centres = np.stack([first.places[y == k].mean(axis=0) for k in range(3)])
    distance = np.linalg.norm(first.places[:, None] - centres, axis=2)
    assert (distance.argmin(axis=1) == y).mean() > 0.98


def test_the_store_is_that_of_the_best_head(tmp_path: Path):
    X, y = clusters(60, 2)
    some = Set(tmp_path / "p", [str(k) for k in y], splits_of(60))
    assert some.inspect() is None  # there is none
    some.store("pixels", X)
    lines = [
        head("pixels.knn", 0.99, "none"),
        head("fc7.knn", 0.7),
        head("pool5.svm", 0.8),
        head("ensemble", 0.9),
    ]
    assert store_for(some.project, lines, some.manifest)[0] == "pixels"
    some.store("fc7", X)
    some.store("pool5", X)
    assert store_for(some.project, lines, some.manifest)[0] == "pool5"
    assert store_for(some.project, lines[:2], some.manifest)[0] == "fc7"


def test_features_that_are_all_equal_show_nothing(tmp_path: Path):
    some = Set(tmp_path / "p", ["a", "b"] * 40, splits_of(80))
    some.store("fc7", np.ones((80, 12)))
    assert some.inspect() is None


@pytest.mark.parametrize(("images", "classes"), [(30, 2), (1500, 500)])
def test_few_images_and_many_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int, classes: int
):
    monkeypatch.setattr(embedding, "UMAP_IMAGES", (10**6, 10**6))
    X, y = clusters(images, classes)
    some = Set(tmp_path / "p", [f"c{k:03}" for k in y], splits_of(images))
    some.store("fc7", X)
    some.store("pixels", photographs(images).reshape(images, -1))
    found = some.inspect()
    assert found is not None
    assert found.suspects == []
    points = json.loads(Reader(page(found)).script)
    assert points["others"] == (classes > 10)
    assert len(points["row"]) == min(images, 1000)


def test_images_of_one_group_are_not_compared(tmp_path: Path):
    X, y = clusters(60, 2)
    some = Set(tmp_path / "p", [str(k) for k in y], ["train"] * 60, ["one"] * 60)
    some.store("fc7", X)
    found = some.inspect()
    assert found is not None
    assert (found.suspects, found.duplicates, found.mixture.own) == ([], None, 0)
    assert "nothing is said" in page(found)


class Reader(html.parser.HTMLParser):
    """Collects elements' names with their attributes, and the text in `bdi`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.isolated: list[str] = []
        self.script = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1]
        if tag == "bdi":
            self.isolated.append(data)
        if tag == "script" and attributes.get("id") == "map-points":
            self.script += data


def page(found: Inspection) -> str:
    environment = Environment(
        loader=PackageLoader("pipeline.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("inspection.html").render(content=found)


def test_the_page_takes_no_name_for_markup(copies: WithCopies):
    found = copies.inspect([head("fc7.logreg")])
    assert found is not None
    read = Reader(page(found))
    images = [attributes for tag, attributes in read.elements if tag == "img"]
    assert images
    assert all(set(attributes) == {"data-row", "alt"} for attributes in images)
    assert sum(tag == "script" for tag, _ in read.elements) == 2
    assert set(HOSTILE) <= {text.strip() for text in read.isolated}
    points = json.loads(read.script)
    assert points["classes"] == sorted(HOSTILE)
    assert points["label"] == [copies.manifest.rows[row].label for row in points["row"]]
    assert {len(points[name]) for name in ("colour", "label", "split", "path", "row")} == {300}
    places = np.array(points["layouts"][0]["places"])
    assert places.shape == (300, 2)
    assert places.min() == 0
    assert places.max() == 1000


def test_the_same_features_give_the_same_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedding, "UMAP_IMAGES", (10**6, 10**6))
    pages = []
    for name in "ab":
        some = WithCopies(tmp_path / name)
        found = some.inspect()
        assert found is not None
        tables = [path.read_bytes() for path in sorted(some.project.report.parent.glob("*.csv"))]
        pages.append((page(found), tables))
    assert pages[0] == pages[1]
    assert len(pages[0][1]) == 2


def test_examples_need_train_and_test_images():
    reduced = Reduction("fc7", np.arange(3), np.eye(3, dtype=np.float32), np.ones(3) / 3, 3)
    rows = tuple(Row(str(i), str(i), "ab"[i % 2], "train", f"{i:064x}", 9, 9) for i in range(3))
    assert examples(reduced, Manifest(rows), None) == []
