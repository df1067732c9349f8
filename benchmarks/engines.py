"""The Winograd engine against torch's, on this machine's CPU: what `extract.engine: auto` rests on.

    python -m benchmarks.engines

VGG16 with random weights up to `fc7`; the engines alternate, medians of three. The ratio
printed last is the smallest over all sizes: above 1, the rule need not know the size.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from features.engines.base import Engine
from features.engines.choice import Choice
from features.engines.create import create
from features.images import Preprocessing
from features.network import parse_layer
from features.sources import Request, obtain, write
from features.weights import Weights

SIDES = (32, 48, 64, 96, 112, 224)
ROUNDS = 3


def rate(engine: Engine, images: np.ndarray) -> float:
    """Images per second of one batch."""
    started = time.perf_counter()
    engine.run(images)
    return len(images) / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    layer = parse_layer("fc7", "vgg16")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(obtain(Request("vgg16", ("random",), None, None, 0), folder), folder / "w", folder / "s", {})
        weights = Weights.open(folder / "w")
        print("  side   torch img/s   winograd img/s   ratio   winograd GFLOP/s of direct convolution")
        ratios = []
        for side in SIDES:
            preprocessing = Preprocessing((side, side), True, *weights.normalisation)
            engines = {
                kind: create(Choice(kind, "cpu", "fp32", ""), [layer], weights, preprocessing)
                for kind in ("torch", "winograd")
            }
            rng = np.random.default_rng(0)
            batches = {
                kind: rng.integers(0, 256, (engine.batch, side, side, 3), dtype=np.uint8)
                for kind, engine in engines.items()
            }
            for kind, engine in engines.items():
                engine.run(batches[kind])
            rates: dict[str, list[float]] = {kind: [] for kind in engines}
            for _ in range(ROUNDS):
                for kind, engine in engines.items():
                    rates[kind].append(rate(engine, batches[kind]))
            torch, winograd = (statistics.median(rates[kind]) for kind in ("torch", "winograd"))
            ratios.append(winograd / torch)
            work = winograd * layer.gflops((side, side))
            print(f"{side:6d}{torch:14.1f}{winograd:17.1f}{ratios[-1]:8.2f}{work:19.0f}", flush=True)
    print(f"ratio: {min(ratios):.2f}")


if __name__ == "__main__":
    main()
