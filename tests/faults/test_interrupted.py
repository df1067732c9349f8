"""An extraction that is killed anywhere, by any means, and run again: the same bytes, nothing twice."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from features.errors import BadInput
from features.publish import delete
from pipeline.project import Project
from pipeline.stores.extract import extract
from tests.conftest import QUICK, REPOSITORY, bytes_of, commit, dvc, make_project


def command(project: Project) -> list[str]:
    return [sys.executable, str(REPOSITORY / "cli.py"), "extract", "--project", str(project.root)]


def seconds_alone(project: Project, environment: dict[str, str]) -> float:
    started = time.monotonic()
    subprocess.run(command(project), env=environment, check=True, capture_output=True)
    return time.monotonic() - started


def kill_and_go_on(project: Project, cache: Path, kills: int, seed: int) -> None:
    """Kill real extractions at random moments; after each, a run must end in the undisturbed bytes."""
    environment = {**os.environ, "PENULTIMATE_CACHE": str(cache)}
    stores = [project.features / f"{layer.stem}.zarr" for layer in project.layers]
    longest = seconds_alone(project, environment)
    want = bytes_of(project.features)
    draw = random.Random(seed)
    for kill in range(kills):
        for store in stores:
            delete(store)
        if kill % 2 == 0:  # every second kill finds the cache empty, the others publish only
            shutil.rmtree(cache)
        process = subprocess.Popen(
            command(project), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # The interpreter's start, in which nothing can go wrong, is most of it: aim behind it
        time.sleep(longest * draw.uniform(0.35, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        subprocess.run(command(project), env=environment, check=True, capture_output=True)
        assert bytes_of(project.features) == want, f"kill {kill} of seed {seed}"
        left_over = list((project.artifacts / ".scratch").rglob("*.partial"))
        assert left_over == []


def test_killed_extractions_go_on_to_the_same_bytes(prepared: Project, tmp_path: Path) -> None:
    kill_and_go_on(prepared, tmp_path / "own cache", kills=4, seed=int(time.time()))


def kill_training(project: Project, root: Path, mode: str, kills: int, seed: int) -> None:
    """Kill real fine-tuning at random moments, run it again to its end: the undisturbed bits."""
    options = ["finetune", "--mode", mode, "--project", str(project.root)]
    for setting in ("epochs=4", "learning_rate=[0.001,0.0001]"):
        options += ["-S", f"finetune.{setting}"]
    whole = [sys.executable, str(REPOSITORY / "cli.py"), *options]

    def trained(cache: Path, after: float | None = None) -> tuple[float, dict[str, bytes]]:
        environment = {**os.environ, "PENULTIMATE_CACHE": str(cache)}
        started = time.monotonic()
        process = subprocess.Popen(
            whole, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after)
        process.send_signal(signal.SIGKILL)
        process.wait()
        folder = project.finetune_folder(mode)
        files = {
            file.name: file.read_bytes()
            for file in folder.glob("*")
            if file.suffix in (".safetensors", ".npz")
        }
        return time.monotonic() - started, files

    longest, want = trained(root / "undisturbed")
    assert len(want) == 2
    draw = random.Random(seed)
    for kill in range(kills):
        cache = root / f"cache {kill}"
        shutil.rmtree(project.finetune_folder())
        trained(cache, longest * draw.uniform(0.4, 1.0))
        assert trained(cache)[1] == want, f"kill {kill} of seed {seed}"
        assert not (cache / "checkpoints").exists() or not list((cache / "checkpoints").iterdir())
        shutil.rmtree(cache)


def test_killed_training_goes_on_to_the_same_bits(prepared: Project, tmp_path: Path) -> None:
    extract(prepared, prepared.layers)
    kill_training(prepared, tmp_path, "freeze:conv4_1", kills=2, seed=int(time.time()))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", ["full", "scratch"])
def test_ten_kills_of_training(prepared: Project, tmp_path: Path, mode: str) -> None:
    extract(prepared, prepared.layers)
    kill_training(prepared, tmp_path, mode, kills=10, seed=int(time.time()))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thirty_kills(prepared: Project, tmp_path: Path) -> None:
    kill_and_go_on(prepared, tmp_path / "own cache", kills=30, seed=int(time.time()))


def test_what_was_computed_before_an_error_is_kept(
    prepared: Project, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks are written behind the network: an error in a later round loses none of them."""
    monkeypatch.setattr("features.forward.BLOCK_IMAGES", 16)
    monkeypatch.setattr("features.engines.winograd.engine.WinogradEngine.batch", 16)
    victim = images / "red" / "00.png"  # row 40, in the third of four rounds
    victim.rename(images / "elsewhere")
    with pytest.raises(BadInput, match=r"red/00\.png is gone"):
        extract(prepared, prepared.layers)
    (images / "elsewhere").rename(victim)
    extract(prepared, prepared.layers)
    record = json.loads(prepared.extract_record.read_text("utf-8"))
    assert record["images_run_through_network"] == 60 - 32


def test_interrupt_while_publishing_is_130(prepared: Project, tmp_path: Path) -> None:
    extract(prepared, prepared.layers)
    want = bytes_of(prepared.features)
    for layer in prepared.layers:
        delete(prepared.features / f"{layer.stem}.zarr")
    # A publication that takes its time: each shard waits
    code = (
        "import sys, time, cli, features.publish as publish\n"
        "write = publish.write_shard\n"
        "def slow(*arguments):\n"
        "    print('writing', flush=True); time.sleep(3); return write(*arguments)\n"
        "publish.write_shard = slow\n"
        "cli.main(['extract', '--project', sys.argv[1]])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(prepared.root)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    while "writing" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    subprocess.run(command(prepared), check=True, capture_output=True)
    assert bytes_of(prepared.features) == want


def test_two_extractions_at_once(prepared: Project, tmp_path: Path) -> None:
    """In one project the second is refused; in two projects with one cache both end in the same bytes."""
    other = tmp_path / "other"
    shutil.copytree(prepared.root, other, copy_function=os.link)
    start = [
        subprocess.Popen(command(project), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for project in (prepared, prepared, Project.open(other))
    ]
    said = [process.communicate(timeout=120)[1] for process in start]
    codes = [process.returncode for process in start]
    assert codes[2] == 0, said[2]
    assert sorted(codes[:2]) in ([0, 2], [0, 0])  # both, where the first was done before the second began
    for code, text in zip(codes[:2], said[:2], strict=True):
        assert code == 0 or "another process is writing" in text
    assert bytes_of(other / "artifacts" / "features") == bytes_of(prepared.features)


def test_a_writer_that_lost_its_parent_keeps_others_out(prepared: Project) -> None:
    """What `kill -9` of DVC leaves: the stage's process goes on, and a second run must not join it."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from pipeline.project import Project\n"
        "project = Project.open(Path(sys.argv[1]))\n"
        "with project.writing(project.features):\n"
        "    print('locked', flush=True); time.sleep(60)"
    )
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}, {str(prepared.root)!r}])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    process.kill()  # the parent only
    process.wait()
    done = subprocess.run(command(prepared), capture_output=True, text=True)
    assert done.returncode == 2
    assert "another process is writing" in done.stderr
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()  # ends when the last that holds the pipe is gone
    subprocess.run(command(prepared), check=True, capture_output=True)


def test_a_stage_killed_together_with_dvc_goes_on(checkout: Path, images: Path) -> None:
    make_project(checkout, [*QUICK, "dataset.name=folder", f"dataset.root={images}"])
    commit(checkout)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    repro = [sys.executable, "-m", "dvc", "repro", "extract"]
    process = subprocess.Popen(
        repro, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    while "images 32 × 32" not in process.stdout.readline():  # the extraction has begun
        pass
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (checkout / "artifacts" / "features" / "pool5.sha256").exists()
    dvc(checkout, "repro", "extract")
    project = Project.open(checkout)
    assert all(project.store(layer, project.read_manifest()) for layer in project.layers)
