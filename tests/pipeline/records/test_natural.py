"""Natural order: what it is, and that people meet classes in it while their numbers stay."""

import csv
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.report import BEST, synthetic
from features.manifest import Manifest, Row
from pipeline.comparison import plot_tables
from pipeline.comparison.compare import _per_class
from pipeline.comparison.methods import TrainedMethod
from pipeline.inspection.embedding import Map
from pipeline.records.natural import in_order, natural
from pipeline.records.predictions import Predictions
from pipeline.report.report import report

CLASSES = tuple(str(number) for number in range(12))
STORED = tuple(sorted(CLASSES))  # 0, 1, 10, 11, 2, …


def test_natural_order() -> None:
    ordered = [
        "", "0", "01", "1", "2", "10", "100", "a", "B", "c2", "c10", "c10a", "C10b", "c" + 5000 * "9",
        "p1 v9", "p1 v10", "é",
    ]  # fmt: skip
    shuffled = random.Random(0).sample(ordered, len(ordered))
    assert sorted(shuffled, key=natural) == ordered
    assert [STORED[number] for number in in_order(STORED)] == list(CLASSES)


def test_classes_are_shown_in_natural_order_and_keep_their_numbers(tmp_path: Path) -> None:
    project = synthetic(tmp_path, 240, CLASSES)
    found = Predictions.read(project.predictions / f"{BEST}.npz")
    assert tuple(found.classes) == STORED
    report(project)
    table = re.search(r'<table class="heat matrix">.*?</table>', project.report.read_text("utf-8"), re.S)
    assert table
    for scope in ("col", "row"):
        assert re.findall(rf'<th scope="{scope}"><bdi title="(\d+)"', table[0]) == list(CLASSES)
    counted = {
        (int(true), int(answer)): int(count)
        for true, answer, count in re.findall(r'data-cell="(\d+)-(\d+)"[^>]*>(\d+)<', table[0])
    }
    answers = found.proba.argmax(axis=1)
    for (true, answer), count in counted.items():
        assert count == ((found.label == true) & (answers == answer)).sum()
    assert sum(counted.values()) == len(answers)

    method = TrainedMethod("pool5.logreg", {}, found)
    assert [row[1] for row in _per_class([method])] == list(CLASSES)
    assert sum(row[2] for row in _per_class([method])) == len(answers)
    plot_tables.write_confusion(tmp_path, "head", method)
    with (tmp_path / "confusion_head.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["actual"] for row in rows] == found.classes[found.label].tolist()
    assert {(row["actual"], row["actual_place"]) for row in rows} == {(name, name) for name in CLASSES}
    assert all(row["predicted"] == row["predicted_place"] for row in rows)


def test_a_legend_is_in_natural_order() -> None:
    some = Row("x", "x", "", "train", "0" * 64, 1, 1)
    manifest = Manifest(tuple(replace(some, id=str(k), path=str(k), label=str(11 - k)) for k in range(4)))
    names, colours = Map(np.arange(4), ()).legend(manifest)
    assert names == ["8", "9", "10", "11"]
    assert [names[colour] for colour in colours] == ["11", "10", "9", "8"]
