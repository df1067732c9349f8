"""What is said of a method is its own, or that it was trained after the last compare."""

import os
import shutil
from pathlib import Path

import pytest

from pipeline.comparison.compare import compare
from pipeline.comparison.results import results
from pipeline.datasets.prepare import prepare
from pipeline.finetuning.finetune import finetune
from pipeline.project import Project, read_json
from pipeline.records.since import outdated, since
from pipeline.report.report import report
from pipeline.tuning.train import train
from tests.conftest import QUICK, Cli, make_images, make_project, ready
from tests.pipeline.conftest import all_trained

AGAIN = "heads.logreg.C=[0.1]"


MODE = "freeze:conv5_1"


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, vgg11_weights: Path) -> Path:
    """Two heads on two layers, their ensemble and a baseline, compared; with their images, to be copied."""
    folder = tmp_path_factory.mktemp("compared")
    make_images(folder / "images")
    heads = ["heads.linear-svm=null", "heads.rbf-svm=null", "heads.mlp=null", "heads.majority=null"]
    layers = ["extract.layers=[pool5:avg,conv3_2:avg]", "finetune.head_start=random"]
    which = ["dataset.name=folder", "dataset.root=../images"]
    baseline = [f"finetune.modes=['{MODE}']", f"compare.baseline='{MODE}'"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENULTIMATE_CACHE", str(folder / "cache"))
        made = ready(
            make_project(folder / "project", [*QUICK, *which, *layers, *heads, *baseline]), vgg11_weights
        )
        all_trained(made)
    return folder


@pytest.fixture
def compared(once: Path, tmp_path: Path) -> Project:
    """A copy of that project, of this test alone."""
    shutil.copytree(once / "project", tmp_path / "project", copy_function=os.link)  # files appear by renaming
    shutil.copytree(once / "images", tmp_path / "images")
    return Project.open(tmp_path / "project")


def test_numbers_of_a_head_that_was_trained_anew_are_not_said_of_it(
    compared: Project, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outdated(compared) == since(compared) == []
    image, where = compared.dataset_root / "red" / "00.png", ("--project", compared.root)
    assert "test top-1" in cli("predict", image, "--method", "pixels.logreg", *where).stderr

    train(Project.open(compared.root, [AGAIN]), "logreg")
    anew = ["pool5:avg.logreg", "conv3_2:avg.logreg", "pixels.logreg"]
    members = read_json(compared.comparison)["ensemble"]
    assert set(outdated(compared)) == {*anew, *(["ensemble"] if set(members) & set(anew) else [])}
    said = cli("predict", image, "--method", "pixels.logreg", *where).stderr
    assert "pixels.logreg, trained after the last compare" in said
    assert "test top-1" not in said
    assert "test top-1" in cli("predict", image, "--method", "pixels.knn", *where).stderr
    assert "chosen by the last compare" in cli("predict", image, *where).stderr
    capsys.readouterr()
    results(compared)
    assert "methods, pool5:avg.logreg," in " ".join(capsys.readouterr().out.split())
    report(compared)
    assert "trained anew or removed after the last compare" in compared.report.read_text("utf-8")

    again = Project.open(compared.root, [AGAIN])
    compare(again)
    assert since(again) == []
    assert "trained anew" not in cli("results", *where).stdout


def test_a_baseline_that_was_trained_anew_or_is_gone_is_said(compared: Project) -> None:
    finetune(Project.open(compared.root, ["finetune.seed=1"]), (MODE,))
    assert outdated(compared) == [f"finetune.{MODE}"]
    shutil.rmtree(compared.finetune_folder(MODE))
    assert f"finetune.{MODE} was trained anew or removed" in since(compared)[0]


def test_other_images_than_were_compared_are_said(compared: Project) -> None:
    (compared.dataset_root / "red" / "00.png").unlink()
    prepare(compared)
    assert since(compared) == [
        "The images were prepared anew after the last compare, which is of those before."
    ]
