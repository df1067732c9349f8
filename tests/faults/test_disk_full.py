"""A full disk at every stage: one sentence, exit 2; with space again the run ends well."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from features.store import FeatureStore
from pipeline.project import Project
from tests.conftest import QUICK, REPOSITORY, Cli, bytes_of, make_project, refusal

MEGABYTES = 24


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own; skips where none can be mounted."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Leave so many kilobytes free."""
    ballast = disk / "ballast"
    free = shutil.disk_usage(disk).free - leave * 1024
    with ballast.open("wb") as file:
        file.write(b"\0" * max(0, free))
    return ballast


def project_on(disk: Path, images: Path, weights: Path) -> Project:
    """A quick project on the small disk; its weights, half a gigabyte, lie elsewhere."""
    folder = make_project(disk / "project", [*QUICK, "dataset.name=folder", f"dataset.root={images}"])
    (folder / "artifacts").mkdir()
    (folder / "artifacts" / "weights").symlink_to(weights)
    return Project.open(folder)


def test_cache_and_stores(
    small_disk: Path, images: Path, vgg11_weights: Path, cli: Cli, tmp_path: Path
) -> None:
    project = project_on(small_disk, images, vgg11_weights)
    where = ["--project", project.root]
    cli("prepare", *where)
    # The cache's blocks do not fit
    own = str(small_disk / "cache")
    ballast = fill(small_disk, leave=100)
    said = refusal(cli("extract", *where, code=2, PENULTIMATE_CACHE=own))
    assert "No space left on device" in said
    assert "free some space" in said
    ballast.unlink()
    cli("extract", *where, PENULTIMATE_CACHE=own)
    want = bytes_of(project.features)
    # The stores do not fit: the cache is elsewhere
    shutil.rmtree(project.features)
    for leave in (8, 300):
        ballast = fill(small_disk, leave)
        assert "No space left on device" in refusal(cli("extract", *where, code=2))
        for vouched in project.features.glob("*.sha256"):  # what was finished before is whole
            FeatureStore.open(vouched.with_suffix(".zarr"))
        ballast.unlink()
    cli("extract", *where)
    got = bytes_of(project.features)
    assert got == want


@pytest.mark.parametrize("command", ["prepare", "weights"])
def test_first_stages(command: str, small_disk: Path, images: Path, cli: Cli) -> None:
    folder = make_project(small_disk / "project", [*QUICK, "dataset.name=folder", f"dataset.root={images}"])
    ballast = fill(small_disk, leave=4)
    said = refusal(cli(command, "--project", folder, code=2))
    assert "No space left on device" in said
    ballast.unlink()
    assert not (folder / "artifacts" / "weights").exists()
    if command == "prepare":  # the weights of a whole network never fit here
        cli(command, "--project", folder)


def test_later_stages(small_disk: Path, images: Path, vgg11_weights: Path, cli: Cli) -> None:
    project = project_on(small_disk, images, vgg11_weights)
    where = ["--project", project.root]
    cli("prepare", *where)
    cli("extract", "--layer", "pool5:avg", *where)
    settings = ["-S", "extract.layers=['pool5:avg']", "-S", "extract.pixels=false", "-S", "finetune.modes=[]"]
    stages = (["train", "--head", "logreg"], ["compare"], ["report"])
    heads = [f"heads.{name}=null" for name in ("linear-svm", "rbf-svm", "mlp", "knn", "majority")]
    settings += [part for head in heads for part in ("-S", head)]
    for stage in stages:
        ballast = fill(small_disk, leave=0)
        assert "No space left on device" in refusal(cli(*stage, *where, *settings, code=2))
        ballast.unlink()
        cli(*stage, *where, *settings)


def test_size_limit_of_files(prepared: Project) -> None:
    """The shell's `ulimit -f`: the system refuses to let a file grow."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "import cli; cli.main(['extract', '--layer', 'pool5', '--project', sys.argv[1]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(prepared.root)],
        cwd=REPOSITORY, env=dict(os.environ), capture_output=True, text=True,
    )  # fmt: skip
    assert "File too large" in refusal(done)
