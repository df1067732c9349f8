"""What the tests share: a cache of their own, small projects, and the optional real data."""

import atexit
import errno
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from features.files import sha256_file
from pipeline.datasets.prepare import prepare
from pipeline.project import Project
from pipeline.records.comparison import DIFFERENCES, Line
from pipeline.records.prices import Price
from pipeline.stores.weights import obtain_weights
from tests.warm import SECONDS, Warm

REPOSITORY = Path(__file__).resolve().parents[1]
DVC = Path(importlib.util.find_spec("dvc").origin).with_name("__main__.py")  # type: ignore[union-attr,arg-type]
ASSETS = REPOSITORY.parent / "shared" / "assets"

# Small and quick, and every path of the real run: an untrained vgg11 at the smallest size.
QUICK = (
    "weights.network=vgg11",
    "weights.sources=[random]",
    "extract.image_size=32",
    "heads.logreg.C=[0.01,1]",
    "heads.linear-svm.C=[0.01,1]",
    "heads.rbf-svm.C=[1,10]",
    "heads.rbf-svm.gamma=[1]",
    "heads.mlp.hidden=[16]",
    "heads.mlp.epochs=3",
    "finetune.epochs=1",
    "finetune.batch_size=8",
    "finetune.learning_rate=0.001",
    "compare.resamples=200",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that no other test sees."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PENULTIMATE_CACHE", str(folder))
    return folder


@pytest.fixture
def assets() -> Path:
    """Real weights and photographs; not part of the project."""
    if not ASSETS.is_dir():
        pytest.skip(f"real data is not at {ASSETS}")
    return ASSETS


def make_images(root: Path) -> Path:
    """A folder of 3 classes × 20 small photographs of noise, each class around its own colour."""
    rng = np.random.default_rng(0)
    for name, colour in (("blue", (30, 60, 200)), ("green", (40, 180, 60)), ("red", (200, 50, 40))):
        (root / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(rng.normal(colour, 40, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")
    return root


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Sixty images of three colours, of this test alone."""
    return make_images(tmp_path / "images")


@pytest.fixture
def project(tmp_path: Path, images: Path) -> Path:
    """A quick project on those images, in a folder of its own."""
    return make_project(tmp_path / "project", [*QUICK, "dataset.name=folder", f"dataset.root={images}"])


def note_predictions(project: Project, *methods: str) -> None:
    """Write into the comparison that these methods' predictions, as they lie there now, are what it is of."""
    content = json.loads(project.comparison.read_text("utf-8")) if project.comparison.exists() else {}
    digests = {method: sha256_file(project.predictions_file(method)) for method in methods}
    content["predictions"] = content.get("predictions", {}) | digests
    project.comparison.write_text(json.dumps(content), "utf-8")


def make_line(method: str, **known: object) -> Line:
    """A line of the comparison of which nothing is known besides what is given."""
    values: dict[str, object] = {
        "weights": "imagenet", "validation_log_loss": 1.0, "intervals": {}, "seed_top1": [],
        "chosen_by": "top1", "validation_score": known.get("validation_top1", 0.0), "missed": [],
        "majority": "cat",
        "trials": 1, "images_seen": 0, "trainable_parameters": 1, "converged": True, "chosen": "",
        "epoch": None,
        "price": Price(device="cpu", device_seconds=None, peak_memory=None,
                       gpu_memory=None, seconds_per_trial=0.0, break_even=None),
    }  # fmt: skip
    values |= dict.fromkeys(DIFFERENCES) | known
    rest = dict.fromkeys((field.name for field in fields(Line) if field.name not in values), 0.0)
    return Line(**{**rest, **values, "method": method})  # type: ignore[arg-type]


def make_project(folder: Path, overrides: list[str]) -> Path:
    """Write a params.yaml that is the committed one with overrides."""
    folder.mkdir(parents=True, exist_ok=True)
    yaml = YAML()
    content = yaml.load((REPOSITORY / "params.yaml").read_text("utf-8"))
    for override in overrides:
        key, _, value = override.partition("=")
        *path, last = key.split(".")
        section = content
        for name in path:
            section = section[name]
        section[last] = YAML(typ="safe", pure=True).load(value)
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(content, file)
    return folder


def as_trained(tensors: dict[str, np.ndarray]) -> None:
    """Draw biases, and batch norms far from the identity, so that leaving one out would show."""
    rng = np.random.default_rng(0)
    for name, tensor in tensors.items():
        if name.endswith("running_var"):
            tensor[:] = rng.uniform(0.3, 3, tensor.shape)
        elif tensor.ndim == 1:
            tensor[:] = rng.normal(0, 0.3, tensor.shape)
            if name.endswith("weight"):  # γ: away from zero, of either sign
                tensor[:] += np.copysign(0.5, tensor)


@pytest.fixture(scope="session")
def vgg11_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `weights` makes for a quick project: half a gigabyte, made once."""
    folder = make_project(tmp_path_factory.mktemp("weights"), list(QUICK))
    obtain_weights(Project.open(folder))
    return folder / "artifacts" / "weights"


@pytest.fixture
def prepared(project: Path, vgg11_weights: Path) -> Project:
    """A quick project after `prepare` and `weights`."""
    return ready(project, vgg11_weights)


def ready(folder: Path, weights: Path) -> Project:
    """Run `prepare`, and link the weights in place of making them again."""
    opened = Project.open(folder)
    prepare(opened)
    shutil.copytree(weights, opened.weights_folder, copy_function=os.link)
    return opened


Done = subprocess.CompletedProcess[str]
Cli = Callable[..., Done]


@functools.cache
def warm() -> Warm:
    """The process from which commands are forked."""
    process = Warm(REPOSITORY)
    atexit.register(process.close)
    return process


def run_script(script: str, *arguments: str, cwd: Path, **environment: str) -> Done:
    """Run a Python script in a process of its own."""
    command, wanted = [script, *arguments], {**os.environ, **environment}
    if warm().serves(wanted):
        return warm().run(command, cwd, wanted)
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env=wanted, capture_output=True, text=True, timeout=SECONDS
    )


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run the command line as a user does: another process, from an unrelated folder."""

    def run(*arguments: object, code: int = 0, **environment: str) -> Done:
        done = run_script(str(REPOSITORY / "cli.py"), *map(str, arguments), cwd=tmp_path, **environment)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def refusal(done: Done) -> str:
    """The one sentence of a refused command; fails on a traceback or on more than one line of it."""
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("penultimate: ")]
    assert len(lines) == 1, done.stderr
    assert done.stderr.rstrip().splitlines()[-1] == lines[0]
    return lines[0]


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path in it."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A file that opens, and whose reading fails with EIO."""
    path = tmp_path / "broken.png"
    path.symlink_to("/proc/self/mem")
    try:
        path.read_bytes()
    except OSError as error:
        if error.errno == errno.EIO:
            return path
    pytest.skip("/proc/self/mem cannot be opened here, or fails in another way")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout's tracked files, as a git repository of its own."""
    target = tmp_path / "checkout with spaces"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target / name)
    (target / "dvc.lock").unlink(missing_ok=True)
    (target / "metrics.json").unlink(missing_ok=True)
    subprocess.run(["git", "init", "-q"], cwd=target, check=True)
    commit(target)
    return target


def commit(checkout: Path) -> None:
    """Commit everything in a checkout."""
    author = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["add", "-A"], [*author, "commit", "-qm", "everything"]):
        subprocess.run(["git", *command], cwd=checkout, check=True)


def dvc(checkout: Path, *arguments: str) -> str:
    """Run DVC, with this environment's Python for its stages; returns what it says."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = run_script(str(DVC), *arguments, cwd=checkout, PATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
