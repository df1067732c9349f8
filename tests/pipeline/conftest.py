"""What tests of training share: one run on a dozen images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.extraction import extraction
from pipeline.finetune import Run
from pipeline.params import parse, read_yaml
from pipeline.project import Project
from pipeline.training import prefix
from pipeline.training.start import Start
from pipeline.training.trainer import Recipe, Task

CPU = torch.device("cpu")


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

    def make(mode: str, recipe: Recipe = Recipe(0.01, 0.1), images: int = 12, **changes: object) -> Task:  # noqa: B008
        project = with_settings(prepared, **({"batch_size": 4, "head_start": "random"} | changes))
        manifest = project.read_manifest()
        run = Run(project, manifest, mode)
        plan = extraction(project, manifest, [run.top], ("none",))
        start = Start(project, plan, run.mode, run.top, CPU)
        return replace(
            run._task("run-0", recipe, start, prefix.feed(project, manifest, run.mode, run.choice)[0]),
            rows=manifest.where("train")[:images],
            validation=manifest.where("validation")[:6],
            epochs=3,
            file=tmp_path / "checkpoint.safetensors",
        )

    return make
