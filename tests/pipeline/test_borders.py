"""Borders at which a wrong answer would have come without a word: each found by somebody who tried."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.errors import BadInput
from features.store import FeatureStore
from pipeline.comparison import methods
from pipeline.comparison.compare import compare
from pipeline.comparison.methods import methods_of
from pipeline.datasets.names import twins
from pipeline.params import parse, read_yaml
from pipeline.project import Project
from pipeline.records.comparison import best_head, read_lines, read_predictions
from pipeline.records.predictions import Predictions
from pipeline.report.report import report
from pipeline.tuning.train import train
from tests.conftest import Cli


@pytest.fixture
def all_of_one(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the finished project, to be written to."""
    shutil.copytree(finished.root, tmp_path / "copy")
    monkeypatch.setenv("PENULTIMATE_CACHE", str(finished.root.parent / "cache"))
    return Project(tmp_path / "copy", finished.settings)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat", "cat\u200b"), ("cat", "\ufeffcat"), ("cat", "c\u00adat"), ("-1", "-1.0"), ("+1", "1"),
        ("1.50", "1.5"), ("１", "1"),
    ],
)  # fmt: skip
def test_names_that_nobody_can_tell_apart(one: str, other: str) -> None:
    assert [pair[:2] for pair in twins([one, other])] == [tuple(sorted((one, other)))]


@pytest.mark.parametrize(
    "pair", [("1", "-1"), ("1.5", "15"), ("a\u200db", "ab"), ("1.5", "1.05"), ("１a", "1a")]
)
def test_names_that_are_different(pair: tuple[str, str]) -> None:
    assert not list(twins(pair))


def table(root: Path, rows: list[tuple[str, str, str]]) -> None:
    text = "path,label,group\n" + "".join(",".join(row) + "\n" for row in rows)
    (root / "table.csv").write_text(text, "utf-8")


@pytest.mark.parametrize("word", ["NA", "null", "None", "n/a", "#N/A", "\\N", "NaT", "NAN"])
def test_words_for_nothing_are_no_group(project: Path, images: Path, cli: Cli, word: str) -> None:
    files = sorted(path.relative_to(images) for path in images.rglob("*.png"))
    table(images, [(str(path), path.parts[0], word) for path in files])
    arguments = ["--project", project, "-S", "dataset.name=csv", "-S", "dataset.csv=table.csv"]
    done = cli("prepare", *arguments, code=2)
    assert f"the group {word!r}" in done.stderr


def test_a_class_called_none_is_said(project: Path, images: Path, cli: Cli) -> None:
    files = sorted(path.relative_to(images) for path in images.rglob("*.png"))
    table(images, [(str(path), "None" if path.parts[0] == "red" else path.parts[0], "") for path in files])
    done = cli("prepare", "--project", project, "-S", "dataset.name=csv", "-S", "dataset.csv=table.csv")
    assert "the label 'None' is taken for a class" in done.stdout


def test_row_numbers_among_other_types_are_row_numbers(finished: Project) -> None:
    store = FeatureStore("pool5", finished.root).fit()
    frame = pd.DataFrame({"row": [5, 0], "name": ["x", "y"]})
    given = frame.to_numpy()[:, 0]
    assert given.dtype == object
    np.testing.assert_array_equal(store.transform(given), store.rows([5, 0]))


@pytest.mark.parametrize("C", [1e12, 1e-12, 1e308])
def test_no_strength_beyond_what_solvers_can_tell(finished: Project, C: float) -> None:
    content = read_yaml(finished.root / "params.yaml")
    content["heads"]["logreg"]["C"] = [C]
    with pytest.raises(BadInput, match=r"heads\.logreg\.C"):
        parse(content, "params.yaml")


def test_compare_beside_a_training_is_of_one_or_refused(
    all_of_one: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that is trained anew between the reading of its card and that of its predictions."""
    manifest = all_of_one.read_manifest()
    content = read_yaml(all_of_one.root / "params.yaml")
    content["heads"]["logreg"]["C"] = [1e-9]
    others = Project(all_of_one.root, parse(content, "params.yaml"))
    read, trained = methods.read_trials, []

    def meanwhile(folder: Path) -> list[dict[str, str]]:
        if folder.name == "pool5.logreg" and not trained:
            trained.append(train(others, "logreg"))
        return read(folder)

    monkeypatch.setattr(methods, "read_trials", meanwhile)
    with pytest.raises(BadInput, match="trained anew meanwhile"):
        methods_of(all_of_one, manifest)


def test_predictions_of_a_comparison_that_was_cut_off_are_refused(all_of_one: Project) -> None:
    compare(all_of_one)
    report(all_of_one)
    best = best_head(read_lines(all_of_one)[0])
    assert best
    file = all_of_one.predictions_file(best.method)
    was = Predictions.read(file)
    Predictions(was.id, was.label, was.proba[::-1].copy(), was.classes).write(file)
    with pytest.raises(BadInput, match="is not of the comparison"):
        read_predictions(all_of_one, best.method)
    with pytest.raises(BadInput, match="is not of the comparison"):
        report(all_of_one)


def test_advice_of_other_features_is_not_shown(all_of_one: Project) -> None:
    compare(all_of_one)
    all_of_one.studies.mkdir(exist_ok=True)
    scenario = {"large": False, "similar": True}
    known = {"manifest": all_of_one.read_manifest().digest, "scenario": scenario, "features": {"pool5": "x"},
             "advised": {"method": "pool5.logreg"}}  # fmt: skip
    (all_of_one.studies / "advice.json").write_text(json.dumps(known), "utf-8")
    report(all_of_one)
    assert "Was the advice right?" not in all_of_one.report.read_text("utf-8")
