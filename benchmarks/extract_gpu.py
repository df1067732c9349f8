"""Extraction on a GPU: the forward alone, and files or arrays to finished stores, against other ways.

    python -m benchmarks.extract_gpu
    python -m benchmarks.extract_gpu --images ~/photographs --count 8192

The others: PyTorch the obvious way (torchvision's extractor, DataLoader, fp16, channels
last, compiled) with the best of four loaders, chosen beforehand on a quarter of the
images, and timm's VGG16 in the same loop, where timm is installed. All take turns;
medians of three. Ours ends with stores flushed to the disk and everything digested, or,
where zarr is not installed, with the cache's blocks; theirs with float16 arrays.

Every contender is compiled and warm before its clock starts. The numbers are compared
before the times are. The ratio printed last is our rate from JPEG files over that of the
best other. Targets: 16,000 images/s forward at 224 px on an H100, and, from files, 85 % of
the slower of decoding and forward.
"""

import argparse
import importlib.util
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, transforms
from torchvision.models import vgg16
from torchvision.models.feature_extraction import create_feature_extractor

import features.extraction
from benchmarks.photographs import chosen, photographs
from features.assemble import assemble
from features.batches import Decoder
from features.cache import gather
from features.engines.choice import Choice, choose
from features.engines.cuda import CudaEngine, reproducible
from features.extraction import Extraction
from features.images import ImageArrays, ImageFolder, ImageSource, Preprocessing, array_sha256
from features.manifest import Manifest, Row
from features.network import parse_layer, whole
from features.recipe import Recipe
from features.sources import Request, obtain, write
from features.weights import Weights

SIDE, SMALL = 224, 32  # pixels: of photographs, and of arrays
COUNT, ARRAYS = 8_192, 32_768  # images
COPIES = 8  # of each synthetic photograph, told apart by bytes that no decoder reads
LAYERS = {"pool5": "features.30", "fc7": "classifier.4"}  # in our names and in torchvision's
ROUNDS, REPEATS = 3, 10
BATCHES = (64, 256)  # of the others
TARGET = 16_000  # images/s on an H100
COMPARED = 256  # images
AGREEMENT = 2e-2  # of an image's vector: fp16 rounds at other places
PRODUCT = 8192  # rows and columns of the product that measures the peak
# Dense bf16 TFLOP/s by NVIDIA's data sheets, half of the number "with sparsity"
DATA_SHEETS = {
    "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "H200": 989, "A100": 312, "L40S": 362, "L4": 121,
}  # fmt: skip

STORES = importlib.util.find_spec("zarr") and importlib.util.find_spec("google_crc32c")

Network = Callable[[Tensor], dict[str, Tensor]]  # (B, 3, H, W) fp16, channels last, to rows per layer


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Time one of `repeats` calls takes on the device, once it is warm."""
    call()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000 / repeats


def peak() -> float:
    """Measure TFLOP/s of a large bf16 product of random numbers."""
    a, b = (torch.randn(PRODUCT, PRODUCT, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    return 2e-12 * PRODUCT**3 / median(seconds(lambda: a @ b, 20) for _ in range(ROUNDS))


def torchvision_network(weights: Weights) -> Network:
    """Load torchvision's extractor, as its documentation shows it."""
    model = vgg16(init_weights=False).eval()
    tensors = weights.tensors(whole("vgg16"))
    model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
    model = model.to("cuda", torch.float16, memory_format=torch.channels_last)
    return create_feature_extractor(model, {module: name for name, module in LAYERS.items()})


def fused_network(weights: Weights) -> Network:
    """Let cuDNN add bias and ReLU to its convolutions; the engine's compiler makes a pass of its own."""
    model = vgg16(init_weights=False).eval().to("cuda", torch.float16, memory_format=torch.channels_last)

    def forward(x: Tensor) -> dict[str, Tensor]:
        for module in model.features:
            if isinstance(module, nn.Conv2d):
                x = torch.cudnn_convolution_relu(x, module.weight, module.bias, (1, 1), (1, 1), (1, 1), 1)
            elif isinstance(module, nn.MaxPool2d):
                x = module(x)
        return {"pool5": x, "fc7": model.classifier[:5](x.flatten(1))}

    return forward


def timm_network() -> Network:
    """Load timm's VGG16 up to what it calls features without a head: `fc7` alone."""
    import timm  # noqa: PLC0415 - may not be installed

    model = timm.create_model("vgg16", num_classes=0).eval()
    model = model.to("cuda", torch.float16, memory_format=torch.channels_last)
    return lambda x: {"fc7": model(x)}


def forward_rates(ours: dict[str, CudaEngine], others: dict[str, Network]) -> dict[str, float]:
    """Images per second of batches that are on the device, the contenders taking turns."""
    n = max(BATCHES)
    pixels = torch.randint(0, 256, (n, SIDE, SIDE, 3), dtype=torch.uint8, device="cuda")
    x = torch.randn(n, 3, SIDE, SIDE, dtype=torch.float16, device="cuda")
    x = x.to(memory_format=torch.channels_last)
    rates: dict[str, list[float]] = {}
    with torch.inference_mode():
        for _ in range(ROUNDS):
            for name, engine in ours.items():
                part = pixels[: engine.batch]
                with reproducible():
                    rate = len(part) / seconds(lambda e=engine, p=part: e.network(p), REPEATS)
                rates.setdefault(name, []).append(rate)
            for name, network in list(others.items()):
                try:
                    rates.setdefault(name, []).append(n / seconds(lambda f=network: f(x), REPEATS))
                except RuntimeError as error:
                    print(f"{name} is left out: {str(error).splitlines()[0]:.100}", flush=True)
                    del others[name], rates[name]
    return {name: median(values) for name, values in rates.items()}


@dataclass(frozen=True)
class Task:
    """Images to be made into stores.

    Attributes
    ----------
    data : Dataset of (3, H, W) float32 Tensor, and a number
        The same images for torch's DataLoader.
    """

    manifest: Manifest
    source: ImageSource
    data: Dataset[Any]


def from_files(root: Path, weights: Weights) -> Task:
    """Photographs below `root`, at 224 × 224."""
    rows = []
    for file in sorted(root.rglob("*.jpg")):
        path = file.relative_to(root).as_posix()
        digest = sha256(file.read_bytes()).hexdigest()
        rows.append(Row(path, path, file.parent.name, "train", digest, SIDE, SIDE))
    shown = [transforms.Resize(round(SIDE * 256 / 224)), transforms.CenterCrop(SIDE), *tensors_of(weights)]
    data = datasets.ImageFolder(str(root), transforms.Compose(shown))
    return Task(Manifest(tuple(rows)), ImageFolder(root), data)


class Arrays(Dataset[Any]):
    """Arrays as torchvision's data sets give them: through Pillow."""

    def __init__(self, arrays: np.ndarray, transform: Callable[[Image.Image], Tensor]) -> None:
        self.arrays, self.transform = arrays, transform

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[number])), 0


def from_arrays(count: int, weights: Weights) -> Task:
    """Small images held in memory, at their own size."""
    arrays = np.random.default_rng(0).integers(0, 256, (count, SMALL, SMALL, 3), dtype=np.uint8)
    names = [f"{number:06}" for number in range(count)]
    rows = [
        Row(name, name, "a", "train", array_sha256(array), SMALL, SMALL)
        for name, array in zip(names, arrays, strict=True)
    ]
    data = Arrays(arrays, transforms.Compose(tensors_of(weights)))
    return Task(Manifest(tuple(rows)), ImageArrays(dict(zip(names, arrays, strict=True))), data)


def tensors_of(weights: Weights) -> list[Callable[[Any], Tensor]]:
    """The end of torchvision's transform."""
    mean, std = ([value / 255 for value in values] for values in weights.normalisation)
    return [transforms.ToTensor(), transforms.Normalize(mean, std)]


@dataclass(frozen=True)
class Contender:
    """Our engine, and what it was made with."""

    weights: Weights
    preprocessing: Preprocessing
    choice: Choice
    engine: CudaEngine

    @classmethod
    def of(cls, weights: Weights, precision: str, side: int, crop: bool, folder: Path) -> "Contender":
        """Compile it; `folder` keeps the kernels."""
        preprocessing = Preprocessing((side, side), crop, *weights.normalisation)
        choice = choose("auto", "cuda", precision)
        layers = [parse_layer(name, "vgg16") for name in LAYERS]
        engine = CudaEngine(
            layers, weights, preprocessing, device=choice.device, precision=choice.precision, compiled=folder
        )
        return cls(weights, preprocessing, choice, engine)


def ours(task: Task, contender: Contender, folder: Path) -> tuple[float, Extraction]:
    """Seconds from images to stores, and what was extracted."""
    features.extraction.create = lambda *arguments: contender.engine  # compiled before the clock starts
    layers = [parse_layer(name, "vgg16") for name in LAYERS]
    recipe = Recipe(
        layers, ("none",), contender.weights, contender.preprocessing, contender.choice, "float16",
        folder / "cache",
    )  # fmt: skip
    extraction = Extraction(recipe, task.manifest, task.source)
    started = time.perf_counter()
    extraction.fill()
    for layer in layers if STORES else ():
        assemble(extraction, layer, folder, folder / "scratch", {})
    return time.perf_counter() - started, extraction


@torch.inference_mode()
def theirs(data: Dataset[Any], network: Network, workers: int, batch: int, folder: Path) -> float:
    """Seconds from images to arrays, with torch's DataLoader."""
    started = time.perf_counter()
    loader = DataLoader(data, batch, num_workers=workers, pin_memory=True)
    parts: dict[str, list[np.ndarray]] = {}
    for images, _ in loader:
        x = images.to("cuda", torch.float16, non_blocking=True, memory_format=torch.channels_last)
        for name, values in network(x).items():
            parts.setdefault(name, []).append(values.flatten(1).cpu().numpy())
    for name, rows in parts.items():
        np.save(folder / f"{name}.npy", np.concatenate(rows))
    return time.perf_counter() - started


def best_loader(data: Dataset[Any], network: Network, folder: Path) -> tuple[int, int]:
    """Worker processes and images per batch with which a quarter of the images takes least."""
    few = torch.utils.data.Subset(data, range(len(data) // 4 // max(BATCHES) * max(BATCHES)))
    cores = os.cpu_count() or 1
    loaders = [(workers, batch) for workers in {cores, max(1, cores // 2)} for batch in BATCHES]
    for _, batch in loaders:  # compile
        theirs(torch.utils.data.Subset(data, range(batch)), network, 0, batch, folder)
    return min(loaders, key=lambda loader: theirs(few, network, *loader, folder))


def decode_rate(task: Task, contender: Contender) -> float:
    """Images per second of our decoder alone, on half of the images."""
    numbers, batch = range(len(task.manifest) // 2), contender.engine.batch
    decoder = Decoder(task.manifest, task.source, contender.preprocessing)
    started = time.perf_counter()
    for _ in decoder.batches([numbers[i : i + batch] for i in range(0, len(numbers), batch)]):
        pass
    return len(numbers) / (time.perf_counter() - started)


def race(task: Task, contender: Contender, others: dict[str, Network], folder: Path) -> dict[str, float]:
    """Images per second to the disk, the contenders taking turns; exits where numbers differ."""
    loaders = {name: best_loader(task.data, network, folder) for name, network in others.items()}
    spent: dict[str, list[float]] = {name: [] for name in ("ours", *others)}
    for _ in range(ROUNDS):
        shutil.rmtree(folder / "ours", ignore_errors=True)
        taken, extraction = ours(task, contender, folder / "ours")
        spent["ours"].append(taken)
        for name, network in others.items():
            spent[name].append(theirs(task.data, network, *loaders[name], folder))
            if name == "torchvision":
                compare(extraction, folder)
    for name, (workers, batch) in loaders.items():
        print(f"{name}: best with {workers} workers and {batch} images per batch", flush=True)
    return {name: len(task.manifest) / median(values) for name, values in spent.items()}


def compare(extraction: Extraction, folder: Path) -> None:
    """Exit where one of the first images' vectors is not what torchvision computed."""
    for layer in extraction.layers:
        want = np.load(folder / f"{layer.name}.npy", mmap_mode="r")[:COMPARED].astype(np.float32)
        places = extraction.places(layer, "none")[:COMPARED]
        got = gather(places, want.shape[1], np.dtype(np.float16)).astype(np.float32)
        apart = (np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)).max()
        if not apart < AGREEMENT:
            sys.exit(f"{layer.name} differs from torchvision's by {apart:.1e}")


def lay_out(images: Path | None, folder: Path, count: int) -> Path:
    """Put `count` photographs into `folder`: the user's, or noise."""
    if images:
        chosen(images, folder, count)
        return folder
    photographs(folder, count // COPIES)
    for file in sorted((folder / "photographs").iterdir()):
        for number in range(1, COPIES):
            copy = file.with_stem(f"{file.stem}-{number}")
            copy.write_bytes(file.read_bytes() + bytes([number]))
    return folder


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=Path, help="a folder of JPEG files; noise without it")
    parser.add_argument("--count", type=int, default=COUNT, help=f"photographs, a multiple of 256; {COUNT}")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("extract_gpu: torch finds no CUDA device on this machine", file=sys.stderr)
        return 2
    torch.backends.cudnn.benchmark = True  # for the others; the engine goes by rules
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(obtain(Request("vgg16", ("random",), None, None, 0), folder), folder / "w", folder / "s", {})
        weights = Weights.open(folder / "w")
        others: dict[str, Network] = {
            "torchvision": torch.compile(torchvision_network(weights), dynamic=False)
        }
        if importlib.util.find_spec("timm"):
            others["timm"] = torch.compile(timm_network(), dynamic=False)
        else:
            print("timm is not installed and left out")
        forward = show_forward(weights, others, folder)
        tasks = {
            "files": (from_files(lay_out(options.images, folder / "images", options.count), weights), SIDE),
            "arrays": (from_arrays(ARRAYS, weights), SMALL),
        }
        for what, (task, side) in tasks.items():
            contender = Contender.of(weights, "auto", side, task.source.crop, folder / "compiled")
            rates = race(task, contender, others, folder)
            print(
                f"{len(task.manifest)} {what} to {'stores' if STORES else 'blocks (no zarr here)'}, {side} px"
            )
            for one, rate in rates.items():
                print(f"  {one:28s}{rate:10,.0f} img/s")
            own, best = rates.pop("ours"), max(rates.values())
            print(f"  ratio to the best other: {own / best:.2f}", flush=True)
            if what == "files":
                decode, ratio = decode_rate(task, contender), own / best
                share = own / min(decode, forward)
                print(f"  decoding alone {decode:,.0f} img/s; {share:.0%} of the slower stage (target 85 %)")
    print(f"ratio: {ratio:.2f}")
    return 0


def show_forward(weights: Weights, others: dict[str, Network], folder: Path) -> float:
    """Print the rates of the forward alone; returns that of our fp16, in images per second."""
    card = torch.cuda.get_device_name()
    product, sheet = peak(), next((value for key, value in DATA_SHEETS.items() if key in card), None)
    print(f"{card}, torch {torch.__version__}: bf16 product {product:.0f} TFLOP/s, data sheet {sheet or '?'}")
    engines = {
        f"ours, {precision}": Contender.of(weights, precision, SIDE, True, folder / "compiled").engine
        for precision in ("fp16", "bf16", "fp32")
    }
    rates = forward_rates(engines, {**others, "torchvision, cuDNN's ReLU": fused_network(weights)})
    work = parse_layer("fc7", "vgg16").gflops((SIDE, SIDE)) / 1000
    print(f"forward alone, {SIDE} px             img/s   TFLOP/s   of product   of data sheet")
    for name, rate in rates.items():
        of_sheet = f"{rate * work / sheet:15.0%}" if sheet else ""
        print(f"  {name:28s}{rate:10,.0f}{rate * work:10.0f}{rate * work / product:13.0%}{of_sheet}")
    print(f"  target on an H100: {TARGET:,} img/s, ours at fp16", flush=True)
    return rates["ours, fp16"]


if __name__ == "__main__":
    sys.exit(main())
