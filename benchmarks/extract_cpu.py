"""JPEG photographs to finished stores of `pool5:avg` and `fc7` on all cores, against the other ways.

    python -m benchmarks.extract_cpu --side 224 --environment ~/.cache/thingsvision

The others: PyTorch the obvious way, with the best of six loaders, chosen beforehand on a
quarter of the images; the same compiled; THINGSvision, which pins old versions and is
installed into an environment of its own (7 GB). They take turns, each run is a process of
its own, and medians are shown; what the clock sees stands in `benchmarks.contenders`. The
numbers of every run are compared with PyTorch's. Two cores take a quarter of an hour.

Also: the convolutions alone, and how fast this machine could be at most if it did every
multiplication of a direct convolution. Without `--images` and `--weights`, noise and
random weights take their place. The ratio printed last is Penultimate's rate over that
of the best other; the targets on two AVX2 cores are 3.0 at 224 px (convolutions alone 3.5),
1.5 at 64 px and 1.0 at 32 px.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models import vgg16

from benchmarks.contenders import CONTENDERS, LAYERS, file_name
from benchmarks.photographs import chosen, photographs
from features.engines.choice import Choice, choose
from features.engines.create import create
from features.images import Preprocessing
from features.network import parse_layer
from features.sources import Request, obtain, write
from features.store import FeatureStore
from features.weights import Weights

REPOSITORY = Path(__file__).resolve().parents[1]
COUNTS = {224: 256, 64: 1000, 32: 2000}  # images, for a side in pixels: seconds of work
ROUNDS = 3
LOADERS = [f"{workers}x{batch}" for workers in (0, 1, 2) for batch in (8, 32)]
OPTIONAL = ("compile", "thingsvision")
AGREEMENT = 1e-3  # relative, of an image's vector: float16 alone makes 2e-4


class Failed(Exception):
    """A command that failed; the message is its last error, one line."""


@dataclass(frozen=True)
class Run:
    """One run of a contender: `seconds` by its clock, per loader, and of the whole process."""

    seconds: list[float]
    process: float
    rows: dict[str, NDArray[np.float32]]  # (n, width) per layer


@dataclass(frozen=True)
class Task:
    """What all contenders are given."""

    images: Path
    weights: Path
    side: int
    output: Path

    def run(self, name: str, python: Path, loaders: list[str]) -> Run:
        """Run a contender in a fresh process."""
        shutil.rmtree(self.output, ignore_errors=True)
        self.output.mkdir()
        os.sync()  # nobody waits for what others wrote
        started = time.perf_counter()
        said = heard(
            python, "-m", "benchmarks.contenders", name,
            self.images, self.weights, str(self.side), self.output, *loaders,
        )  # fmt: skip
        process = time.perf_counter() - started
        return Run(json.loads(said.splitlines()[-1]), process, {layer: self._rows(layer) for layer in LAYERS})

    def _rows(self, layer: str) -> NDArray[np.float32]:
        if (array := self.output / file_name(layer)).exists():
            return np.asarray(np.load(array))
        store = FeatureStore.open(array.with_suffix(".zarr"))
        return store.rows(np.arange(len(store)))


def heard(*command: str | Path) -> str:
    """Run a command in the repository; return what it prints."""
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = re.findall(r"^\S*error\b.*", done.stderr, re.MULTILINE | re.IGNORECASE)
        raise Failed(errors[-1] if errors else f"exit status {done.returncode}")
    return done.stdout


def installed_thingsvision(folder: Path) -> Path:
    """Make its environment, where it is not there yet; return its Python."""
    python = folder / "bin" / "python"
    heard(sys.executable, "-m", "venv", folder)
    heard(python, "-m", "pip", "install", "--disable-pip-version-check", "thingsvision")
    return python


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@torch.inference_mode()
def peak_rates() -> dict[str, float]:
    """Float32 operations of a fused multiplication and addition, in 1e9 per second: the best of five."""
    n, side, channels = 3072, 56, 256
    tensor = torch.rand(n, n)
    array = tensor.numpy()
    maps = torch.rand(16, channels, side, side).to(memory_format=torch.channels_last)
    kernel = torch.rand(channels, channels, 3, 3).to(memory_format=torch.channels_last)
    calls: dict[str, tuple[int, Callable[[], object]]] = {
        "torch, matrix product": (n**3, lambda: tensor @ tensor),
        "numpy, matrix product": (n**3, lambda: array @ array),
        "torch, 3 × 3 convolution": (
            16 * side**2 * kernel.numel(),
            lambda: torch.nn.functional.conv2d(maps, kernel, padding=1),
        ),
    }
    return {name: 2e-9 * count / min(timed(call) for _ in range(5)) for name, (count, call) in calls.items()}


@torch.inference_mode()
def convolutions(choice: Choice, weights: Weights, side: int) -> tuple[float, float]:
    """Images per second to `pool5` alone, in memory: our engine, and torchvision with channels last."""
    layer = parse_layer("pool5", "vgg16")
    preprocessing = Preprocessing((side, side), True, *weights.normalisation)
    engine = create(choice, [layer], weights, preprocessing)
    model = vgg16(init_weights=False).features.to(memory_format=torch.channels_last)
    tensors = weights.tensors(layer)
    model.load_state_dict({name.removeprefix("features."): torch.tensor(t) for name, t in tensors.items()})
    images = np.random.default_rng(0).integers(0, 256, (engine.batch, side, side, 3), np.uint8)
    mean, std = (torch.tensor(values) for values in weights.normalisation)
    x = ((torch.tensor(images) - mean) / std).permute(0, 3, 1, 2)  # (B, 3, H, W), channels last
    seconds = [(timed(lambda: engine.run(images)), timed(lambda: model(x))) for _ in range(1 + ROUNDS)]
    ours, theirs = (len(images) / median(column[1:]) for column in zip(*seconds, strict=True))  # first: warm
    return ours, theirs


def difference(run: Run, reference: Run) -> float:
    """Largest relative difference of an image's vector, over both layers."""
    apart = [
        np.linalg.norm(run.rows[layer] - expected, axis=1) / np.linalg.norm(expected, axis=1)
        for layer, expected in reference.rows.items()
    ]
    return float(np.max(apart))


def race(task: Task, pythons: dict[str, Path], loader: str, rounds: int) -> dict[str, list[Run]]:
    """Let the contenders take turns; one that fails says why and is left out. Exits where numbers differ."""
    runs: dict[str, list[Run]] = {name: [] for name in pythons}
    for _ in range(rounds):
        for name in list(runs):
            try:
                runs[name].append(task.run(name, pythons[name], [loader]))
            except Failed as failed:
                if name not in OPTIONAL:
                    raise
                print(f"{name} is left out: {failed}", flush=True)
                del runs[name]
        for name, of_name in runs.items():
            apart = difference(of_name[-1], runs["pytorch"][-1])
            if not apart <= AGREEMENT:
                sys.exit(f"{name} computes other numbers than pytorch: they differ by {apart:.1e}")
    return runs


def table(runs: dict[str, list[Run]], count: int, most: float) -> None:
    """Print medians and the ratio; `most` is the rate in images per second that direct convolution allows."""
    rates = {name: count / median(run.seconds[0] for run in of_name) for name, of_name in runs.items()}
    print("   contender   seconds    img/s   whole process   off by")
    for name, of_name in runs.items():
        seconds, process = count / rates[name], median(run.process for run in of_name)
        apart = difference(of_name[0], runs["pytorch"][0])
        print(f"{name:>12s}{seconds:10.2f}{rates[name]:9.1f}{process:14.1f} s{apart:9.0e}")
    ours = rates.pop("penultimate")
    print(f"penultimate against the most that direct convolution allows: {ours / most:.2f} ×")
    print(f"ratio: {ours / max(rates.values()):.2f}")


def inputs(options: argparse.Namespace, folder: Path, count: int) -> Weights:
    """Lay out `images`, a quarter of them as `few`, and `weights`."""
    if options.images:
        chosen(options.images, folder / "images", count)
    else:
        photographs(folder / "images", count)
    chosen(folder / "images", folder / "few", -(-count // 4))
    source = "file" if options.weights else "random"
    request = Request("vgg16", (source,), options.weights, None, seed=0)
    write(obtain(request, folder), folder / "weights", folder / "scratch", {})
    return Weights.open(folder / "weights")


def interpreters(without: list[str], environment: Path) -> dict[str, Path]:
    """The Python of each contender that can be had."""
    pythons = {name: Path(sys.executable) for name in CONTENDERS if name not in without}
    if "thingsvision" in pythons:
        try:
            pythons["thingsvision"] = installed_thingsvision(environment)
        except Failed as failed:
            print(f"thingsvision cannot be installed here: {failed}", flush=True)
            del pythons["thingsvision"]
    return pythons


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, choices=COUNTS, default=224, help="pixels")
    parser.add_argument("--count", type=int, help=f"images; by default {COUNTS}, with --quick an eighth")
    parser.add_argument("--images", type=Path, help="a folder with JPEG files in it, at any depth")
    parser.add_argument("--weights", type=Path, help="a file, as in weights.file")
    parser.add_argument("--environment", type=Path, help="THINGSvision's: made where it is not, and kept")
    parser.add_argument("--without", default="", help=f"leave out, comma between: {','.join(OPTIONAL)}")
    parser.add_argument("--quick", action="store_true", help="one round with few images: does it work?")
    options = parser.parse_args()
    without = options.without.split(",") if options.without else []
    if unknown := set(without) - set(OPTIONAL):
        parser.error(f"--without: {', '.join(unknown)} cannot be left out; {', '.join(OPTIONAL)} can")
    side, rounds = options.side, 1 if options.quick else ROUNDS
    count = options.count or COUNTS[side] // (8 if options.quick else 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pythons = interpreters(without, options.environment or folder / "environment")
        weights = inputs(options, folder, count)
        print(
            f"{count} {'photographs' if options.images else 'images of noise'} at {side} px, "
            f"{'given' if options.weights else 'random'} weights; {torch.get_num_threads()} threads, "
            f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
        )
        rates = peak_rates()
        print("peak: " + "; ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in rates.items()))
        work = parse_layer("fc7", "vgg16").gflops((side, side))
        most = max(rates.values()) / work
        print(
            f"direct convolution, and the dense layers: {work:.2f} GFLOP an image; "
            f"{max(rates.values()):.0f} / {work:.2f} = {most:.1f} img/s at most",
            flush=True,
        )
        choice = choose("auto", "cpu", "fp32")
        ours, theirs = convolutions(choice, weights, side)
        print(
            f"convolutions alone: {choice.name} {ours:.1f} img/s, torchvision {theirs:.1f}: "
            f"{ours / theirs:.2f} ×",
            flush=True,
        )
        trial = Task(folder / "few", folder / "weights", side, folder / "output")
        tried = dict(zip(LOADERS, trial.run("pytorch", pythons["pytorch"], LOADERS).seconds, strict=True))
        loader = min(LOADERS, key=tried.__getitem__)
        print(
            "pytorch, loader processes × batch: "
            + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in tried.items())
            + f"; taken: {loader}",
            flush=True,
        )
        runs = race(replace(trial, images=folder / "images"), pythons, loader, rounds)
    table(runs, count, most)


if __name__ == "__main__":
    main()
