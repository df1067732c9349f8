"""What fp16 and bf16 cost: each layer's error against fp32, and the accuracy of a head on top.

    python -m benchmarks.precision
    python -m benchmarks.precision --weights vgg16.safetensors --device cuda --side 224 --images 1797

scikit-learn's digits through VGG16, untrained without `--weights`. The error is the largest
difference as a share of the layer's largest value, over 32 images. The head is a
logistic regression on L2-normalised rows, fitted on one half of the images and tested on
the other; `other answers` are test images that it classifies unlike fp32's. `stored`, the
control, are fp32's rows as a float16 store keeps them. The ratio printed last is fp16's
accuracy over fp32's, of the layer where it is smaller.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from features.engines.choice import choose
from features.engines.create import create
from features.images import Preprocessing
from features.network import parse_layer, steps
from features.sources import Request, obtain, write
from features.weights import Weights

PRECISIONS = ("fp32", "fp16", "bf16")
HEADS = ("pool5", "fc7")  # layers
SAMPLE = 32  # images, of which every layer is compared whole


def rows_of(pixels: np.ndarray, names: Sequence[str], precision: str, device: str, weights: Weights) -> dict:
    """Rows of (n, H, W, 3) uint8 at the named layers, (n, width) each."""
    preprocessing = Preprocessing(pixels.shape[1:3], False, *weights.normalisation)
    layers = [parse_layer(name, "vgg16") for name in names]
    engine = create(choose("torch", device, precision), layers, weights, preprocessing)
    padded = np.zeros((-(-len(pixels) // engine.batch) * engine.batch, *pixels.shape[1:]), np.uint8)
    padded[: len(pixels)] = pixels
    parts = list(engine.stream(padded[i : i + engine.batch] for i in range(0, len(padded), engine.batch)))
    return {name: np.concatenate([rows[name] for rows in parts])[: len(pixels)] for name in names}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", type=Path, help="a .safetensors or .pth of VGG16; untrained without it")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--side", type=int, default=48, help="pixels")
    parser.add_argument("--images", type=int, default=600)
    options = parser.parse_args()
    digits = load_digits()
    labels = digits.target[: options.images]
    pixels = np.stack(
        [
            np.array(
                Image.fromarray(image).convert("RGB").resize((options.side, options.side), Image.BILINEAR)
            )
            for image in (digits.images[: options.images] * (255 / 16)).astype(np.uint8)
        ]
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = "file" if options.weights else "random"
        obtained = obtain(Request("vgg16", (source,), options.weights, None, 0), folder)
        write(obtained, folder / "weights", folder / "scratch", {})
        weights = Weights.open(folder / "weights")
        every = [step.name for step in steps("vgg16")]
        whole = {p: rows_of(pixels[:SAMPLE], every, p, options.device, weights) for p in PRECISIONS}
        print("layer      error of fp16      of bf16")
        for layer, want in whole["fp32"].items():
            errors = [
                np.abs(whole[p][layer].astype(np.float32) - want).max() / want.max() for p in PRECISIONS[1:]
            ]
            print(f"{layer:10s}{errors[0]:14.1e}{errors[1]:13.1e}")
        found = {p: rows_of(pixels, HEADS, p, options.device, weights) for p in PRECISIONS}
        found["stored"] = {layer: rows.astype(np.float16) for layer, rows in found["fp32"].items()}
    half, ratios = len(pixels) // 2, []
    print("layer   precision   top-1   other answers", flush=True)
    for layer in HEADS:
        right, answers = {}, {}
        for precision in found:
            x = normalize(found[precision][layer].astype(np.float32))
            head = LogisticRegression(C=10, tol=1e-7, max_iter=10_000).fit(x[:half], labels[:half])
            answers[precision] = head.predict(x[half:])
            right[precision] = (answers[precision] == labels[half:]).mean()
            other = (answers[precision] != answers["fp32"]).sum()
            print(f"{layer:8s}{precision:10s}{right[precision]:8.3f}{other:10d} of {len(pixels) - half}")
        ratios.append(right["fp16"] / right["fp32"])
    print(f"ratio: {min(ratios):.3f}")


if __name__ == "__main__":
    main()
