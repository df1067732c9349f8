"""The layer map against the tables that it is read from."""

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from features.errors import BadInput
from features.immutable import sealed
from features.network import parse_layer
from pipeline.project import Project
from pipeline.stores.extract import extract
from pipeline.studies.layer_cells import depth
from pipeline.studies.layer_map import layer_map
from pipeline.tuning.train import train

OVERRIDES = [
    "extract.layers=[pool1:avg,conv1_1:avg]",
    "heads.rbf-svm=null",
    "heads.mlp=null",
    "heads.linear-svm=null",
]


@pytest.fixture
def trained(prepared: Project) -> Project:
    project = Project.open(prepared.root, OVERRIDES)
    extract(project, project.layers)
    for head in project.settings.heads.named():
        train(project, head)
    return project


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_cells_are_the_best_of_what_was_tried(trained: Project, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    layer_map(trained)
    rows = read(trained.studies / "layer-map.csv")
    assert list(dict.fromkeys(row["layer"] for row in rows)) == ["pixels", "conv1_1:avg", "pool1:avg"]
    assert len(rows) == 3 * 2 * 2  # layers × heads × normalisations; majority has no layer
    for row in rows:
        method = f"{row['layer']}.{row['head']}".replace(":", "-")
        tried = read(trained.head_folder(row["head"]) / method / "tuning.csv")
        tried = [each for each in tried if each["normalisation"] == row["normalisation"]]
        tried.sort(
            key=lambda each: (-float(each["validation_top1"]), round(float(each["validation_log_loss"]), 4))
        )
        assert row["validation_top1"] == tried[0]["validation_top1"]
        assert row["validation_log_loss"] == tried[0]["validation_log_loss"]
        assert row["weights"] == ("none" if row["layer"] == "pixels" else "random")
    for layer in ("pixels", "conv1_1:avg", "pool1:avg"):
        of_layer = [row for row in rows if row["layer"] == layer]
        winners = [row for row in of_layer if row["best_of_layer"] == "True"]
        assert len(winners) == 1
        assert float(winners[0]["validation_top1"]) == max(float(row["validation_top1"]) for row in of_layer)
    svg = ET.parse(trained.studies / "layer-map.svg").getroot()
    texts = {text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"pool1:avg (random)", "conv1_1:avg (random)", "pixels", "logreg", "knn"} <= texts
    shown = capsys.readouterr().out
    validation = len(trained.read_manifest().where("validation"))
    assert f"on {validation} validation images" in shown
    assert shown.count("RANDOM") == 4
    assert shown.count("◂") == 1 + 3  # the legend's


def test_layers_stand_in_network_order() -> None:
    order = [
        "pixels",
        "conv1_1:pre",
        "conv1_1",
        "conv1_2",
        "pool1",
        "pool1:avg",
        "conv2_1",
        "pool5",
        "fc6:pre",
        "fc6",
        "fc7",
    ]
    layers = [parse_layer(name, "vgg16") for name in order]
    backwards = layers[::-1]
    assert sorted(backwards, key=depth) == layers


def test_refuses_heads_that_are_not_trained_on_this(trained: Project) -> None:
    with pytest.raises(BadInput, match=r"`python cli\.py train --head logreg`"):
        layer_map(Project.open(trained.root, [*OVERRIDES, "heads.logreg.C=[5]"]))
    with pytest.raises(BadInput, match=r"`python cli\.py train --head mlp`"):
        layer_map(Project.open(trained.root, OVERRIDES[:2] + OVERRIDES[3:]))
    with pytest.raises(BadInput, match="names none that uses a layer"):
        layer_map(Project.open(trained.root, [*OVERRIDES, "heads.logreg=null", "heads.knn=null"]))
    path = trained.head_folder("logreg") / "pool1-avg.logreg" / "card.json"
    card = json.loads(path.read_text("utf-8"))
    card["inputs"]["revision"] -= 1  # what an older version trained and calibrated
    path.write_bytes(sealed(card))
    with pytest.raises(BadInput, match=r"older version; run `python cli\.py train --head logreg`"):
        layer_map(trained)
