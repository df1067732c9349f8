"""One more tuned head on cached features, against one fine-tuning run of five epochs at 224 px.

    python -m benchmarks.trial --store artifacts/features/fc7.zarr --images photos --weights vgg16.safetensors

A head is a logistic regression with all its 45 values of C on the store's train rows, chosen by its
validation rows. A fine-tuning run trains every layer on as many photographs; one epoch of `--count`
of them is timed with the usual loop and scaled, said so. Target: 100.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.cached import cached
from benchmarks.tails import Bench
from pipeline.heads.linear.estimators import LogReg
from pipeline.tuning.folds import Fold, Rows
from pipeline.tuning.search import tune

EPOCHS = 5
CS = tuple(np.logspace(-6, 5, 45).tolist())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--store", type=Path, help="a published feature store; a stand-in without it")
    parser.add_argument("--images", type=Path, help="a folder with JPEG files in it, at any depth")
    parser.add_argument("--weights", type=Path, help="a file, as in weights.file")
    parser.add_argument("--count", type=int, default=64, help="photographs of the timed epoch")
    options = parser.parse_args()
    if options.store:
        X, y, words = cached(options.store, 10**6)
        held, held_y, _ = cached(options.store, 10**6, ("validation",))
    else:
        X, y, words = cached(None, 3500)
        X, held, y, held_y = X[:3068], X[3068:], y[:3068], y[3068:]
    fold = Fold(Rows(X, y, np.arange(len(y))), Rows(held, held_y, np.arange(len(held_y))))
    begun = time.perf_counter()
    tuned = tune(LogReg, {"C": CS}, ["l2"], [fold], [str(number) for number in range(y.max() + 1)])
    head = time.perf_counter() - begun
    print(
        f"{words}: {len(y):,} train rows; a tuned head takes {head:.2f} s "
        f"({len(tuned.trials)} values of C, validation top-1 {tuned.chosen.top1:.4f})",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as name:
        bench = Bench.laid_out(Path(name), options.images, options.weights, options.count)
        epoch = bench.theirs("pixels", 1)
    run = epoch * len(y) / options.count * EPOCHS
    print(
        f"fine-tuning: an epoch of {options.count} photographs takes {epoch:.1f} s; "
        f"{EPOCHS} of {len(y):,}, scaled: {run:,.0f} s"
    )
    print(f"ratio: {run / head:.0f}")


if __name__ == "__main__":
    main()
