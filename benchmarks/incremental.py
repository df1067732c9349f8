"""What 1 % new photographs cost, against the first extraction of the other 99 %.

    python -m benchmarks.incremental --images photos/ --weights vgg16-features.safetensors

`photos/` holds class folders, or split folders with class folders in them. Both times are
those of `cli.py prepare` and `cli.py extract` as a user runs them, start-up included, to
`pool5:avg` and `fc7` at 224 px with an empty cache at first. The ratio printed last is
the second time over the first: at most 0.05.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

REPOSITORY = Path(__file__).resolve().parents[1]
SHARE = 100  # one image in so many is new


def timed(project: Path, *commands: str) -> float:
    """Run commands one after the other; wall seconds."""
    environment = {**os.environ, "PENULTIMATE_CACHE": str(project / "cache")}
    started = time.perf_counter()
    for command in commands:
        subprocess.run(
            [sys.executable, "cli.py", command, "--project", project],
            cwd=REPOSITORY, env=environment, check=True,
        )  # fmt: skip
    return time.perf_counter() - started


def through_network(project: Path) -> int:
    """Images that the last extraction ran through the network."""
    record = json.loads((project / "artifacts" / "extract.json").read_text("utf-8"))
    return int(record["images_run_through_network"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        project = Path(name).resolve()
        shutil.copytree(options.images, project / "images")
        files = sorted((project / "images").rglob("*.jpg"))
        new = files[SHARE // 2 :: SHARE]
        for number, file in enumerate(new):
            file.rename(project / f"new{number}.jpg")
        settings = YAML().load(REPOSITORY / "params.yaml")
        settings["dataset"] |= {"name": "folder", "root": "images"}
        settings["weights"] |= {"sources": ["file"], "file": str(options.weights.resolve())}
        settings["extract"] |= {"layers": ["pool5:avg", "fc7"], "pixels": False}
        YAML().dump(settings, project / "params.yaml")
        timed(project, "weights")
        first, all_images = timed(project, "prepare", "extract"), through_network(project)
        for number, file in enumerate(new):
            (project / f"new{number}.jpg").rename(file)
        second, added = timed(project, "prepare", "extract"), through_network(project)
    print(f"first: {all_images} images through the network, {first:.1f} s")
    print(f"then:  {added} of {len(new)} new images through the network, {second:.1f} s")
    if added != len(new):
        sys.exit("not exactly the new images went through the network")
    print(f"ratio: {second / first:.3f}")


if __name__ == "__main__":
    main()
