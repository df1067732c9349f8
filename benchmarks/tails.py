"""What the benchmarks of training share: photographs, weights, and both ways to train a tail on them.

bench = Bench.laid_out(folder, images, weights, count=96)
bench.ours("conv4_3", epochs=5), bench.theirs("conv4_3", epochs=5)      # seconds
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import vgg16

from benchmarks.photographs import chosen, photographs
from features.engines.choice import choose
from features.extraction import Extraction
from features.files import sha256_file
from features.images import ImageFolder, Preprocessing
from features.manifest import Manifest, Row
from features.network import parse_layer, prefix
from features.recipe import Recipe
from features.sources import Request, obtain, write
from features.weights import Weights
from pipeline.finetuning.feed import Activations
from pipeline.finetuning.network import CutNetwork
from pipeline.finetuning.plan import Hyperparameters
from pipeline.finetuning.trainer import Task, train
from pipeline.params import load

SIDE, BATCH, CLASSES = 224, 32, 10
TOP = parse_layer("pool5", "vgg16")
RATE = 1e-4
PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"


class Files(Dataset[tuple[torch.Tensor, int]]):
    """Photographs as torchvision's preset of the network sees them."""

    def __init__(self, files: Sequence[Path], weights: Weights) -> None:
        mean, std = ((value / 255 for value in values) for values in weights.normalisation)
        self.files = files
        self.transform = transforms.Compose([
            transforms.Resize(256), transforms.CenterCrop(SIDE), transforms.ToTensor(),
            transforms.Normalize(list(mean), list(std)),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.open(self.files[number]).convert("RGB")), number % CLASSES


@dataclass(frozen=True)
class Bench:
    """Some photographs, and the weights."""

    folder: Path
    manifest: Manifest
    weights: Weights

    @classmethod
    def laid_out(cls, folder: Path, images: Path | None, weights: Path | None, count: int) -> "Bench":
        """Copy photographs and weights into a folder; noise and random weights where none are given."""
        chosen(images, folder / "images", count) if images else photographs(folder / "images", count)
        request = Request("vgg16", ("file" if weights else "random",), weights, None, seed=0)
        write(obtain(request, folder), folder / "weights", folder / "scratch", {})
        rows = []
        for number, file in enumerate(sorted((folder / "images").rglob("*.jpg"))):
            path = file.relative_to(folder / "images").as_posix()
            with Image.open(file) as image:
                size = image.size
            rows.append(Row(path, path, str(number % CLASSES), "train", sha256_file(file), *size))
        return cls(folder, Manifest(tuple(rows)), Weights.open(folder / "weights"))

    def model(self, cut: str) -> CutNetwork:
        """The network with a linear top, cut."""
        state, width = self.weights.state(TOP), TOP.width((SIDE, SIDE))
        return CutNetwork(TOP, cut, state, self.weights.normalisation, CLASSES, width)

    def ours(self, cut: str, epochs: int) -> float:
        """Seconds to train from the cache, the extraction into it and the checkpoints included."""
        begun = time.perf_counter()
        layer = parse_layer(cut, "vgg16")
        recipe = Recipe(
            (layer,), ("none",), self.weights,
            Preprocessing((SIDE, SIDE), True, *self.weights.normalisation), choose("auto", "cpu", "fp32"),
            "float16", self.folder / f"cache of {cut}",
        )  # fmt: skip
        plan = Extraction(recipe, self.manifest, ImageFolder(self.folder / "images"))
        plan.fill()
        feed = Activations([plan.places(layer, "none")], layer.shape((SIDE, SIDE)), "float16")
        rows, settings = np.arange(len(self.manifest)), load(PARAMS).finetune
        train(
            Task(
                words=cut, start=lambda: self.model(cut).to(memory_format=torch.channels_last), feed=feed,
                rows=rows, validation=rows[:0], labels=self.manifest.labels, epochs=epochs,
                score="top1",
                hyperparameters=Hyperparameters(RATE, 0.0),
                settings=settings.model_copy(update={"batch_size": BATCH}),
                pretrained=frozenset(), device=torch.device("cpu"),
                file=self.folder / f"{cut}.safetensors", facts={},
            ),
            epochs,
        )  # fmt: skip
        return time.perf_counter() - begun

    def theirs(self, cut: str, epochs: int) -> float:
        """Seconds of the usual loop: torchvision's network, the layers up to the cut without gradient."""
        model = vgg16(init_weights=False).features.to(memory_format=torch.channels_last)
        tensors = self.weights.state(TOP)
        model.load_state_dict(
            {name.removeprefix("features."): torch.tensor(t) for name, t in tensors.items()}
        )
        frozen = {name for step in prefix("vgg16", cut) for name in step.state}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(f"features.{name}" not in frozen)
        network = nn.Sequential(model, nn.Flatten(), nn.Linear(TOP.width((SIDE, SIDE)), CLASSES))
        optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=RATE)
        files = [self.folder / "images" / row.path for row in self.manifest.rows]
        loader = DataLoader(Files(files, self.weights), BATCH, shuffle=True, num_workers=1)
        begun = time.perf_counter()
        for _ in range(epochs):
            for pixels, labels in loader:
                x = pixels.contiguous(memory_format=torch.channels_last)
                loss = nn.functional.cross_entropy(network(x), labels)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return time.perf_counter() - begun
