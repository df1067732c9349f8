"""From the command to the first photographs through the network, against a plain PyTorch script.

    python -m benchmarks.startup --weights vgg16-features.safetensors

`cli.py extract` to `pool5` on a small project that is prepared, 64 images at 224 px, as far as
its first batch. The script imports torch and torchvision, builds vgg16's convolutions, loads the
same weights and runs as many images. Every run is a process of its own; `cold` ones find no
compiled Python anywhere, their own and torch's included (files stay in the system's cache).
The two take turns; medians of three. Without `--weights`, random ones take their place. The
ratio printed last is Penultimate's warm time over the script's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from features.cores import cores

REPOSITORY = Path(__file__).resolve().parents[1]
ROUNDS = 3
IMAGES = 64
LAYER = "pool5"
OURS = """
import json, os, sys, time
marks = {}

import features.extraction

class Marked:
    def __init__(self, engine):
        self.batch, self.engine = engine.batch, engine
    def stream(self, batches):
        for rows in self.engine.stream(batches):
            marks["first forward"] = time.time()
            print(json.dumps({"batch": self.batch, **marks}), flush=True)
            os._exit(0)

def marked(*arguments):
    marks["imports"] = time.time()
    engine = create(*arguments)
    marks["weights"] = time.time()
    return Marked(engine)

create, features.extraction.create = features.extraction.create, marked
import cli
cli.main(["extract", "--layer", sys.argv[1], "--project", sys.argv[2]])
"""
THEIRS = """
import json, os, sys, time
marks = {}

from pathlib import Path
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision import models, transforms
marks["imports"] = time.time()

network = models.vgg16(init_weights=False).features.eval()
state = load_file(sys.argv[1])
network.load_state_dict({name.removeprefix("features."): state[name] for name in state if "features" in name})
marks["weights"] = time.time()

steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
steps.append(transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
prepared = transforms.Compose(steps)
files = sorted(Path(sys.argv[2]).rglob("*.jpg"))[: int(sys.argv[3])]
with torch.inference_mode():
    network(torch.stack([prepared(Image.open(file).convert("RGB")) for file in files]))
marks["first forward"] = time.time()
print(json.dumps(marks), flush=True)
os._exit(0)
"""


def prepared(folder: Path, weights: Path | None) -> Path:
    """A project with some photographs of noise, after `prepare` and `weights`."""
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        label = folder / "images" / "ab"[number % 2]
        label.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (54, 40, 3), dtype=np.uint8))
        coarse.resize((400, 540)).save(label / f"{number:02}.jpg")
    settings = YAML().load(REPOSITORY / "params.yaml")
    settings["dataset"] |= {"name": "folder", "root": "images"}
    settings["weights"] |= {"sources": ["random"]}
    if weights:
        settings["weights"] |= {"sources": ["file"], "file": str(weights.resolve())}
    settings["extract"]["image_size"] = 224
    YAML().dump(settings, folder / "params.yaml")
    for command in ("prepare", "weights"):
        subprocess.run(
            [sys.executable, "cli.py", command, "--project", folder],
            cwd=REPOSITORY, env=environment(folder), check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    return folder


def environment(folder: Path) -> dict[str, str]:
    """The user's, with a cache of the project's own."""
    return {**os.environ, "PENULTIMATE_CACHE": str(folder / "cache")}


def run(code: str, folder: Path, *arguments: object, cold: bool) -> dict[str, float]:
    """Seconds from the start of a process to each mark it sets, and what else it says."""
    with tempfile.TemporaryDirectory() as empty:
        compiled = {"PYTHONPYCACHEPREFIX": empty} if cold else {}
        started = time.time()
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=REPOSITORY, env=environment(folder) | compiled, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {name: value if name == "batch" else value - started for name, value in said.items()}


def show(name: str, runs: list[dict[str, float]]) -> float:
    """Print the medians, each stage by itself; return the median of the whole."""
    imports, weights, first = (
        statistics.median(run[mark] for run in runs) for mark in ("imports", "weights", "first forward")
    )
    print(
        f"{name:>18s}{imports:10.2f}{weights - imports:10.2f}{first - weights:10.2f}{first:10.2f}", flush=True
    )
    return first


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = prepared(Path(name).resolve(), options.weights)
        file = folder / "artifacts" / "weights" / "vgg16.safetensors"
        batch = int(run(OURS, folder, LAYER, folder, cold=False)["batch"])  # also compiles what is not yet
        run(THEIRS, folder, file, folder / "images", batch, cold=False)
        print(f"seconds to the first {batch} images, on {cores()} cores", flush=True)
        print(f"{'':>18s}{'imports':>10s}{'weights':>10s}{'forward':>10s}{'all':>10s}")
        for state in ("cold", "warm"):
            ours, theirs = [], []
            for _ in range(ROUNDS):
                ours.append(run(OURS, folder, LAYER, folder, cold=state == "cold"))
                theirs.append(run(THEIRS, folder, file, folder / "images", batch, cold=state == "cold"))
            ratio = show(f"Penultimate, {state}", ours) / show(f"PyTorch, {state}", theirs)
    print(f"ratio: {ratio:.2f}")


if __name__ == "__main__":
    main()
