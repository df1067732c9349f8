"""The report's numbers, and what keeps it one safe file; a browser sees it in `end_to_end/test_page.py`."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.report import BEST, synthetic
from features.errors import BadInput
from pipeline.finetuning.plan import plans
from pipeline.params import load
from pipeline.project import Project
from pipeline.records.comparison import DIFFERENCES, Line
from pipeline.records.predictions import Predictions
from pipeline.report import confusion, cost, differences, per_class, provenance, reliability, studies
from pipeline.report.compared import Compared
from pipeline.report.inline import inline
from pipeline.report.report import report
from pipeline.statistics import metrics
from pipeline.stores.extract import extract
from pipeline.studies.layer_map import layer_map
from pipeline.tuning.train import train
from tests.conftest import make_line, note_predictions

CLASSES = ("cat", "dog", "<b>bird</b>")


@pytest.fixture
def finished(tmp_path: Path) -> Project:
    """A finished project of three classes."""
    return synthetic(tmp_path, 150, CLASSES)


def page_of(project: Project) -> str:
    report(project)
    return project.report.read_text("utf-8")


def predictions(n: int, n_classes: int, seed: int = 0) -> Predictions:
    """Random ones."""
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.full(n_classes, 0.5), n).astype(np.float32)
    labels = rng.integers(n_classes, size=n).astype(np.int32)
    return Predictions(np.arange(n).astype(str), labels, proba, np.arange(n_classes).astype(str))


def test_same_comparison_makes_the_same_bytes(finished: Project) -> None:
    first = page_of(finished)
    assert page_of(finished) == first
    assert "<bdi>&lt;b&gt;bird&lt;/b&gt;</bdi>" in first
    assert "<b>bird" not in first


def test_what_is_not_there_is_left_out(finished: Project) -> None:
    assert 'id="classes"' in page_of(finished)
    finished.per_class.unlink()
    record = json.loads(finished.comparison.read_text("utf-8"))
    record["lines"] = [line for line in record["lines"] if line["method"] != "finetune.full"]
    for line in record["lines"]:
        line.update(dict.fromkeys(DIFFERENCES))
    finished.comparison.write_text(json.dumps(record), "utf-8")
    (finished.plots / "training.csv").unlink()
    page = page_of(finished)
    assert 'id="classes"' not in page
    assert "No fine-tuned baseline was run" in page
    assert "Fine-tuning</h3>" not in page
    assert page.count("<h3>finetune.full") == 0


@pytest.mark.parametrize(
    "kept", [("majority",), ("finetune.full",), ("majority", "finetune.full"), ("pixels.knn",)]
)
def test_page_of_few_methods(finished: Project, kept: tuple[str, ...]) -> None:
    record = json.loads(finished.comparison.read_text("utf-8"))
    record["lines"] = [line for line in record["lines"] if line["method"] in kept]
    if "finetune.full" not in kept:
        for line in record["lines"]:
            line.update(dict.fromkeys(DIFFERENCES))
    del record["agreement"]
    finished.comparison.write_text(json.dumps(record), "utf-8")
    (finished.plots / "tuning.csv").write_text("method,normalisation,C,validation_top1\n", "utf-8")
    for method in kept:
        found = Predictions.read(finished.predictions / f"{BEST}.npz")
        found.write(finished.predictions / f"{method}.npz")
    note_predictions(finished, *kept)
    page = page_of(finished)
    assert all(f"<bdi>{method}</bdi>" in page for method in kept)
    assert ("<h3>Differences from" in page) == (len(kept) == 3)


def test_predictions_of_other_images_are_refused(finished: Project) -> None:
    path = finished.predictions / f"{BEST}.npz"
    found = Predictions.read(path)
    replace(found, id=found.id[::-1]).write(path)
    note_predictions(finished, BEST)
    with pytest.raises(
        BadInput, match=f"predictions of {BEST} are of other images; run `python cli.py compare`"
    ):
        report(finished)


def test_reliability_bins_make_the_calibration_error() -> None:
    found = predictions(400, 5)
    bins = reliability.bins(found)
    assert sum(each.images for each in bins) == 400
    assert {each.images for each in bins} == {26, 27}
    gap = sum(each.images * abs(each.confidence - each.accuracy.value) for each in bins) / 400
    assert gap == pytest.approx(metrics.calibration_error(found.proba, found.label), abs=1e-6)
    assert [each.confidence for each in bins] == sorted(each.confidence for each in bins)
    assert len(reliability.bins(predictions(4, 2))) == 4


def test_front_has_what_nothing_beats() -> None:
    rng = np.random.default_rng(0)
    lines = [
        make_line(str(number), top1=float(rng.integers(20)) / 20, seconds=float(rng.integers(1, 20)))
        for number in range(60)
    ]

    def price(line: Line) -> float:
        return line.seconds

    found = [lines[place] for place in cost.front(lines, price)]
    for line in lines:
        beaten = any(
            (other.top1 >= line.top1 and price(other) < price(line))
            or (other.top1 > line.top1 and price(other) <= price(line))
            for other in lines
        )
        equal = [each for each in found if (each.top1, price(each)) == (line.top1, price(line))]
        assert len(equal) == (0 if beaten else 1)


def test_pictures_are_shared_out_fairly_and_errors_are_the_surest() -> None:
    found = predictions(900, 4)
    answer = found.proba.argmax(axis=1)
    rows = np.arange(900) + 7000
    for most in (10, 40, 10_000):
        chosen = confusion.pictures(found, rows, most)
        counts = {
            f"{true}-{other}": int(((found.label == true) & (answer == other)).sum())
            for true in range(4)
            for other in range(4)
        }
        assert sum(map(len, chosen.values())) == min(most, sum(min(12, count) for count in counts.values()))
        sizes = [len(chosen.get(key, ())) for key, count in counts.items() if count >= 12]
        assert max(sizes) - min(sizes) <= 1
        for key, shown in chosen.items():
            true, other = map(int, key.split("-"))
            inside = np.flatnonzero((found.label == true) & (answer == other))
            order = inside[
                np.argsort(found.proba[inside, other] * (1 if true == other else -1), kind="stable")
            ]
            assert [row for row, *_ in shown] == (rows[order][: len(shown)]).tolist()
            assert shown[0][1] == pytest.approx(found.proba[order[0], other], abs=1e-3)
            assert shown[0][2] == pytest.approx(found.proba[order[0], true], abs=1e-3)
    assert set(confusion.pictures(found, rows, 100, {(1, 2)})) == {"1-2"}


def test_most_frequent_confusions_come_first() -> None:
    table = np.array([[50, 3, 0], [7, 20, 3], [0, 1, 9]])
    found = confusion.most_frequent(table)
    assert [(pair["truth"], pair["answer"], pair["count"]) for pair in found] == [
        (1, 0, 7), (0, 1, 3), (1, 2, 3), (2, 1, 1),
    ]  # fmt: skip
    assert found[0]["share"] == pytest.approx(7 / 30)


def test_colours_of_agreement_leave_out_the_diagonal() -> None:
    share = np.array([[1.0, 0.90, 0.93], [0.90, 1.0, 0.96], [0.93, 0.96, 1.0]])
    levels = differences.evenly(share)
    assert levels[0][1] == 1
    assert levels[1][2] == differences.LEVELS - 1
    assert 1 < levels[0][2] < differences.LEVELS - 1
    assert differences.evenly(np.ones((2, 2))) == [[1, 1], [1, 1]]


def test_hardest_classes_are_kept_and_it_is_said(finished: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(per_class, "CLASSES_SHOWN", 2)
    section = per_class.section(Compared.read(finished))
    assert section is not None
    table = section.content["table"]
    f1 = table.sorted_by
    assert table.columns[f1].heading == f"F1 {BEST}"
    assert len(table.rows) == 2
    assert table.rows[0][f1].key <= table.rows[1][f1].key
    assert "The 2 hardest of 3 classes are shown" in page_of(finished)


@pytest.mark.parametrize(
    "changed",
    [
        [],
        ["heads.logreg.C={low: 1.0e-6, high: 3, count: 4}", "heads.mlp=null"],
        [
            "dataset.root=/a b/'c'",
            "dataset.csv=null.csv",
            "finetune.modes=[]",
            "finetune.weight_decay=[1.0e-7]",
        ],
        ["extract.image_size=[32,48]", "extract.layers=['pool5:avg']", "dataset.at_most=[3,2,1]"],
    ],
)
def test_overrides_make_the_same_settings_again(finished: Project, changed: list[str]) -> None:
    project = Project(finished.root, load(finished.root / "params.yaml", changed))
    found = provenance.overrides(project)
    assert load(finished.root / "params.yaml", found) == project.settings
    assert len(found) == len(changed)


def test_page_says_how_to_make_it_again(finished: Project) -> None:
    page = page_of(finished)
    command = re.search(r"<pre[^>]*>(.*?)</pre>", page)
    assert command is not None
    words = shlex.split(command[1].replace("&#39;", "'").replace("&#34;", '"'))
    assert words[:3] == ["python", "cli.py", "run"]
    settings = load(finished.root / "params.yaml", [word for word in words[3:] if word != "-S"])
    assert settings == finished.settings


SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="72pt">{}</svg>'
)


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "<g onload='alert(1)'/>",
        "<foreignObject><body xmlns='http://www.w3.org/1999/xhtml'/></foreignObject>",
        "<image xlink:href='https://example.org/a.png'/>",
        "<image href='data:image/svg+xml;base64,AAAA'/>",
        "<use href='other.svg#x'/>",
        "<path style='fill: url(https://example.org/x)'/>",
        "<path style='fill: url(&quot;https://example.org/x&quot;)'/>",
        "<style>@import 'https://example.org/a.css'</style>",
        "<a href='javascript:alert(1)'><text>x</text></a>",
        "<text>&lt;img src=x onerror=alert(1)&gt;</text>",
        "<!-- <script>alert(1)</script> -->",
        "<set attributeName='href' to='javascript:alert(1)'/>",
    ],
)
def test_nothing_in_a_picture_runs_or_loads(attack: str) -> None:
    found = str(inline(SVG.format(attack), "name", words="words"))
    for bad in (
        "<script",
        "onload",
        "foreignObject",
        "example.org",
        "javascript:",
        "<img",
        "svg+xml",
        "other.svg",
    ):
        assert bad not in found
    assert ">x<" not in found


def test_picture_keeps_what_it_draws(finished: Project) -> None:
    drawn = SVG.format(
        '<defs><path id="m1" d="M 1.23456 2"/><clipPath id="c"><rect width="3"/></clipPath></defs>'
        '<g id="hinted" clip-path="url(#c)"><use xlink:href="#m1" style="fill: #808080"/></g>'
        '<image href="data:image/png;base64,AAAA"/><text>a &lt; b</text>'
    )
    found = str(inline(drawn, "n", words='"words"', hints={"hinted": "<hint>"}))
    for kept in (
        'id="n-m1"', 'href="#n-m1"', 'clip-path="url(#n-c)"', "fill: currentColor", "M 1.23 2", "a &lt; b",
        "data:image/png;base64,AAAA", "<title>&lt;hint&gt;</title>", 'aria-label="&quot;words&quot;"',
        'role="img"',
    ):  # fmt: skip
        assert kept in found
    assert "hinted" not in found


@pytest.mark.parametrize(
    "text", ["no picture", "<svg><g></svg>", "<html/>", '<!DOCTYPE svg [<!ENTITY a "b">]><svg>&a;</svg>']
)
def test_damaged_picture_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"make (the picture|it) again"):
        inline(text, "name", words="words")


def leave(project: Project, command: str, record: dict[str, Any]) -> None:
    """What `curve` or `sweep-cut` leaves, without having measured anything."""
    project.studies.mkdir(exist_ok=True)
    (project.studies / f"{command}.json").write_text(json.dumps(record), "utf-8")
    (project.studies / f"{command}.svg").write_text(SVG.format(f"<text>{command}</text>"), "utf-8")


def studied(project: Project) -> tuple[list[str], list[str]]:
    """Titles of the pictures that are shown, commands that are to be run again."""
    section = studies.section(Compared(project, project.read_manifest(), [], 0, {}))
    if section is None:
        return [], []
    shown = [picture.title for picture in section.content["pictures"]]
    return shown, [study.command for study in section.content["outdated"]]


def test_curve_is_shown_where_it_is_of_these_images_and_settings(finished: Project) -> None:
    assert studied(finished) == ([], [])
    record = {
        "manifest": finished.read_manifest().digest,
        "features": {},
        "tuning": finished.settings.tuning.model_dump(mode="json"),
        "grids": {"knn": finished.settings.heads.named()["knn"].model_dump(mode="json")},
    }
    leave(finished, "curve", record)
    assert studied(finished) == (["Accuracy against the number of train images"], [])
    assert ">curve</text>" in page_of(finished)
    for change in (
        {"manifest": "0" * 64},
        {"features": {"pool5": "0" * 64}},
        {"grids": {"knn": {"k": [99]}}},
        {"grids": {"gone": {}}},
        {"tuning": {}},
    ):
        leave(finished, "curve", record | change)
        assert studied(finished) == ([], ["curve"])
    page = page_of(finished)
    assert ">curve</text>" not in page
    assert "run <code>python cli.py curve</code> again" in page


def test_sweep_is_shown_where_it_is_of_these_images_and_settings(prepared: Project) -> None:
    runs = [plan.folder.name for plan in plans(prepared, prepared.read_manifest(), "freeze:conv5_1", 2)]
    record = {"cuts": [{"mode": "freeze:conv5_1", "runs": runs}]}
    leave(prepared, "cut", record)
    assert studied(prepared) == (["Where to cut"], [])
    leave(prepared, "cut", {"cuts": [{"mode": "freeze:conv5_1", "runs": runs[::-1]}]})
    assert studied(prepared) == ([], ["sweep-cut"])
    leave(prepared, "cut", record)
    # Each of these makes it another training; the last, of weights that are not there
    for changed in ("finetune.epochs=9", "extract.image_size=64", "compare.refit=true", "weights.seed=7"):
        assert studied(Project.open(prepared.root, [changed])) == ([], ["sweep-cut"])


def test_layer_map_is_shown_while_the_heads_are_those(prepared: Project) -> None:
    settings = [
        "extract.layers=[pool1:avg]",
        *(f"heads.{head}=null" for head in ("logreg", "linear-svm", "rbf-svm", "mlp")),
    ]
    project = Project.open(prepared.root, settings)
    extract(project, project.layers)
    train(project, "knn")
    layer_map(project)
    assert studied(project) == (["Which layer suits which head"], [])
    other = Project.open(prepared.root, [*settings, "heads.knn.k=[3]"])
    assert studied(other) == ([], ["layer-map"])  # not trained yet
    train(other, "knn")
    assert studied(other) == ([], ["layer-map"])
