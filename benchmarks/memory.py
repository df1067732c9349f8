"""Peak memory of an extraction of 50,000 images against one of 2,000.

    python -m benchmarks.memory

Real image files and a real `cli.py extract` to `fc7`, each in a process of its own; only
the network is replaced by a cheap stand-in, which computes 4,096 numbers of each image.
The ratio printed last is the larger peak over the smaller; the target is a difference of
at most 50 MB.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

NUMBERS = (2_000, 50_000)
REPOSITORY = Path(__file__).resolve().parents[1]
CHILD = """
import resource, sys
import numpy as np
import cli, features.extraction

class Cheap:
    batch = 64
    def run(self, images):
        pixels = images.reshape(len(images), -1)[:, :3072].astype(np.float32)
        return {"fc7": np.tile(pixels, 2)[:, :4096]}
    def stream(self, batches):
        return map(self.run, batches)

features.extraction.create = lambda *arguments: Cheap()
try:
    cli.main(["extract", "--layer", "fc7", "--project", sys.argv[1]])
except SystemExit as stop:
    assert not stop.code
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def project(folder: Path, n: int) -> Path:
    """A project with `n` small images in two classes."""
    rng = np.random.default_rng(n)
    for label in "ab":
        (folder / "images" / label).mkdir(parents=True)
    for number in range(n):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / "ab"[number % 2] / f"{number:06}.bmp")
    settings = YAML().load(REPOSITORY / "params.yaml")
    settings["dataset"] |= {"name": "folder", "root": "images"}
    settings["weights"] |= {"network": "vgg11", "sources": ["random"]}
    settings["extract"]["image_size"] = 32
    YAML().dump(settings, folder / "params.yaml")
    return folder


def peak(folder: Path) -> int:
    """Peak memory of the extraction, in kB."""
    environment = {**os.environ, "PENULTIMATE_CACHE": str(folder / "cache")}
    for command in ("prepare", "weights"):
        subprocess.run(
            [sys.executable, "cli.py", command, "--project", folder],
            cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)],
        cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return int(done.stdout.rpartition("peak ")[2])


def main() -> None:
    """Measure and print."""
    peaks = []
    print("  images   peak MB", flush=True)
    for n in NUMBERS:
        with tempfile.TemporaryDirectory() as name:
            peaks.append(peak(project(Path(name).resolve(), n)))
        print(f"{n:8,d}{peaks[-1] / 1000:10.0f}", flush=True)
    print(f"difference: {(peaks[1] - peaks[0]) / 1000:+.0f} MB")
    print(f"ratio: {peaks[1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
