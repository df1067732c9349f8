"""Several random seeds of one method: what is trained, kept, compared and asked for."""

import json
from pathlib import Path

import numpy as np
import pytest

from features.errors import BadInput
from pipeline.comparison.compare import compare
from pipeline.finetuning.finetune import finetune
from pipeline.project import Project
from pipeline.records.predictions import Predictions
from pipeline.records.seeds import FILE, read_seeds
from pipeline.statistics.metrics import mean_of_runs
from pipeline.stores.extract import extract
from pipeline.studies.sweep_cut import sweep_cut
from pipeline.tuning.train import train

MODE = "freeze:conv5_2"
FEW = ["heads.linear-svm=null", "heads.rbf-svm=null", "heads.knn=null", f"finetune.modes=[{MODE}]",
       "finetune.top=pool5", "extract.layers=[pool5]", "extract.pixels=false"]  # fmt: skip


def reopened(project: Project, *overrides: str) -> Project:
    return Project.open(project.root, [*FEW, *overrides])


def test_of_a_head_only_what_is_random_seeds_anew(prepared: Project) -> None:
    project = reopened(prepared, "compare.seeds=3")
    extract(project, project.layers)
    for head in ("logreg", "mlp"):
        train(project, head)
    folder = project.head_folder("mlp") / "pool5.mlp"
    seeds = read_seeds(folder)
    assert [seed.seed for seed in seeds] == [0, 1, 2]
    assert seeds[0].test_top1 == Predictions.read(folder / "predictions.npz").correct.mean()
    card = json.loads((folder / "card.json").read_text("utf-8"))
    assert seeds[0].validation_top1 == card["validation"]["top1"]
    assert read_seeds(project.head_folder("logreg") / "pool5.logreg") == []
    # The second start is what the head is with that seed of its own
    alone = reopened(prepared, "heads.mlp.seed=1")
    train(alone, "mlp")
    assert seeds[1].test_top1 == Predictions.read(folder / "predictions.npz").correct.mean()


def test_further_runs_of_a_baseline_are_shared_with_the_sweep_and_compared(
    prepared: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project = reopened(prepared, "compare.seeds=2", "heads.logreg=null", "heads.mlp=null",
                       f"compare.baseline={MODE}")  # fmt: skip
    extract(project, project.layers)
    train(project, "majority")
    finetune(project, (MODE,))
    seeds = read_seeds(project.finetune_folder(MODE))
    capsys.readouterr()
    cut = sweep_cut(project, (MODE,), seeds=2)[0]
    assert capsys.readouterr().out.count("was trained before") == 2
    assert cut.test == tuple(seed.test_top1 for seed in seeds)
    line = next(line for line in compare(project) if line.method == f"finetune.{MODE}")
    assert line.top1 == seeds[0].test_top1  # no start is chosen
    assert line.seed_top1 == [seed.test_top1 for seed in seeds]
    assert line.seeds == mean_of_runs(line.seed_top1)
    assert np.isclose(line.seeds.value, np.mean(cut.test))
    more = reopened(prepared, "compare.seeds=3", "heads.logreg=null", "heads.mlp=null")
    with pytest.raises(BadInput, match=r"from 2 seeds, and compare.seeds is 3; run `python cli.py finetune"):
        compare(more)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('[{"seed": 0}]', "utf-8")
    with pytest.raises(BadInput, match=r"seeds\.json is damaged"):
        read_seeds(tmp_path)
