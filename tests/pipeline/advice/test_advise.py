"""Advice: the scenarios and their thresholds, prices, hindsight, and the command on a small project."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.errors import BadInput
from features.immutable import read_card, seal
from features.manifest import Manifest, Row
from features.network import parse_layer
from features.weights import PROVENANCE
from pipeline.advice.advice import Advice
from pipeline.advice.advise import advise
from pipeline.advice.evidence import ROWS, sample
from pipeline.advice.hindsight import HEADS, OTHERS, SIZE, current_lines, judge
from pipeline.advice.prices import BACKWARD, Rates, convolution_rate, price, work
from pipeline.advice.scenario import FOUR, FULL, HEAD, LARGE, PARTIAL, SCRATCH, scenario, similarity
from pipeline.comparison.compare import compare
from pipeline.finetuning.finetune import finetune
from pipeline.project import Project
from pipeline.records.comparison import Line
from pipeline.records.predictions import Predictions
from pipeline.stores.extract import extract
from pipeline.tuning.train import train
from tests.conftest import QUICK, Cli, make_line, make_project, note_predictions, ready

HEADS_OFF = ("heads.rbf-svm=null", "heads.mlp=null", "heads.linear-svm=null")


@pytest.fixture(scope="module")
def template(vgg11_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of pool5, fc7 and pixels; the convolutions count as trained, what follows them does not."""
    folder = tmp_path_factory.mktemp("advise")
    rng = np.random.default_rng(0)
    for name, colour in (("blue", (30, 60, 200)), ("green", (40, 180, 60)), ("red", (200, 50, 40))):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(rng.normal(colour, 40, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number:02}.png")
    overrides = [*QUICK, *HEADS_OFF, "dataset.name=folder", f"dataset.root={folder / 'images'}"]
    project = ready(make_project(folder / "project", overrides), vgg11_weights)
    card = read_card(project.weights_folder, PROVENANCE)
    card["layers"] = {name: "file" if "conv" in name else "untrained" for name in card["layers"]}
    (project.weights_folder / PROVENANCE).unlink()  # a link
    seal(project.weights_folder, PROVENANCE, card)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PENULTIMATE_CACHE", str(folder / "cache"))
        extract(project, project.layers)
    return project.root


@pytest.fixture
def extracted(template: Path, tmp_path: Path) -> Project:
    """That project, for one test to change."""
    return Project.open(Path(shutil.copytree(template, tmp_path / "extracted", copy_function=os.link)))


def read(project: Project) -> dict[str, object]:
    content: dict[str, object] = json.loads((project.studies / "advice.json").read_text("utf-8"))
    return content


# Scenarios


@pytest.mark.parametrize(
    ("per_class", "similar", "classic", "advised"),
    [
        (LARGE - 1, True, HEAD, HEAD),
        (LARGE - 1, False, PARTIAL, PARTIAL),
        (LARGE, True, FULL, FULL),
        (LARGE, False, SCRATCH, FULL),  # where published evidence is against the classic rule
    ],
)
def test_four_scenarios(per_class: float, similar: bool, classic: str, advised: str) -> None:
    found = scenario(per_class, similar=similar)
    assert (found.classic, found.advised) == (classic, advised)


def test_published_gains_are_those_of_the_tables() -> None:
    few_near, few_far, many_near, many_far = FOUR
    gain = many_far.published(FULL)
    assert gain is not None
    assert gain.data == ("Food-101", "CIFAR-100")
    assert gain.points == (8.1, 21.7)  # CIFAR-100: 86.4 − 78.3; Food, Salman et al.: 87.7 − 66.0
    assert gain.removed == pytest.approx((8.1 / 21.7, 21.7 / 34.0), abs=1e-3)
    assert few_near.published(FULL).points == (-1.2, 5.5)  # type: ignore[union-attr]
    assert few_far.published(FULL).points[1] == 44.1  # type: ignore[union-attr]
    assert many_near.published(SCRATCH).points == (2.3, 2.3)  # type: ignore[union-attr]
    assert few_far.published(PARTIAL) is None
    # Above the threshold for similarity fine-tuning gains little, below it may gain much: its reason
    assert few_near.published(FULL).points[1] < 6 < few_far.published(FULL).points[1]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("accuracy", "logme", "pixels", "passed"),
    [
        (0.90, 0.5, (0.40, 0.1), [True, True, True]),  # photographs
        (0.81, 0.5, (0.40, 0.1), [False, True, True]),  # 0.81 − 0.1 of 0.9 is 79 %
        (0.97, 0.5, (0.98, 0.1), [True, False, True]),  # digits: easy without a network
        (0.90, 0.1, (0.40, 0.5), [True, True, False]),
        (0.90, 0.5, None, [True]),  # no control
        (1.00, 0.5, (1.00, 0.1), [True, False, True]),  # nothing can be said for the network
    ],
)
def test_similarity(
    accuracy: float, logme: float, pixels: tuple[float, float] | None, passed: list[bool]
) -> None:
    checks = similarity(accuracy, 0.1, logme, pixels)
    assert [check.passed for check in checks] == passed


# Rows


def manifest_of(counts: dict[str, int]) -> Manifest:
    rows, number = [], 0
    for label, count in counts.items():
        for _ in range(count):
            split = ("train", "train", "validation", "test")[number % 4]
            rows.append(Row(f"{number}", f"{number}", label, split, f"{number:064x}", 8, 8))
            number += 1
    return Manifest(tuple(rows))


def test_sample_is_fixed_bounded_and_of_the_right_rows() -> None:
    manifest = manifest_of({"a": 4000, "b": 6000})
    drawn = sample(manifest, widest=10, memory_gb=4)
    assert len(drawn.train) == ROWS == len(drawn.held)
    assert len(np.unique(drawn.train)) == ROWS
    assert set(manifest.splits[drawn.train]) == {0}
    assert set(manifest.splits[drawn.held]) == {1}
    again = sample(manifest, widest=10, memory_gb=4)
    np.testing.assert_array_equal(drawn.train, again.train)
    assert drawn.chance == (manifest.labels[drawn.held] == 1).mean()
    narrow = sample(manifest, widest=10**6, memory_gb=4)
    assert len(narrow.train) == 500  # 2 × 500 × 4 bytes × 10⁶ are 4 × 10⁹ bytes
    few = sample(manifest_of({"a": 40, "b": 40}), widest=10, memory_gb=4)
    assert len(few.train) == 40


def test_refuses_what_nothing_can_be_said_of() -> None:
    with pytest.raises(BadInput, match="all train images are of the class 'a'"):
        sample(manifest_of({"a": 2, "b": 2}), widest=10, memory_gb=4)
    with pytest.raises(BadInput, match=r"only 20 images fit tuning\.memory_gb = 4"):
        sample(manifest_of({"a": 400, "b": 400}), widest=25 * 10**6, memory_gb=4)


# The command


def test_advice_on_a_small_project(extracted: Project, cli: Cli) -> None:
    folder = extracted.root
    shown = cli("advise", "--project", folder).stdout
    written = read(extracted)
    scores = written["scores"]
    assert isinstance(scores, dict)
    assert list(scores) == ["pool5", "fc7", "pixels"]
    assert [each["weights"] for each in scores.values()] == ["file", "untrained", "none"]
    assert written["best_trained_layer"] == "pool5"  # never an untrained one, however good
    assert written["manifest"] == extracted.read_manifest().digest
    assert written["scenario"]["large"] is False  # type: ignore[index]
    assert written["classic"]["method"] == PARTIAL  # type: ignore[index] # pixels tell colours apart as well
    expected = written["expected"]
    assert isinstance(expected, dict)
    assert list(expected) == ["pool5.logreg", "pixels.logreg", "finetune.dense", PARTIAL, FULL, SCRATCH]
    assert expected["pool5.logreg"]["source"] == "probe"
    assert expected[FULL]["source"] == "published"
    assert 0 <= expected[FULL]["low"] <= expected[FULL]["high"] <= 1
    assert expected["finetune.dense"]["weights"] == "untrained"
    assert written["comparison"]["verdict"] is None  # type: ignore[index]
    for text in ("UNTRAINED", "few: ", "The classic rule says", "We advise", "A heuristic"):
        assert text in shown
    assert "run `python cli.py compare` first" in " ".join(shown.split())
    advise(extracted)
    again = read(extracted)
    for measured in ("prices", "rates"):
        assert written.pop(measured)
        again.pop(measured)
    assert again == written


def test_scores_are_of_train_rows_and_the_probe_of_validation_rows(extracted: Project) -> None:
    found = advise(extracted)
    manifest = extracted.read_manifest()
    by_name = {each.layer: each for each in found.layers}
    store = extracted.store(parse_layer("pool5", "vgg11"), manifest)
    X, y = store.rows(manifest.where("train")), manifest.labels[manifest.where("train")]
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    near = unit @ unit.T
    np.fill_diagonal(near, -1)
    nearest = np.argsort(-near, axis=1)[:, :5]
    right = 0
    for row, voters in enumerate(nearest):  # among as many votes the classes that are nearer in sum
        votes = [((y[voters] == k).sum(), near[row, voters[y[voters] == k]].sum()) for k in range(3)]
        right += max(range(3), key=votes.__getitem__) == y[row]
    assert by_name["pool5"].five == pytest.approx(right / len(y))
    assert by_name["pool5"].width == X.shape[1]
    probe = by_name["pool5"].probe
    hits = probe.value * len(manifest.where("validation"))
    assert hits == pytest.approx(round(hits))
    assert probe.low <= probe.value <= probe.high


def test_says_nothing_of_missing_stores_and_random_weights(
    prepared: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput, match="extract"):
        advise(prepared)
    extract(prepared, prepared.layers)
    assert advise(prepared) is None
    assert "no layer here has trained weights (pool5 random" in capsys.readouterr().out
    assert "no layer here has trained weights" in str(read(prepared)["none"])


def test_says_nothing_of_layers_of_which_the_weights_have_none(
    extracted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert advise(Project.open(extracted.root, ["extract.layers=[fc7]"])) is None
    assert "trained weights (fc7 untrained, pixels none)" in capsys.readouterr().out


def test_after_training_it_measures_and_judges(
    extracted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    for head in extracted.settings.heads.named():
        train(extracted, head)
    finetune(extracted, ("full",))
    lines = {line.method: line for line in compare(extracted)}
    capsys.readouterr()
    found = advise(extracted)
    shown = " ".join(capsys.readouterr().out.split())
    ways = {way.role: way for way in found.ways}
    assert ways["head"].method in ("pool5.logreg", "pool5.knn")  # not of fc7, which is untrained
    assert ways["head"].source == ways[FULL].source == "measured"
    assert ways["head"].value == lines[ways["head"].method].validation_top1
    assert ways[FULL].price.total == lines["finetune.full"].seconds
    assert ways[PARTIAL].price.source == "reckoned"
    assert found.rates.source == "finetune.full on cpu"
    check_hindsight(extracted, found, lines)
    assert "Was it right? By the last comparison" in shown
    assert "against always a head" in shown

    # What was trained since then is not what was compared
    train(Project.open(extracted.root, ["heads.knn.k=[2]"]), "knn")
    stale = advise(Project.open(extracted.root, ["heads.knn.k=[2]"])).hindsight
    assert isinstance(stale, str)
    assert "run `python cli.py compare` first" in stale
    assert "pixels.knn" in stale
    manifest = extracted.read_manifest()
    with pytest.raises(BadInput, match=r"run `python cli\.py train --head knn` first"):
        current_lines(extracted, manifest)
    train(extracted, "knn")
    shutil.rmtree(extracted.finetune_folder("full"))
    with pytest.raises(BadInput, match=r"finetune\.full is not trained"):
        current_lines(extracted, manifest)


def check_hindsight(project: Project, found: Advice, lines: dict[str, Line]) -> None:
    hindsight = found.hindsight
    assert not isinstance(hindsight, str)
    assert hindsight.kind == "fine-tuned"
    assert hindsight.advised == lines["finetune.full"]
    for rival in hindsight.rivals.values():
        assert rival.difference is not None
        assert rival.difference.value == pytest.approx(lines["finetune.full"].top1 - rival.line.top1)
    assert hindsight.rivals[HEADS].line.method.startswith(("pool5.", "fc7.", "ensemble"))
    assert read(project)["comparison"]["verdict"] == hindsight.verdict  # type: ignore[index]


# Hindsight


def line(method: str, weights: str, validation: float, top1: float) -> Line:
    return make_line(method, weights=weights, validation_top1=validation, top1=top1)


@pytest.fixture
def judged(project: Path) -> tuple[Project, list[Line]]:
    """Five methods on 200 test images, each right on the first so many of them."""
    opened = Project.open(project)
    lines = [
        line("pool5.logreg", "imagenet", 0.90, 0.85),
        line("fc7.logreg", "untrained", 0.80, 0.95),  # better on test rows, which choose nothing
        line("pixels.rbf-svm", "none", 0.70, 0.60),
        line("finetune.full", "imagenet", 0.92, 0.86),
        line("finetune.freeze:conv4_1", "imagenet", 0.95, 0.93),
    ]
    opened.predictions.mkdir(parents=True)
    for each in lines:
        answers = (np.arange(200) >= 200 * each.top1).astype(int)
        classes, label = np.array(["a", "b"]), np.zeros(200, np.int32)
        proba = np.eye(2, dtype=np.float32)[answers]
        Predictions(np.arange(200).astype(str), label, proba, classes).write(
            opened.predictions / f"{each.method.replace(':', '-')}.npz"
        )
    note_predictions(opened, *(each.method for each in lines))
    return opened, lines


def test_kinds_meet_by_the_methods_that_validation_rows_choose(judged: tuple[Project, list[Line]]) -> None:
    project, lines = judged
    found = judge(project, lines, 200, advised=PARTIAL, large=False)
    assert found.advised is not None
    assert found.advised.method == PARTIAL
    assert found.rivals[OTHERS].line.method == "finetune.full"  # of the same kind, and not advised
    assert found.rivals[OTHERS].difference is not None
    assert found.rivals[OTHERS].difference.value == pytest.approx(0.07)
    assert found.verdict == "right"
    assert found.rivals[SIZE].line.method == "pool5.logreg"
    wrong = judge(project, lines, 200, advised=HEAD, large=True)
    assert wrong.verdict == "wrong"
    assert wrong.rivals[HEADS].difference is None  # the same choice
    assert wrong.rivals[SIZE].line.method == PARTIAL
    close = judge(project, lines[:4], 200, advised=FULL, large=True)
    assert close.verdict == "undecided"  # 86 against 85 of 200 images
    missing = judge(project, lines[:3], 200, advised=FULL, large=True)
    assert (missing.advised, missing.rivals, missing.verdict) == (None, {}, "undecided")


# Prices


def test_work_is_split_at_the_cut(extracted: Project) -> None:
    size = extracted.image_size
    whole = parse_layer("pool5", "vgg11").gflops(size)  # fc6 and fc7 are untrained: the top is pool5
    assert asdict(work(FULL, extracted)) == {"frozen": 0, "trained": pytest.approx(whole)}
    assert work(SCRATCH, extracted) == work(FULL, extracted)
    frozen = parse_layer("conv4_1", "vgg11").gflops(size)
    part = work(PARTIAL, extracted)
    assert (part.frozen, part.trained) == (pytest.approx(frozen), pytest.approx(whole - frozen))
    dense = work("finetune.dense", extracted)
    assert dense.frozen == pytest.approx(whole)
    assert dense.trained == pytest.approx(2 * (512 * 49 * 4096 + 4096 * 4096) / 1e9)


def test_prices_follow_from_work_and_rates(extracted: Project) -> None:
    manifest = extracted.read_manifest()
    images, held = len(manifest.where("train")), len(manifest.where("validation"))
    rates = Rates(extraction=100.0, training=10.0, source="")
    part = work(PARTIAL, extracted)
    found = price(PARTIAL, extracted, manifest, rates)
    assert found.once == pytest.approx(part.frozen * len(manifest) / 100)  # test images are cached, too
    assert found.epoch == pytest.approx(part.trained * ((1 + BACKWARD) * images + held) / 10)
    assert found.total == pytest.approx(found.epoch * extracted.settings.finetune.epochs)
    assert price(FULL, extracted, manifest, rates).once == 0


def test_training_rate_is_that_of_a_machine() -> None:
    assert 0.1 < convolution_rate("cpu") < 1e5
