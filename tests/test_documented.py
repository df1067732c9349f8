"""Every command that documents show can be typed; what is quick is run, on one small project."""

import os
import re
import shlex
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from dvc.cli import parse_args
from dvc.utils.hydra import apply_overrides
from PIL import Image
from ruamel.yaml import YAML

import cli
from pipeline.params import load
from tests.conftest import QUICK, REPOSITORY, make_project
from tests.documented import Command, documented

PARAMS = REPOSITORY / "params.yaml"
OURS = "python cli.py "
# What is shown and cannot be taken as it stands, with the reason
NO_COMMAND = {
    "python cli.py COMMAND --help": "COMMAND stands for any",
    **dict.fromkeys(("dvc add", "dvc plots", "dvc remote add"), "a command's name alone"),
    "dvc exp run -S train.lr=1e-3": "of another project, in a table beside ours",
}
# What is not run here, by how it begins, with the reason; all are checked in the ways below
NOT_RUN = {
    "make": "installs six gigabytes, or is this suite; its recipes are listed by make itself, see below",
    ".ci/run": "is this suite",
    "source": "the environment is the one that runs this",
    "pip install": "asks a package index",
    "uvicorn": "tests/pipeline/predict/test_server.py",
    "gunicorn": "tests/pipeline/predict/test_server.py",
    "curl": "tests/pipeline/predict/test_server.py asks with a client of its own",
    "python -m benchmarks": "takes minutes, and its numbers are for a quiet machine",
    "python -m pytest": "is this suite",
    "python -m docs.parameters": "test_docs.py compares what it writes",
    "dvc": "a slow test goes through them, in tests/end_to_end/test_dvc_photos.py",
    "git": "as dvc",
    "mkdir": "what it makes is made by the fixture",
    "cp": "what it copies is copied by the fixture",
    "python cli.py run --project experiments/digits": "needs MNIST; its settings are parsed",
    "python cli.py sweep-cut --project experiments/digits": "needs MNIST; its settings are parsed",
    "python cli.py run": "slow, see below",
    "python cli.py finetune": "slow, see below",
    "python cli.py sweep-cut": "slow, see below",
    "python cli.py curve": "slow, see below",
    "python cli.py extract --profile": "slow, see below",
}
COMMANDS = [command for command in documented() if command.text not in NO_COMMAND]


def begins(text: str) -> str | None:
    """Which entry of NOT_RUN a command falls under."""
    return next((how for how in NOT_RUN if f"{text} ".startswith((f"{how} ", f"{how}."))), None)


RUN = list(dict.fromkeys(each.text for each in COMMANDS if not begins(each.text)))
LATER = [each.text for each in COMMANDS if NOT_RUN.get(begins(each.text) or "") == "slow, see below"]
SLOW = list(dict.fromkeys(LATER))


def named(command: Command) -> str:
    return f"{command.page}: {command.text}"


def test_commands_are_found_and_every_reason_is_needed() -> None:
    assert len(COMMANDS) > 60
    assert {"README.md", "params.yaml", "docs/predict.md"} <= {command.page for command in COMMANDS}
    shown = {command.text for command in documented()}
    assert set(NO_COMMAND) <= shown
    assert {begins(command.text) for command in COMMANDS} - {None} == set(NOT_RUN)
    assert all(text.startswith(OURS) or "| python cli.py" in text for text in RUN)


@pytest.mark.parametrize("command", [each for each in COMMANDS if OURS in each.text], ids=named)
def test_our_options_exist_and_their_values_are_taken(command: Command) -> None:
    parsed = parse(shlex.split(command.text.partition(OURS)[2]))
    folder = parsed.params.get("folder", REPOSITORY)
    params = folder / "params.yaml" if str(folder).startswith("experiments") else PARAMS
    load(REPOSITORY / params, parsed.params.get("overrides", ()))


def parse(arguments: list[str]) -> click.Context:
    """Go through click's own parsing, down to the command, and run nothing."""
    command: click.Command = cli.main
    context = None
    while True:
        context = command.make_context(command.name, arguments, parent=context)
        if not isinstance(command, click.Group):
            return context
        name, found, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found, name
        command = found


@pytest.mark.parametrize("command", [e for e in COMMANDS if e.text.startswith("dvc ")], ids=named)
def test_dvc_takes_its_options_and_our_parameters(command: Command, tmp_path: Path) -> None:
    asked = parse_args(shlex.split(command.text)[1:])
    own = tmp_path / "params.yaml"
    shutil.copy2(PARAMS, own)
    overrides = getattr(asked, "set_param", None) or []
    for override in overrides:  # as DVC writes them into the file
        apply_overrides(own, [override])
    settings = load(own)
    assert not overrides or settings != load(PARAMS)
    stages = YAML(typ="safe", pure=True).load((REPOSITORY / "dvc.yaml").read_text("utf-8"))["stages"]
    if asked.cmd in ("repro", "exp"):
        assert {target.partition("@")[0] for target in getattr(asked, "targets", None) or ()} <= set(stages)


@pytest.mark.parametrize("command", [e for e in COMMANDS if e.text.startswith("python -m ")], ids=named)
def test_modules_exist(command: Command) -> None:
    assert find_spec(command.text.split()[2])


@pytest.mark.parametrize("command", [e for e in COMMANDS if f"{e.text} ".startswith("make ")], ids=named)
def test_make_knows_its_targets(command: Command) -> None:
    done = subprocess.run(["make", "-n", *command.text.split()[1:]], cwd=REPOSITORY, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the documents have it: a project that has run, another one `clothes`, new images."""
    folder = tmp_path_factory.mktemp("documented")
    rng = np.random.default_rng(0)
    for name, colour in (("hat", (30, 60, 200)), ("shoes", (40, 180, 60)), ("shorts", (200, 50, 40))):
        for number in range(20):
            path = folder / "photos" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.clip(rng.normal(colour, 40, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(path)
    (folder / "new").mkdir()
    for name in ("photo.jpg", "new.jpg", "new/hat-new.jpg", "new/shoes-new.jpg", "new/shorts-new.jpg"):
        Image.new("RGB", (40, 48), "red").save(folder / name)
    table = [
        f"{path.relative_to(folder / 'photos')},{path.parent.name}" for path in folder.glob("photos/*/*")
    ]
    (folder / "photos" / "images.csv").write_text("\n".join(["path,label", *sorted(table)]), "utf-8")
    few = ["extract.layers=[pool5, 'pool5:avg']", "finetune.modes=['freeze:pool5']"]
    where = ["dataset.name=folder", f"dataset.root={folder / 'photos'}", "compare.baseline=freeze:pool5"]
    make_project(folder, [*QUICK, *few, *where])
    made = type_in(folder, "python cli.py run")
    assert made.exit_code == 0, made.output
    (folder / "clothes").mkdir()
    shutil.copy2(folder / "params.yaml", folder / "clothes")
    for name in ("artifacts", "report"):
        shutil.copytree(folder / name, folder / "clothes" / name, copy_function=os.link)
    return folder


def type_in(folder: Path, text: str) -> click.testing.Result:
    """Run one of our commands as it is shown, in that folder, whose cache is its own."""
    before, _, arguments = text.rpartition(OURS)
    words = shlex.split(arguments.replace("/path/to/photos", str(folder / "photos")))
    if "--project" not in words:
        words += ["--project", "."]
    given = None
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PENULTIMATE_CACHE", str(folder / "cache"))
        if before:  # a pipe
            given = subprocess.run(before.rstrip("| "), shell=True, capture_output=True, check=True).stdout
        return CliRunner().invoke(cli.main, words, input=given)


@pytest.mark.parametrize("text", RUN)
def test_what_is_quick_runs(text: str, place: Path) -> None:
    done = type_in(place, text)
    if "doctor" in text and done.exit_code == 1:  # it may find this machine wanting
        assert re.search(r"doctor: \d+ ", done.output)
        return
    if "advise" in text:  # the network here is untrained, on purpose
        assert "no layer here has trained weights" in done.output
        return
    assert done.exit_code == 0, done.output


@pytest.mark.slow
@pytest.mark.parametrize("text", SLOW)
def test_what_takes_long_runs(text: str, place: Path) -> None:
    if not text.startswith("python cli.py run"):  # one with -S leaves other settings' results behind
        assert type_in(place, "python cli.py run").exit_code == 0
    done = type_in(place, text.replace("conv4_3", "conv4_2"))  # the last of that block in a vgg11
    assert done.exit_code == 0, done.output
