"""New images through trained methods: the same answers as in the comparison, and what cannot be answered."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler, normalize

from cli import main
from features.engines.choice import TOLERANCE, Choice
from features.engines.create import create
from features.errors import BadInput
from features.images import Preprocessing
from features.network import Size, parse_layer
from features.store import FeatureStore
from features.weights import Weights
from pipeline.datasets.catalogue import source
from pipeline.heads import HEADS
from pipeline.heads.classifier import Classifier
from pipeline.heads.inference import open_head
from pipeline.heads.normalisation import Normalisation
from pipeline.predict.neighbours import Neighbour
from pipeline.predict.opening import trained
from pipeline.predict.predict import WRITERS
from pipeline.predict.predictor import Prediction, Predictor
from pipeline.project import Project, read_json
from pipeline.records.comparison import best_head, read_lines
from pipeline.records.predictions import Predictions
from pipeline.stores.extract import extract
from pipeline.tuning.train import train
from tests.conftest import QUICK, REPOSITORY, Cli, make_project, ready
from tests.pipeline.conftest import NASTY
from tests.pipeline.heads.test_heads import GRIDS

HEAD = "pool5.logreg"
CLOSE = 1e-5  # float32 products, added up in another order


def images_of(project: Project) -> list[Path]:
    manifest = project.read_manifest()
    return [project.dataset_root / manifest.rows[number].path for number in manifest.where("test")]


def reference(project: Project, method: str) -> np.ndarray:
    return Predictions.read(project.predictions / f"{method.replace(':', '-')}.npz").proba


@pytest.fixture
def without_stores(finished: Project, tmp_path: Path) -> Project:
    """The finished project as it may be handed on: no stores, no manifest."""
    folder = tmp_path / "handed on"
    shutil.copytree(finished.root, folder, copy_function=os.link)
    shutil.rmtree(folder / "artifacts" / "features")
    (folder / "artifacts" / "manifest.csv").unlink()
    return Project.open(folder)


def test_every_method_says_of_the_test_images_what_the_comparison_has(
    finished: Project, without_stores: Project
) -> None:
    images = images_of(finished)
    methods = [*trained(finished), "ensemble"]
    assert len(methods) == 3 * 5 + 3  # five heads on three layers, majority, finetune.full, ensemble
    for method in methods:
        predictor = Predictor(without_stores, method)
        np.testing.assert_allclose(
            predictor.predict_proba(images), reference(finished, method), atol=CLOSE, err_msg=method
        )
        assert predictor.classes == NASTY


@pytest.mark.parametrize("views", ["flip", "crops:3"])
def test_probabilities_are_averaged_over_the_views_of_training(prepared: Project, views: str) -> None:
    settings = ["extract.layers=[conv2_1:avg]", f"extract.views={views}", "extract.pixels=false"]
    project = Project.open(prepared.root, settings)
    extract(project, project.layers)
    train(project, "logreg")
    found = Predictor(project, "conv2_1:avg.logreg").predict_proba(images_of(project))
    expected = Predictions.read(project.head_folder("logreg") / "conv2_1-avg.logreg" / "predictions.npz")
    np.testing.assert_allclose(found, expected.proba, atol=CLOSE)


def test_arrays_of_a_set_that_comes_as_arrays_are_resized_directly(
    tmp_path: Path, vgg11_weights: Path
) -> None:
    settings = [*QUICK, "dataset.at_most=[150,50,50]", "extract.layers=[conv2_1:max]", "extract.pixels=false"]
    project = ready(make_project(tmp_path / "digits", settings), vgg11_weights)
    extract(project, project.layers)
    train(project, "logreg")
    manifest, images = project.read_manifest(), source("digits", project.dataset_root)
    arrays = [np.asarray(images.image(row.path, row.sha256)) for row in manifest.rows if row.split == "test"]
    grey = [array[:, :, 0] for array in arrays]
    expected = Predictions.read(project.head_folder("logreg") / "conv2_1-max.logreg" / "predictions.npz")
    predictor = Predictor(project, "conv2_1:max.logreg")
    for given in (arrays, grey, [Image.fromarray(array) for array in arrays]):
        np.testing.assert_allclose(predictor.predict_proba(given), expected.proba, atol=CLOSE)


@pytest.mark.parametrize("kind", ["none", "l2", "standard"])
@pytest.mark.parametrize("name", ["logreg", "linear-svm", "mlp", "majority", "rbf-svm", "knn"])
def test_a_saved_head_applied_is_the_estimator(tmp_path: Path, name: str, kind: str) -> None:
    X, y = load_digits(n_class=3, return_X_y=True)
    X = (X / 16).astype(np.float32)
    head = next(head for _, head in HEADS[name].path(X[:150], y[:150], GRIDS[name]))
    classifier = Classifier(Normalisation(kind).fit(X), head, 0.7, tuple("abc"))
    classifier.save(tmp_path, {})
    applied = open_head(tmp_path)
    X[200] = 0  # of length zero
    for rows in (X[180:220], X[180:220].reshape(10, 4, 64)):  # and in four views
        np.testing.assert_allclose(applied.predict_proba(rows), classifier.predict_proba(rows), atol=1e-6)
        np.testing.assert_allclose(applied.normalisation(rows), classifier.normalisation(rows), atol=1e-6)


@pytest.mark.parametrize("size", [(32, 64), (224, 224), (256, 288)])  # fewer than 7 × 7, as many, more
def test_an_engine_without_torch_is_the_engine_within_its_tolerance(vgg11_weights: Path, size: Size) -> None:
    weights, choice = Weights.open(vgg11_weights), Choice("winograd", "cpu", "fp32", "")
    layers = [
        parse_layer(name, "vgg11") for name in ("conv3_1:pre:avg", "pool5:max", "pool5", "fc6:pre", "fc7")
    ]
    preprocessing = Preprocessing(size, True, *weights.normalisation)
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    expected = create(choice, layers, weights, preprocessing).run(images)
    found = create(choice, layers, weights, preprocessing, light=True).run(images)
    for layer in layers:
        largest = float(np.abs(expected[layer.name]).max())
        np.testing.assert_allclose(
            found[layer.name], expected[layer.name], atol=TOLERANCE["winograd-fp32"] * largest
        )


def test_one_image_needs_neither_torch_nor_scikit_learn(finished: Project) -> None:
    code = """
import sys
from pipeline.predict.neighbours import Neighbour
from pipeline.predict.predict import WRITERS
from pipeline.predict.predictor import Prediction, Predictor
Predictor(sys.argv[1], "pool5.logreg").predict([sys.argv[2]])
print([name for name in ("torch", "sklearn") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, finished.root, images_of(finished)[0]],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.strip() == "[]", done.stderr


def test_a_damaged_head_is_refused(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text('{"schema": 1, "head": "logreg"}')
    with pytest.raises(BadInput, match="holds no saved head"):
        open_head(tmp_path)


def test_the_method_that_validation_rows_choose_is_the_default(finished: Project) -> None:
    best = best_head(read_lines(finished)[0])
    assert best is not None
    assert Predictor(finished).method.name == best.method


def test_images_as_files_pillow_images_and_arrays_are_the_same(finished: Project) -> None:
    paths = images_of(finished)
    opened = [Image.open(path) for path in paths]
    arrays = [np.asarray(image) for image in opened]
    predictor = Predictor(finished, HEAD)
    expected = predictor.predict_proba(paths)
    for given in (opened, arrays, list(map(str, paths))):
        np.testing.assert_array_equal(predictor.predict_proba(given), expected)


def test_an_image_that_lies_on_its_side_is_turned_by_its_exif(finished: Project, tmp_path: Path) -> None:
    upright = Image.open(images_of(finished)[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    predictor = Predictor(finished, HEAD)
    expected = predictor.predict_proba([upright])
    for given in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        np.testing.assert_array_equal(predictor.predict_proba([given]), expected)


def test_what_cannot_be_read_is_a_prediction_with_a_reason(finished: Project, tmp_path: Path) -> None:
    good, text, empty = images_of(finished)[0], tmp_path / "text.jpg", tmp_path / "empty.jpg"
    text.write_text("no image")
    empty.touch()
    answers = Predictor(finished, HEAD).predict([text, good, tmp_path / "gone.jpg", empty, tmp_path, good])
    assert [answer.label is None for answer in answers] == [True, False, True, True, True, False]
    for answer, reason in zip(
        answers, ["not an image", "", "No such file", "empty", "a folder", ""], strict=True
    ):
        assert reason in answer.problem
        assert (answer.proba is None) == bool(answer.problem)
    assert answers[1].proba == pytest.approx(answers[5].proba, abs=CLOSE)
    with pytest.raises(BadInput, match=r"text\.jpg.*not an image"):
        Predictor(finished, HEAD).predict_proba([good, text])


def test_below_the_threshold_there_is_no_label_but_a_reason(finished: Project) -> None:
    images = images_of(finished)
    proba = reference(finished, HEAD)
    threshold = float(np.mean(proba.max(axis=1)))  # some are above it, some below
    for answer, own in zip(
        Predictor(finished, HEAD, threshold=threshold).predict(images), proba, strict=True
    ):
        assert (answer.label is None) == (own.max() < threshold)
        assert ("abstained" in answer.problem) == (answer.label is None)
        assert answer.top(1)[0][0] == NASTY[own.argmax()]


def test_a_stream_is_answered_before_the_next_image_comes(finished: Project) -> None:
    first, second, *_ = images_of(finished)
    answered = Event()

    def images() -> Iterator[Path]:
        yield first
        assert answered.wait(60), "the first image had no answer"
        yield second

    stream = Predictor(finished, HEAD).stream(images())
    assert next(stream).image == str(first)
    answered.set()
    assert [answer.image for answer in stream] == [str(second)]


def test_an_error_of_the_stream_reaches_the_caller(finished: Project) -> None:
    def images() -> Iterator[Path]:
        yield images_of(finished)[0]
        raise ConnectionError("the camera is gone")

    stream = Predictor(finished, HEAD).stream(images())
    assert next(stream).label
    with pytest.raises(ConnectionError, match="camera"):
        next(stream)


def test_neighbours_are_the_nearest_train_images_in_the_heads_own_features(finished: Project) -> None:
    predictor = Predictor(finished, HEAD, neighbours=3)
    store = FeatureStore("pool5", finished.root).fit()
    train_rows, test_rows = store.where("train"), store.where("test")
    X, T = store.rows(train_rows), store.rows(test_rows)
    kind = read_json(trained(finished)[HEAD] / "card.json")["normalisation"]
    if kind == "standard":
        scaler = StandardScaler().fit(X)
        X, T = scaler.transform(X), scaler.transform(T)
    elif kind == "l2":
        X, T = normalize(X), normalize(T)
    similarity = 1 - cdist(T, X, "cosine")
    manifest = finished.read_manifest()
    for answer, own in zip(predictor.predict(images_of(finished)), similarity, strict=True):
        nearest = np.argsort(-own)[:3]
        assert [one.path for one in answer.neighbours] == [manifest.rows[train_rows[n]].path for n in nearest]
        assert [one.label for one in answer.neighbours] == [
            manifest.rows[train_rows[n]].label for n in nearest
        ]
        np.testing.assert_allclose([one.similarity for one in answer.neighbours], own[nearest], atol=1e-4)


@pytest.mark.parametrize("method", ["ensemble", "finetune.full", "majority"])
def test_neighbours_need_a_head_on_one_layer(finished: Project, method: str) -> None:
    with pytest.raises(BadInput, match=f"head on one layer, which {method} is not"):
        Predictor(finished, method, neighbours=1)


def test_neighbours_need_the_store(finished: Project, without_stores: Project) -> None:
    shutil.copy(finished.manifest, without_stores.manifest)
    with pytest.raises(BadInput, match="run `extract` first"):
        Predictor(without_stores, HEAD, neighbours=1)


@pytest.mark.parametrize(
    ("setting", "method"),
    [
        ("extract.image_size=64", HEAD),
        ("extract.image_size=64", "finetune.full"),
        ("extract.dtype=float32", HEAD),
        ("extract.views=flip", "ensemble"),
    ],
)
def test_other_features_than_in_training_are_refused(finished: Project, setting: str, method: str) -> None:
    with pytest.raises(BadInput, match=f"{method} was trained on"):
        Predictor(Project.open(finished.root, [setting]), method)


def test_a_method_that_is_not_trained_is_refused_with_the_nearest(finished: Project) -> None:
    with pytest.raises(BadInput, match=r"no trained method 'pool5\.logrek'; did you mean 'pool5\.logreg'"):
        Predictor(finished, "pool5.logrek")


def test_nothing_is_chosen_before_the_comparison(without_stores: Project) -> None:
    without_stores.comparison.unlink()
    with pytest.raises(BadInput, match=r"run `python cli\.py compare` first"):
        Predictor(without_stores)
    with pytest.raises(BadInput, match="there is no ensemble"):
        Predictor(without_stores, "ensemble")


def test_features_of_other_numerics_are_answered_and_said(prepared: Project) -> None:
    settings = ["extract.layers=[conv2_1:avg]", "extract.pixels=false"]
    torch_project = Project.open(prepared.root, [*settings, "extract.engine=torch"])
    extract(torch_project, torch_project.layers)
    train(torch_project, "logreg")
    here = Predictor(
        Project.open(prepared.root, [*settings, "extract.engine=winograd"]), "conv2_1:avg.logreg"
    )
    assert "torch-fp32" in here.method.note
    images = images_of(prepared)
    expected = Predictions.read(prepared.head_folder("logreg") / "conv2_1-avg.logreg" / "predictions.npz")
    np.testing.assert_allclose(here.predict_proba(images), expected.proba, atol=1e-3)


def answers(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_command_lists_folders_and_patterns_in_order(finished: Project, cli: Cli, tmp_path: Path) -> None:
    images = images_of(finished)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name, path in zip(
        ("in/b.png", "in/deep/a.PNG", "in/.hidden.png", "x1.png", "x2.png"), images, strict=False
    ):
        shutil.copy(path, tmp_path / name)
    (tmp_path / "in" / "notes.txt").write_text("not an image, and not asked for")
    options = (
        "--project",
        finished.root,
        "--method",
        HEAD,
        "--format",
        "json",
        "--top",
        2,
        "--neighbours",
        1,
    )
    (tmp_path / "empty").mkdir()
    done = cli("predict", "in", "x?.png", "gone.jpg", "y?.png", "empty", *options)
    found = answers(done.stdout)
    hidden = found.pop(0)
    assert (hidden["image"], hidden["problem"]) == ("in/.hidden.png", "a hidden file")
    assert [one["image"] for one in found] == [
        "in/b.png", "in/deep/a.PNG", "x1.png", "x2.png", "gone.jpg", "y?.png", "empty"
    ]  # fmt: skip
    expected = Predictor(finished, HEAD).predict([images[0], images[1], images[3], images[4]])
    for one, own in zip(found, expected, strict=False):
        assert one["label"] == own.label
        assert [pair["label"] for pair in one["top"]] == [name for name, _ in own.top(2)]  # type: ignore[attr-defined]
        assert one["probability"] == pytest.approx(own.probability)
        assert one["neighbours"][0]["label"] in NASTY  # type: ignore[index]
    assert found[4]["label"] is None
    assert "No such file" in str(found[4]["problem"])
    assert "No such file" in str(found[5]["problem"])
    assert found[6]["problem"] == "a folder, from which no image was taken"
    assert "4 of 8 images could not be read" in done.stderr
    assert "pool5.logreg (random), test top-1" in done.stderr


def test_what_a_folder_holds_and_is_passed_over_has_a_row(
    finished: Project, cli: Cli, tmp_path: Path
) -> None:
    images = images_of(finished)
    (tmp_path / "in" / "@eaDir").mkdir(parents=True)
    (tmp_path / "away").mkdir()
    for name in ("in/a.png", "in/@eaDir/thumb.png", "in/b.png?w=200", "away/c.png"):
        shutil.copy(images[0], tmp_path / name)
    (tmp_path / "in" / "d.jxl").touch()
    os.mkfifo(tmp_path / "in" / "e.png")
    links = {"f": "../away", "g.png": "a.png", "h.png": "gone.png", "i": "..", "j.png": "/proc/self/mem"}
    for link, target in links.items():
        (tmp_path / "in" / link).symlink_to(target)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    os.mkfifo(tmp_path / "pipe.png")
    long = f"{'x' * 300}.png"
    given = ("in", "pipe.png", long, images[0])
    done = cli("predict", *given, "--project", finished.root, "--method", "majority", "--format", "json")
    found = {str(one["image"]): one for one in answers(done.stdout)}
    assert {name: one["problem"] for name, one in found.items() if one["problem"]} == {
        "in/b.png?w=200": "PNG, though its name has no extension of an image; rename it to use it",
        "in/d.jxl": ".jxl files are not read; save it as PNG or JPEG",
        "in/e.png": "a pipe, no regular file",
        "in/h.png": "a link to nothing",
        "in/j.png": "Input/output error",
        "pipe.png": "a pipe, no regular file",
        long: "File name too long",
    }
    answered = {name for name, one in found.items() if one["label"]}
    assert answered == {"in/a.png", "in/f/c.png", str(images[0])}


def test_the_command_reads_paths_from_standard_input(
    finished: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.dataset_root)
    manifest = finished.read_manifest()
    names = [manifest.rows[number].path for number in manifest.where("test")]
    given = "\n".join([names[0], "", "not\xe9there.png", *names[1:]])
    done = CliRunner().invoke(
        main, ["predict", "-", "--project", str(finished.root), "--method", HEAD], given
    )
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["image"] for row in rows] == [names[0], "not\xe9there.png", *names[1:]]
    assert rows[1]["label"] == ""
    assert "No such file" in rows[1]["problem"]
    labels = [NASTY[k] for k in reference(finished, HEAD).argmax(axis=1)]
    assert [row["label"] for row in rows if not row["problem"]] == labels


def test_the_table_shows_names_as_they_are(finished: Project, cli: Cli) -> None:
    done = cli(
        "predict", *images_of(finished), "--project", finished.root, "--method", "majority", "--top", 3
    )
    for name in NASTY:
        assert name in done.stdout


@pytest.mark.parametrize("odd", ["a\x1b[2J\rb", "two\nlines", "half \ud800", "byte \udce9"])
def test_no_name_moves_the_cursor(odd: str, capsys: pytest.CaptureFixture[str]) -> None:
    alike = Neighbour(odd, odd, 0.9)
    one = Prediction(odd, ("a", odd), np.array([0.2, 0.8]), odd, odd, (alike,), odd)
    WRITERS["table"]([one], 2, 1)
    printed = capsys.readouterr().out
    assert all(letter.isprintable() or letter == "\n" for letter in printed)
    assert len(printed.splitlines()) == 5  # a blank one, the headings, a rule, one row, a blank one


def test_the_command_refuses_what_gives_no_answer(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty").mkdir()
    for names, words in (
        (["gone.jpg", "*.png"], "no images match"),
        (["text.jpg"], "no image could be read"),
    ):
        done = CliRunner().invoke(
            main, ["predict", *names, "--project", str(finished.root), "--method", HEAD]
        )
        assert done.exit_code == 2
        assert f"penultimate: {words}" in done.stderr
        assert done.stdout.count("\n") <= 5  # the table of what could not be read, if any
