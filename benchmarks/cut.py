"""Training above a cut from cached activations, against the usual loop that recomputes what is frozen.

    python -m benchmarks.cut --images photos --weights vgg16.safetensors

Five epochs at 224 px, batches of 32, a linear top on `pool5`, cut at `conv4_3` and at `pool5`.
Ours includes the one extraction into an empty cache and all checkpoints; the other is torchvision's
network with `requires_grad` off below the cut, channels last, images decoded by a worker process.
`--timed` of its epochs are run and scaled to five, said so. The ratio printed last is the one for
`conv4_3` (target 3); for `pool5` the target is 8. Two cores take about six minutes.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.tails import BATCH, SIDE, Bench

EPOCHS = 5
CUTS = ("pool5", "conv4_3")  # the one of the last line last


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=Path, help="a folder with JPEG files in it, at any depth")
    parser.add_argument("--weights", type=Path, help="a file, as in weights.file")
    parser.add_argument("--count", type=int, default=96, help="images")
    parser.add_argument("--timed", type=int, default=2, help="epochs of the usual loop")
    options = parser.parse_args()
    print(
        f"{options.count} {'photographs' if options.images else 'images of noise'} at {SIDE} px, batches of "
        f"{BATCH}, {EPOCHS} epochs; {torch.get_num_threads()} threads, torch {torch.__version__}",
        flush=True,
    )
    if options.timed < EPOCHS:
        print(f"the usual loop: {options.timed} of {EPOCHS} epochs timed, and scaled", flush=True)
    ratio = 0.0
    with tempfile.TemporaryDirectory() as name:
        bench = Bench.laid_out(Path(name), options.images, options.weights, options.count)
        for cut in CUTS:
            ours = bench.ours(cut, EPOCHS)
            theirs = bench.theirs(cut, options.timed) * EPOCHS / options.timed
            ratio = theirs / ours
            print(
                f"{cut}: {ours:.1f} s from the cache, {theirs:.1f} s in the usual loop: {ratio:.2f} ×",
                flush=True,
            )
    print(f"ratio: {ratio:.2f}")


if __name__ == "__main__":
    main()
