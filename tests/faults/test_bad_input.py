"""Bad input on the command line: exit 2, one sentence, no traceback, nothing half-made."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.project import Project
from tests.conftest import QUICK, REPOSITORY, Cli, make_project, refusal


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["extract", "--layer", "fc77"], "did you mean 'fc7'"),
        (["run", "-S", "extract.layers=[conv9_1]"], "there is no layer 'conv9_1'"),
        (["run", "-S", "extract.dtyp=float16"], "did you mean 'extract.dtype'"),
        (["train", "--head", "logrge"], "there is no 'logrge'"),
        (["finetune", "-S", "finetune.modes=[freeze:conv6_1]"], "did you mean 'freeze:conv5_1'"),
        (["finetune", "-S", "finetune.learning_rate=fast"], "finetune.learning_rate"),
        (["finetune", "-S", "finetune.learning_rate=[]"], "finetune.learning_rate"),
        (["run", "-S", "dataset.at_most=[5]"], "dataset.at_most"),
        (["prepare", "-S", "dataset.root=/nowhere/at/all"], "there is no folder /nowhere/at/all"),
        (["prepare", "-S", "dataset.name=mnist"], "set dataset.download=true"),
        (["prepare", "-S", "dataset.name=csv"], "there is no table"),
        (
            ["weights", "-S", "weights.sources=[file]", "-S", "weights.file=/nowhere.pth"],
            "no file /nowhere.pth",
        ),
    ],
)
def test_names_that_do_not_exist(arguments: list[str], said: str, project: Path, cli: Cli) -> None:
    assert said in refusal(cli(*arguments, "--project", project, code=2))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["finetune", "--mode", "freze:conv4_1"], "did you mean 'freeze:conv4_1'"),
        (["finetune", "--mode", "full", "-S", "finetune.batch_size=4096"], "there are 38 train images"),
        (["sweep-cut", "--cut", "freeze:fc8"], "there is no mode 'freeze:fc8'"),
        (["advise"], "run `extract` first"),
    ],
)
def test_modes_that_cannot_be_trained(arguments: list[str], said: str, prepared: Project, cli: Cli) -> None:
    assert said in refusal(cli(*arguments, "--project", prepared.root, code=2))


def test_project_that_does_not_exist(tmp_path: Path, cli: Cli) -> None:
    assert "params.yaml; --project names the folder" in refusal(
        cli("prepare", "--project", tmp_path / "none", code=2)
    )


def test_no_images(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "empty").mkdir()
    project = make_project(
        tmp_path / "p", [*QUICK, "dataset.name=folder", f"dataset.root={tmp_path / 'empty'}"]
    )
    assert "no images found" in refusal(cli("run", "--project", project, code=2))
    assert not (project / "artifacts" / "manifest.csv").exists()


def test_strict_refuses_unreadable_images(project: Path, images: Path, cli: Cli) -> None:
    (images / "red" / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    assert "--strict: 1 images are not usable" in refusal(
        cli("prepare", "--strict", "--project", project, code=2)
    )
    assert "1 images set aside" in cli("prepare", "--project", project).stdout


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x02]q\x00."])
def test_damaged_weights_file(content: bytes, project: Path, tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "mine.pth"
    file.write_bytes(content)
    options = ["-S", "weights.sources=[file]", "-S", f"weights.file={file}"]
    assert "mine.pth" in refusal(cli("weights", "--project", project, *options, code=2))
    assert not (project / "artifacts" / "weights").exists()


def test_output_that_cannot_be_written(project: Path, cli: Cli) -> None:
    (project / "artifacts").write_text("a file stands where the folder should be")
    assert "artifacts" in refusal(cli("prepare", "--project", project, code=2))


def test_shell_characters_are_data(project: Path, tmp_path: Path, cli: Cli) -> None:
    override = f"dataset.root=$(touch {tmp_path / 'canary'}); echo"
    refusal(cli("prepare", "--project", project, "-S", override, code=2))
    assert not (tmp_path / "canary").exists()


def test_wrong_python_is_told_what_to_do(cli: Cli, project: Path, tmp_path: Path) -> None:
    # An interpreter without the dependencies: what `dvc repro` meets outside the environment
    fake = tmp_path / "site"
    fake.mkdir()
    (fake / "pydantic.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'pydantic'\", name='pydantic')"
    )
    said = refusal(cli("prepare", "--project", project, code=2, PYTHONPATH=str(fake)))
    assert "pydantic is not installed" in said
    assert "make" in said


def test_interrupt_is_130_and_the_next_run_goes_on(prepared: Project, cli: Cli) -> None:
    command = [sys.executable, "-u", str(REPOSITORY / "cli.py"), "extract", "--project", str(prepared.root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "device cpu" in process.stdout.readline()  # the work has begun
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "interrupted" in said
    cli("extract", "--project", prepared.root)


def test_output_that_is_closed_or_cannot_show_a_letter_ends_no_command(project: Path, cli: Cli) -> None:
    shown = cli("prepare", "--project", project, PYTHONIOENCODING="ascii").stdout
    assert shown.startswith("prepare: 60 images")
    assert shown.isascii()
    assert "\\u2192" in shown  # the arrow before the manifest's name
    script = REPOSITORY / "cli.py"
    command = f'"{sys.executable}" "{script}" cache info --project "{project}"'
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        done = subprocess.run(["sh", "-c", f"{command} {closed}"], capture_output=True, text=True)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
