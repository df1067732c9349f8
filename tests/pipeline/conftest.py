"""What tests share: one run of training on a dozen images, and a project in which all is trained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.comparison.compare import compare
from pipeline.finetuning.feed import open_feed
from pipeline.finetuning.finetune import finetune
from pipeline.finetuning.plan import Hyperparameters, Plan
from pipeline.finetuning.run import tasks_of
from pipeline.finetuning.start import StartingModel
from pipeline.finetuning.trainer import Task
from pipeline.params import parse, read_yaml
from pipeline.project import Project
from pipeline.stores.extract import extract
from pipeline.stores.recipe import extraction_of
from pipeline.tuning.train import train
from tests.conftest import QUICK, make_project, ready

CPU, PAIR = torch.device("cpu"), Hyperparameters(0.01, 0.1)
NASTY = ("<img src=x onerror=alert(1)>", "[bold]猫", "قطة")  # classes of `finished`


def with_settings(project: Project, **changes: object) -> Project:
    """The same project with other values under `finetune`, float32 in the cache, and torch's engine."""
    content = read_yaml(project.root / "params.yaml")
    content["extract"] |= {"dtype": "float32", "engine": "torch"}
    for name, value in changes.items():
        section = "extract" if name == "views" else "finetune"
        content[section][name] = value
    return Project(project.root, parse(content, "params.yaml"))


@pytest.fixture
def task(prepared: Project, tmp_path: Path) -> Callable[..., Task]:
    """Make a task of a mode; 12 images in steps of 4 unless told otherwise."""

    def make(mode: str, pair: Hyperparameters = PAIR, images: int = 12, **changes: object) -> Task:
        project = with_settings(prepared, **({"batch_size": 4, "head_start": "random"} | changes))
        manifest = project.read_manifest()
        plan = Plan(project, manifest, mode)
        start = StartingModel(plan, extraction_of(project, manifest, [plan.top], ("none",)), CPU)
        return replace(
            tasks_of(plan, start, open_feed(plan)[0])[0],
            hyperparameters=pair,
            rows=manifest.where("train")[:images],
            validation=manifest.where("validation")[:6],
            epochs=3,
            file=tmp_path / "checkpoint.safetensors",
        )

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, vgg11_weights: Path) -> Project:
    """A quick project with every head, a baseline and a comparison; for reading only."""
    folder, rng = tmp_path_factory.mktemp("finished"), np.random.default_rng(0)
    for name, colour in zip(NASTY, ((30, 60, 200), (90, 120, 120), (200, 50, 40)), strict=True):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(rng.normal(colour + rng.normal(0, 50, 3), 70, (40, 48, 3)), 0, 255).astype(
                np.uint8
            )
            Image.fromarray(pixels).save(folder / "images" / name / f"{number:02}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENULTIMATE_CACHE", str(folder / "cache"))
        settings = [f"dataset.root={folder / 'images'}", "dataset.name=folder", "finetune.modes=[full]"]
        layers = ["extract.layers=[pool5,conv3_2:avg]", "finetune.head_start=random"]
        project = ready(make_project(folder / "project", [*QUICK, *settings, *layers]), vgg11_weights)
        return all_trained(project)


def all_trained(project: Project) -> Project:
    """Run every stage on a prepared project."""
    extract(project, project.layers)
    for head in project.settings.heads.named():
        train(project, head)
    finetune(project, project.settings.finetune.modes)
    compare(project)
    return project


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, vgg11_weights: Path) -> Project:
    """A quick project with three heads on one layer and a fine-tuned network, not compared."""
    folder, rng = tmp_path_factory.mktemp("served"), np.random.default_rng(0)
    for name, colour in (("blue", (90, 100, 160)), ("red", (130, 100, 90))):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(rng.normal(colour, 70, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number:02}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENULTIMATE_CACHE", str(folder / "cache"))
        settings = ["dataset.name=folder", f"dataset.root={folder / 'images'}", "extract.pixels=false"]
        layers = [
            "extract.layers=[conv3_2]",
            "heads.mlp=null",
            "heads.linear-svm=null",
            "finetune.modes=[full]",
        ]
        project = ready(make_project(folder / "project", [*QUICK, *settings, *layers]), vgg11_weights)
        extract(project, project.layers)
        for head in ("logreg", "rbf-svm", "knn"):
            train(project, head)
        finetune(project, ["full"])
        return project
