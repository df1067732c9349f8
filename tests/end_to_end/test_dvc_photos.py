"""The DVC commands that documents show, in their order, on images that lie in the checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import QUICK, REPOSITORY, commit, make_project
from tests.documented import Command, documented

FEW = ["extract.layers=[pool5]", "extract.pixels=false", "finetune.modes=[]"]


@pytest.fixture
def photos(checkout: Path, images: Path) -> Path:
    """A checkout whose images are to be copied to `data/photos`, as its params.yaml has it."""
    make_project(checkout, [*QUICK, *FEW, "dataset.name=folder", "dataset.root=data/photos"])
    text = (checkout / "params.yaml").read_text("utf-8")
    for head in ("linear-svm", "rbf-svm", "knn"):  # each is a stage, of seconds
        text = re.sub(rf"^  {head}:\n(    .*\n)+", "", text, flags=re.MULTILINE)
    (checkout / "params.yaml").write_text(text, "utf-8")
    for key, value in (("user.name", "t"), ("user.email", "t@example.org")):
        subprocess.run(["git", "config", key, value], cwd=checkout, check=True)
    commit(checkout)
    return checkout


def shell(text: str, folder: Path) -> str:
    """Type a line; the environment's programs come first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        text, shell=True, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{text}\n{said}"
    return said


def shown(page: str, *, begins: tuple[str, ...]) -> list[str]:
    """A page's commands that begin so, in their order; names of commands alone are none."""
    found: list[Command] = [each for each in documented() if each.page == page]
    return [each.text for each in found if each.text.startswith(begins) and len(each.text.split()) > 1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_your_images_under_dvc(photos: Path, images: Path) -> None:
    page = (REPOSITORY / "docs" / "your-images.md").read_text("utf-8")
    step = page[page.index("## 7. Under DVC") :]
    lines = [line for block in re.findall(r"```sh\n(.*?)```", step, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 11
    said = {line: shell(line.replace("/path/to/photos", str(images)), photos) for line in lines}
    every = "".join(said.values())
    assert "is empty" not in every
    assert "pool5.logreg" in every
    temp = next(text for line, text in said.items() if "--temp" in line)
    assert re.findall(r"Running stage '([^']+)'", temp) == ["train@logreg", "compare", "report"]
    queued = next(text for line, text in said.items() if "--run-all" in line)
    assert "train: mlp is switched off (heads.mlp is null)" in queued
    assert "git-ignored" not in every
    # One image more: the experiment's folder has it, too
    shutil.copy2(images / "red" / "00.png", photos / "data" / "photos" / "blue" / "new.png")
    for line in ("dvc add data/photos", "dvc repro prepare", "dvc status prepare"):
        again = shell(line, photos)
    assert "up to date" in again


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_day_with_dvc(photos: Path, images: Path) -> None:
    shutil.copytree(images, photos / "data" / "photos")
    (photos / ".venv").mkdir()
    shell("touch -d '2100-01-01' .venv/.installed", photos)  # the environment is the one that runs this
    assert "pool5.logreg" in shell("make", photos)
    shell("git add -A && git commit -qm results", photos)
    lines = shown("README.md", begins=("dvc ",))
    assert len(lines) >= 4
    said = {line: shell(line, photos) for line in lines}
    assert re.findall(r"Running stage '([^']+)'", said["dvc exp run -S 'heads.logreg.C=[0.1,1,10]'"])[0] == (
        "train@logreg"
    )
    assert "switched off" in shell("dvc exp run -S heads.mlp=null", photos)
    shell("! dvc exp run -S heads.mpl=null", photos)  # a name that there is not
