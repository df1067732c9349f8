"""What is said of a method is its own, and what was made with other settings names them."""

import json
from pathlib import Path

import pytest

from features.errors import BadInput
from pipeline.lines import identities, outdated, since
from pipeline.prepare import prepare
from pipeline.project import Project
from pipeline.train import train


def test_a_method_trained_or_removed_after_the_comparison_is_named(project: Path) -> None:
    opened = Project.open(project)
    prepare(opened)
    train(opened, "majority")
    record = {"lines": [{"method": "majority"}], "identities": identities(opened)}
    opened.comparison.write_text(json.dumps(record), "utf-8")
    assert outdated(opened) == []
    assert since(opened) == []
    card = opened.head_folder("majority") / "majority" / "card.json"
    text = card.read_text("utf-8")
    card.write_text(text.replace('"majority"', '"majority" ', 1), "utf-8")
    assert outdated(opened) == []  # the same content
    card.write_text(json.dumps(json.loads(text) | {"seconds": -1}), "utf-8")
    assert outdated(opened) == ["majority"]
    assert "majority" in since(opened)[0]
    card.unlink()
    assert outdated(opened) == ["majority"]
    card.write_text(text, "utf-8")
    opened.comparison.write_text(json.dumps({"lines": record["lines"]}), "utf-8")
    assert outdated(opened) == ["majority"]  # of a version that did not record it


def test_all_settings_that_differ_are_named_and_can_be_pasted(project: Path) -> None:
    prepare(Project.open(project))
    other = Project.open(project, ["dataset.seed=5", "dataset.root=elsewhere"])
    with pytest.raises(
        BadInput, match=r"dataset\.root = .*dataset\.seed = 0.*repeat -S .*-S dataset\.seed=0, or"
    ):
        other.read_manifest()
