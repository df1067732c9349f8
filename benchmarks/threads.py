"""One engine asked by several threads, as a server does: what waiting for one's turn costs.

    python -m benchmarks.threads

VGG16 with random weights up to `pool5`, one image a request, on the CPU: requests of one thread after
another, and of eight at once, in turns; medians of three. The ratio printed last is eight threads'
requests a second over one thread's: 1 is all that one set of cores can give.
"""

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from features.engines.base import Engine
from features.engines.choice import Choice
from features.engines.create import create
from features.images import Preprocessing
from features.network import parse_layer
from features.sources import Request, obtain, write
from features.weights import Weights

THREADS = 8
ROUNDS = 3
REQUESTS = {64: 160, 224: 32}  # by the image's side in pixels


def rate(engine: Engine, image: np.ndarray, threads: int, requests: int) -> float:
    """Requests answered a second, the last of them included."""
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        list(pool.map(engine.run, [image] * requests))
        return requests / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    layer = parse_layer("pool5", "vgg16")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(obtain(Request("vgg16", ("random",), None, None, 0), folder), folder / "w", folder / "s", {})
        weights = Weights.open(folder / "w")
        print(f"  side   1 thread, img/s   {THREADS} threads, img/s   ratio")
        ratios = []
        for side, requests in REQUESTS.items():
            preprocessing = Preprocessing((side, side), True, *weights.normalisation)
            engine = create(
                Choice("winograd", "cpu", "fp32", ""), [layer], weights, preprocessing, light=True
            )
            image = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
            engine.run(image)
            rates: dict[int, list[float]] = {1: [], THREADS: []}
            for _ in range(ROUNDS):
                for threads, found in rates.items():
                    found.append(rate(engine, image, threads, requests))
            one, many = (statistics.median(found) for found in rates.values())
            ratios.append(many / one)
            print(f"{side:6d}{one:18.1f}{many:19.1f}{ratios[-1]:8.2f}", flush=True)
    print(f"ratio: {min(ratios):.2f}")


if __name__ == "__main__":
    main()
