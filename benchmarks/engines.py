"""ncnn's Winograd convolutions against torch, on this machine's CPU: what `extract.engine: auto` rests on.

    python -m benchmarks.engines

Untrained VGG16 up to `pool5`; the engines alternate, medians of three. The ratio
printed last is ncnn's rate over torch's at 224 × 224, the size of photographs.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from features.engines import NCNN_FROM, Choice, Engine, create
from features.images import Preprocessing
from features.network import gflops, parse_layer
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
    layer = parse_layer("pool5", "vgg16")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(obtain(Request("vgg16", ("random",), None, None, 0), folder), folder / "w", folder / "s", {})
        weights = Weights.open(folder / "w")
        print("  side   torch img/s    ncnn img/s   ratio   ncnn GFLOP/s   auto")
        for side in SIDES:
            preprocessing = Preprocessing((side, side), True, *weights.normalisation)
            engines = {
                kind: create(Choice(kind, "cpu", "fp32", ""), [layer], weights, preprocessing)
                for kind in ("torch", "ncnn")
            }
            size = (engines["torch"].batch, side, side, 3)
            images = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
            for engine in engines.values():
                engine.run(images)
            rates: dict[str, list[float]] = {kind: [] for kind in engines}
            for _ in range(ROUNDS):
                for kind, engine in engines.items():
                    rates[kind].append(rate(engine, images))
            torch, ncnn = (statistics.median(rates[kind]) for kind in ("torch", "ncnn"))
            chosen = "ncnn" if side * side >= NCNN_FROM else "torch"
            work = ncnn * gflops(layer.steps, (side, side))
            print(f"{side:6d}{torch:14.1f}{ncnn:14.1f}{ncnn / torch:8.2f}{work:15.0f}   {chosen}", flush=True)
    print(f"ratio: {ncnn / torch:.2f}")


if __name__ == "__main__":
    main()
