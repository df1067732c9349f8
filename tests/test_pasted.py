"""Commands that messages print work where they are printed: from any folder, in the same project."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli import HERE, pasted
from tests.conftest import REPOSITORY, Cli, make_project, refusal


@pytest.mark.parametrize("odd", ["project", "it's a $HOME", "猫 #2"])
def test_a_remedy_is_pasted_from_another_folder(odd: str, images: Path, tmp_path: Path, cli: Cli) -> None:
    make_project(tmp_path / odd, [])
    images.rename(tmp_path / "my  photos")  # two spaces
    given = ["-S", "dataset.name=folder", "-S", f"dataset.root={tmp_path}/my  photos"]
    said = refusal(cli("extract", "--project", odd, *given, code=2))  # relative to the folder it runs in
    (remedy,) = re.findall("run `(.*?)` first", said)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        remedy, shell=True, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / odd / "artifacts" / "manifest.csv").read_text("utf-8").count("\n") == 61
    assert "run `python" in refusal(cli("extract", "--project", odd, *given, code=2))  # and the next: weights


def test_in_the_checkout_a_command_is_as_the_documents_have_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert pasted("run `python cli.py prepare` first", "") == "run `python cli.py prepare` first"
    monkeypatch.chdir(tmp_path)
    assert pasted("`python cli.py train -S a=1`", " -S a=2") == f"`python {HERE / 'cli.py'} train -S a=1`"
