"""Ways from image files to `pool5:avg` and `fc7` on the disk, each timed in a process of its own.

    python -m benchmarks.contenders NAME IMAGES WEIGHTS SIDE OUTPUT WORKERSxBATCH …

IMAGES holds class folders, WEIGHTS is what `features.sources.write` left. The clock starts
when everything is imported, the weights are loaded, the files are listed and a batch of
zeros went through the network (`torch.compile` compiles then); it stops when both layers
are on the disk. The last line printed is the list of seconds, one for each pair of loader
processes and images per batch; Penultimate has no such choice and ignores theirs.

All compute the same: torchvision's transform at SIDE pixels, as the weights' preset has
it at 224 (short side × 256/224, centre crop), and activations after the ReLU.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Nothing else up here: each contender's environment has what it needs, not what the others need.

LAYERS = {"pool5:avg": "features.30", "fc7": "classifier.4"}  # in our names and in torchvision's
Loader = tuple[int, int]  # worker processes, images per batch


def penultimate(
    images: Path, weights: Path, side: int, output: Path, loaders: Sequence[Loader]
) -> Iterator[float]:
    """Measure this project: float16 stores in zarr, cache and digests included, flushed to the disk."""
    from PIL import Image

    import features.extraction
    from features.assemble import assemble
    from features.engines.choice import choose
    from features.engines.create import create
    from features.files import sha256_file
    from features.images import ImageFolder, Preprocessing
    from features.manifest import Manifest, Row
    from features.network import parse_layer
    from features.recipe import Recipe
    from features.weights import Weights

    rows = []
    for file in sorted(images.rglob("*.jpg")):
        path = file.relative_to(images).as_posix()
        with Image.open(file) as image:
            rows.append(Row(path, path, file.parent.name, "train", sha256_file(file), *image.size))
    opened = Weights.open(weights)
    layers = [parse_layer(name, "vgg16") for name in LAYERS]
    preprocessing = Preprocessing((side, side), True, *opened.normalisation)
    choice = choose("auto", "cpu", "fp32")
    engine = create(choice, layers, opened, preprocessing)
    engine.run(np.zeros((engine.batch, side, side, 3), np.uint8))
    features.extraction.create = lambda *arguments: (
        engine
    )  # loaded before the clock starts, as the others' are
    recipe = Recipe(layers, ("none",), opened, preprocessing, choice, "float16", output / "cache")
    extraction = features.extraction.Extraction(recipe, Manifest(tuple(rows)), ImageFolder(images))
    started = time.perf_counter()
    extraction.fill()
    for layer in layers:
        assemble(extraction, layer, output, output / "scratch", {})
    yield time.perf_counter() - started


def pytorch(
    images: Path,
    weights: Path,
    side: int,
    output: Path,
    loaders: Sequence[Loader],
    prepared: Callable[[Any], Any] = lambda network: network,
) -> Iterator[float]:
    """Measure the obvious way: torchvision's extractor, channels last, float32 arrays."""
    import torch
    from safetensors.torch import load_file
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder
    from torchvision.models import vgg16
    from torchvision.models.feature_extraction import create_feature_extractor

    resize, mean, std = preset(weights, side)
    steps = [transforms.Resize(resize), transforms.CenterCrop(side), transforms.ToTensor()]
    data = ImageFolder(str(images), transforms.Compose([*steps, transforms.Normalize(mean, std)]))
    model = vgg16(init_weights=False).eval()
    model.load_state_dict(load_file(weights / "vgg16.safetensors"))
    model.to(memory_format=torch.channels_last)
    network = prepared(create_feature_extractor(model, {module: name for name, module in LAYERS.items()}))

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        taps = network(x.to(memory_format=torch.channels_last))
        return taps["pool5:avg"].mean((2, 3)), taps["fc7"]

    with torch.inference_mode():
        for workers, batch in loaders:
            for size in {min(batch, len(data)), len(data) % batch} - {0}:  # the last batch may be shorter
                forward(torch.zeros(size, 3, side, side))
            loader = DataLoader(data, batch, num_workers=workers)
            started = time.perf_counter()
            parts = [forward(x) for x, _ in loader]
            for name, rows in zip(LAYERS, zip(*parts, strict=True), strict=True):
                np.save(output / file_name(name), torch.cat(rows).numpy())
            yield time.perf_counter() - started


def compiled(
    images: Path, weights: Path, side: int, output: Path, loaders: Sequence[Loader]
) -> Iterator[float]:
    """Measure the same with `torch.compile`; needs a C++ compiler."""
    import torch

    # Not dynamic: a shorter last batch is then a second compilation, and no slower
    return pytorch(images, weights, side, output, loaders, lambda net: torch.compile(net, dynamic=False))


def thingsvision(
    images: Path, weights: Path, side: int, output: Path, loaders: Sequence[Loader]
) -> Iterator[float]:
    """Measure THINGSvision with torch's DataLoader: both modules in one pass (from its version 2.7)."""
    import torch
    from safetensors.torch import load_file
    from thingsvision import get_extractor
    from thingsvision.utils.data import ImageDataset
    from torch.utils.data import DataLoader

    extractor = get_extractor("vgg16", source="torchvision", device="cpu", pretrained=False)
    extractor.model.load_state_dict(load_file(weights / "vgg16.safetensors"))
    resize, mean, std = preset(weights, side)
    transform = extractor.get_default_transformation(mean, std, resize_dim=resize, crop_dim=side)
    data = ImageDataset(str(images), str(output), extractor.get_backend(), transforms=transform)
    for workers, batch in loaders:
        with torch.no_grad():
            extractor.model(torch.zeros(min(batch, len(data)), 3, side, side))
        loader = DataLoader(data, batch, num_workers=workers)
        started = time.perf_counter()
        arrays = extractor.extract_features(batches=loader, module_names=list(LAYERS.values()))
        np.save(output / file_name("pool5:avg"), arrays[LAYERS["pool5:avg"]].mean((2, 3)))
        np.save(output / file_name("fc7"), arrays[LAYERS["fc7"]])
        yield time.perf_counter() - started


def preset(weights: Path, side: int) -> tuple[int, list[float], list[float]]:
    """Short side in pixels, mean and standard deviation on torchvision's 0 … 1 scale."""
    provenance = json.loads((weights / "provenance.json").read_text("utf-8"))
    mean, std = ([value / 255 for value in provenance[name]] for name in ("mean", "std"))
    return round(side * 256 / 224), mean, std


def file_name(layer: str) -> str:
    """Where the others leave a layer's array (n, width)."""
    return f"{layer.replace(':', '-')}.npy"


CONTENDERS = {
    "penultimate": penultimate,
    "pytorch": pytorch,
    "compile": compiled,
    "thingsvision": thingsvision,
}


def main() -> None:
    """Measure one contender."""
    name, images, weights, side, output, *pairs = sys.argv[1:]
    loaders = [(int(workers), int(batch)) for workers, _, batch in (pair.partition("x") for pair in pairs)]
    print(json.dumps(list(CONTENDERS[name](Path(images), Path(weights), int(side), Path(output), loaders))))


if __name__ == "__main__":
    main()
