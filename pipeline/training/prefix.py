"""What a tail is fed: cached activations at the cut, or pixels that the frozen prefix meets anew.

    choice = choose(project, manifest, mode)
    opened, seconds = feed(project, manifest, mode, choice)
    for batch in opened.batches([positions]):
        logits = opened.logits(model, batch)

Positions count images and their views, row by row: view v of image i is i × views + v.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from features.batches import Decoder
from features.cache import Places, gather, open_rows
from features.manifest import Manifest
from features.network import Layer, parse_layer
from features.views import names
from pipeline.extraction import extraction
from pipeline.project import Project
from pipeline.training.modes import IMAGE, Mode
from pipeline.training.tail import Tuned

Positions = NDArray[np.intp]
SMALLEST_CROP = 0.5  # of the image's area: VGG's own training crops keep about that much
CROPS, FLIPS = ("crop", "crop-flip"), ("flip", "crop-flip")  # values of finetune.augment


@dataclass(frozen=True)
class Choice:
    """Whether the prefix is read from the cache, and why."""

    cached: bool
    why: str


class Feed(ABC):
    """A source of batches, and the part of the model that they go through."""

    views: int  # of each image

    @abstractmethod
    def batches(self, positions: Sequence[Positions]) -> Iterator[Tensor]:
        """Yield one batch on the CPU for each array of positions."""

    @abstractmethod
    def logits(self, model: Tuned, batch: Tensor) -> Tensor:
        """Map a batch to (B, n_classes)."""

    def augmented(self, batch: Tensor) -> Tensor:
        """Draw a new version of each image of a train batch, by torch's global generator."""
        return batch


class Pixels(Feed):
    """Images, (B, H, W, 3) uint8: the prefix is computed each time."""

    def __init__(self, decoder: Decoder, augment: str) -> None:
        self.decoder, self.views = decoder, len(decoder.views)
        drawn: list[v2.Transform] = []
        if augment in CROPS:
            size = decoder.preprocessing.size
            drawn.append(v2.RandomResizedCrop(size, scale=(SMALLEST_CROP, 1.0), antialias=True))
        if augment in FLIPS:
            drawn.append(v2.RandomHorizontalFlip())
        self.transform = v2.Compose(drawn) if drawn else None

    def batches(self, positions: Sequence[Positions]) -> Iterator[Tensor]:
        """Decoded a little ahead."""
        return map(torch.from_numpy, self.decoder.batches(positions))

    def logits(self, model: Tuned, batch: Tensor) -> Tensor:
        """Through the whole network."""
        logits: Tensor = model(batch)
        return logits

    def augmented(self, batch: Tensor) -> Tensor:
        """Each image by itself."""
        if self.transform is None:
            return batch
        images = batch.permute(0, 3, 1, 2)
        return torch.stack([self.transform(image) for image in images]).permute(0, 2, 3, 1)


class Activations(Feed):
    """Cached activations at the cut, (B, …) float32."""

    def __init__(self, places: Sequence[Places], shape: tuple[int, ...], dtype: str) -> None:
        self.places, self.shape, self.dtype = places, shape, np.dtype(dtype)
        self.views = len(places)
        self.opened = cache(open_rows)

    def batches(self, positions: Sequence[Positions]) -> Iterator[Tensor]:
        """Read from their blocks."""
        width = int(np.prod(self.shape))
        for batch in positions:
            image, view = np.divmod(batch, self.views)
            rows = np.empty((len(batch), width), np.float32)
            for number, places in enumerate(self.places):
                own = np.flatnonzero(view == number)
                if len(own):
                    rows[own] = gather(places[image[own]], width, self.dtype, self.opened)
            yield torch.from_numpy(rows).reshape(len(batch), *self.shape)

    def logits(self, model: Tuned, batch: Tensor) -> Tensor:
        """Through the tail alone."""
        return model.tail(batch)


def views_of(project: Project) -> tuple[str, ...]:
    """The views of each image that training draws from."""
    stored = project.settings.finetune.augment == "views"
    return names(project.settings.extract.views) if stored else ("none",)


def choose(project: Project, manifest: Manifest, mode: Mode) -> Choice:
    """Decide by sizes alone, so that the same settings always give the same."""
    settings = project.settings.finetune
    if mode.cut == IMAGE:
        return Choice(False, "nothing is frozen")
    if settings.augment in (*CROPS, *FLIPS):
        return Choice(False, f"finetune.augment is {settings.augment}: every image is new each time")
    need = bytes_of(project, manifest, parse_layer(mode.cut, project.settings.weights.network)) / 1e9
    if need > settings.cache_gb:
        return Choice(
            False, f"its activations would take {need:.1f} GB, finetune.cache_gb is {settings.cache_gb:g}"
        )
    return Choice(True, f"{need:.2g} GB, finetune.cache_gb is {settings.cache_gb:g}")


def bytes_of(project: Project, manifest: Manifest, layer: Layer) -> int:
    """What the cache takes for all images' activations of a layer."""
    size = np.dtype(project.settings.extract.dtype).itemsize
    return len(manifest) * len(views_of(project)) * layer.width(project.image_size) * size


def feed(project: Project, manifest: Manifest, mode: Mode, choice: Choice) -> tuple[Feed, float]:
    """Open what a mode's tail is fed; computes what the cache lacks.

    Returns
    -------
    The feed, and what its activations cost when they were computed, in seconds.
    """
    network = project.settings.weights.network
    views = views_of(project)
    if choice.cached:
        layer = parse_layer(mode.cut, network)
        plan = extraction(project, manifest, [layer], views)
        plan.fill()
        places = [plan.places(layer, view) for view in views]
        return Activations(places, layer.shape(project.image_size), plan.dtype), plan.seconds(layer)
    plan = extraction(project, manifest, [parse_layer("pixels", network)], views)
    decoder = Decoder(manifest, plan.source, plan.preprocessing, views)
    return Pixels(decoder, project.settings.finetune.augment), 0.0
