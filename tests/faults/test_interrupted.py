"""An extraction that is killed anywhere, by any means, and run again: the same bytes, nothing twice."""

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
from tests.conftest import QUICK, REPOSITORY, Cli, bytes_of, dvc, make_project, ready

SEED = 20240229  # of the moments at which is killed


def command(project: Project, *arguments: str) -> list[str]:
    script, where = str(REPOSITORY / "cli.py"), ["--project", str(project.root)]
    return [sys.executable, "-u", script, *(arguments or ("extract",)), *where]


def until(words: str, process: "subprocess.Popen[str]") -> None:
    """Wait for a line of a process that holds these words."""
    assert process.stdout is not None
    assert any(words in line for line in process.stdout), f"{process.args!r} never says {words!r}"


def killed_at_work(
    arguments: list[str], environment: dict[str, str], begun: str, last: int, draw: random.Random
) -> bool:
    """Start a command, kill it when it has said `begun` and a random number of lines (up to `last`) more.

    Returns whether that ended it.
    """
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    until(begun, process)
    for _ in range(draw.randint(0, last)):
        until("", process)
    time.sleep(draw.uniform(0, 0.02))  # between two lines, too
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def kill_and_go_on(project: Project, cache: Path, cli: Cli, kills: int) -> None:
    """Kill real extractions at random moments; after each, a run must end in the undisturbed bytes."""
    environment = {**os.environ, "PENULTIMATE_CACHE": str(cache)}
    stores = [project.features / f"{layer.stem}.zarr" for layer in project.layers]
    again = ("extract", "--project", project.root)
    cli(*again, PENULTIMATE_CACHE=str(cache))
    want = bytes_of(project.features)
    draw, hits = random.Random(SEED), 0
    for kill in range(kills):
        for store in stores:
            delete(store)
        if kill % 2 == 0:  # every second kill finds the cache empty, the others publish only
            shutil.rmtree(cache)
        # The last two stores' lines come when there is next to nothing left to be killed in
        killed = killed_at_work(command(project), environment, "device cpu", len(stores) - 2, draw)
        left = bytes_of(project.features)
        hits += killed and left != want
        cli(*again, PENULTIMATE_CACHE=str(cache))
        assert bytes_of(project.features) == want, f"kill {kill}"
        left_over = list((project.artifacts / ".scratch").rglob("*.partial"))
        assert left_over == []
    assert hits > kills / 2, f"{hits} of {kills} kills came while there was work"


@pytest.mark.timeout(900)  # a dozen processes, on a busy machine
def test_killed_extractions_go_on_to_the_same_bytes(prepared: Project, tmp_path: Path, cli: Cli) -> None:
    kill_and_go_on(prepared, tmp_path / "own cache", cli, kills=3)


def kill_training(project: Project, root: Path, cli: Cli, mode: str, kills: int) -> None:
    """Kill real fine-tuning at random moments, run it again to its end: the undisturbed bits."""
    options = ["finetune", "--mode", mode]
    for setting in ("epochs=4", "learning_rate=[0.001,0.0001]"):
        options += ["-S", f"finetune.{setting}"]

    def trained(cache: Path) -> dict[str, bytes]:
        cli(*options, "--project", project.root, PENULTIMATE_CACHE=str(cache))
        folder = project.finetune_folder(mode)
        return {
            file.name: file.read_bytes()
            for file in folder.glob("*")
            if file.suffix in (".safetensors", ".npz")
        }

    want = trained(root / "undisturbed")
    assert len(want) == 2
    draw = random.Random(SEED)
    for kill in range(kills):
        cache = root / f"cache {kill}"
        shutil.rmtree(project.finetune_folder())
        environment = {**os.environ, "PENULTIMATE_CACHE": str(cache)}
        # The checkpoint of epoch 0 is there by then, and more lines than those follow
        assert killed_at_work(command(project, *options), environment, ", epoch 1,", 4, draw)
        assert list((cache / "checkpoints").iterdir()), "nothing was left to go on from"
        assert not project.finetune_folder(mode).exists()
        assert trained(cache) == want, f"kill {kill}"
        assert not (cache / "checkpoints").exists() or not list((cache / "checkpoints").iterdir())
        shutil.rmtree(cache)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_training_goes_on_to_the_same_bits(prepared: Project, tmp_path: Path, cli: Cli) -> None:
    extract(prepared, prepared.layers)
    kill_training(prepared, tmp_path, cli, "freeze:conv5_1", kills=2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", ["full", "scratch", "freeze:conv4_1"])
def test_ten_kills_of_training(prepared: Project, tmp_path: Path, cli: Cli, mode: str) -> None:
    extract(prepared, prepared.layers)
    kill_training(prepared, tmp_path, cli, mode, kills=10)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thirty_kills(prepared: Project, tmp_path: Path, cli: Cli) -> None:
    kill_and_go_on(prepared, tmp_path / "own cache", cli, kills=30)


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


def test_interrupt_while_publishing_is_130(prepared: Project, cli: Cli) -> None:
    extract(prepared, prepared.layers)
    want = bytes_of(prepared.features)
    for layer in prepared.layers:
        delete(prepared.features / f"{layer.stem}.zarr")
    # A publication that takes its time: each shard waits
    code = (
        "import sys, time, cli, features.publish as publish\n"
        "write = publish.write_shard\n"
        "def slow(*arguments):\n"
        "    print('writing', flush=True); time.sleep(2); return write(*arguments)\n"
        "publish.write_shard = slow\n"
        "cli.main(['extract', '--project', sys.argv[1]])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(prepared.root)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until("writing", process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    cli("extract", "--project", prepared.root)
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


def test_a_writer_that_lost_its_parent_keeps_others_out(prepared: Project, cli: Cli) -> None:
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
    again = ("extract", "--layer", "pixels", "--project", prepared.root)
    assert "another process is writing" in cli(*again, code=2).stderr
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()  # ends when the last that holds the pipe is gone
    cli(*again)


def test_a_stage_killed_together_with_dvc_goes_on(checkout: Path, images: Path, vgg11_weights: Path) -> None:
    project = ready(
        make_project(checkout, [*QUICK, "dataset.name=folder", f"dataset.root={images}"]), vgg11_weights
    )
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    repro = ["repro", "--single-item", "extract"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", *repro],
        cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    until("images 32 × 32", process)  # the extraction has begun
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (checkout / "artifacts" / "features" / "fc7.sha256").exists()
    dvc(checkout, *repro)
    assert all(project.store(layer, project.read_manifest()) for layer in project.layers)
