"""The sweep of the cut: what it trains, what it writes, which cut it names."""

import json

import numpy as np
import pytest

from features.errors import BadInput
from pipeline.finetuning.plan import Plan
from pipeline.project import Project
from pipeline.records.predictions import Predictions
from pipeline.studies.sweep_cut import Cut, best, picture, sweep_cut, words


def test_sweeps_seeds_and_trains_nothing_twice(prepared: Project, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("full", "freeze:conv5_2")
    sweep_cut(prepared, names, seeds=2)
    record = json.loads((prepared.studies / "cut.json").read_text("utf-8"))
    assert [cut["mode"] for cut in record["cuts"]] == list(names)
    picture_before = (prepared.studies / "cut.svg").read_bytes()
    for cut in record["cuts"]:
        run = Plan(prepared, prepared.read_manifest(), cut["mode"]).folder  # of the first seed
        held = Predictions.read(run / "predictions.npz")
        assert cut["test_top1"][0] == (held.proba.argmax(axis=1) == held.label).mean()
        assert len(cut["validation_top1"]) == len(cut["seconds"]) == 2
    assert record["cuts"][1]["prefix"]["cached"]
    assert not record["cuts"][0]["prefix"]["cached"]
    capsys.readouterr()
    sweep_cut(prepared, names, seeds=2)
    shown = capsys.readouterr().out
    assert shown.count("was trained before") == 4
    assert "(random)" in shown  # weights that are not trained are labelled
    assert (prepared.studies / "cut.svg").read_bytes() == picture_before
    with pytest.raises(BadInput, match="--seeds should be at least 1"):
        sweep_cut(prepared, names, seeds=0)


def cut(mode: str, validation: tuple[float, ...], trainable: int) -> Cut:
    runs, seconds = ("",) * len(validation), (1.0,) * len(validation)
    return Cut(
        mode, runs, "imagenet", trainable, validation, validation, validation, seconds, 2.0, cached=True
    )


def test_validation_chooses_and_what_is_close_is_said() -> None:
    cuts = [
        cut("full", (0.9, 0.92, 0.94), 100),
        cut("freeze:conv3_1", (0.90, 0.905, 0.91), 50),
        cut("freeze:conv4_1", (0.915, 0.92, 0.925), 20),
        cut("freeze:conv5_1", (0.5, 0.5, 0.5), 10),
    ]
    assert best(cuts).mode == "freeze:conv4_1"  # as good as full in the mean, and trains less
    assert words(cuts).startswith("Best on validation rows: conv4_1 (92.0 %, test 92.0 %)")
    assert words(cuts).endswith("spread over seeds: full.")
    axes = picture(cuts).axes[0]
    heights = {float(y) for line in axes.get_lines() for y in np.atleast_1d(line.get_ydata())}
    assert {92.0, 50.0} <= {round(y, 6) for y in heights}  # in percent
