"""What a tail is fed: cached activations at the cut, or pixels that the frozen prefix meets anew.

    feed, seconds = open_feed(plan)
    for batch in feed.batches([positions]):
        logits = feed.logits(model, batch)

Positions count images and their views, row by row: view v of image i is i × views + v.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from features.batches import Decoder
from features.cache import Places, gather, open_rows
from features.network import parse_layer
from features.positions import Positions
from pipeline.finetuning.network import CutNetwork
from pipeline.finetuning.plan import CROPS, FLIPS, Plan, views_of
from pipeline.stores.recipe import extraction_of

SMALLEST_CROP = 0.5  # of the image's area: VGG's own training crops keep about that much


class Feed(ABC):
    """A source of batches, and the part of the model that they go through."""

    views: int  # of each image

    @abstractmethod
    def batches(self, positions: Sequence[Positions]) -> Iterator[Tensor]:
        """Yield one batch on the CPU for each array of positions."""

    @abstractmethod
    def logits(self, model: CutNetwork, batch: Tensor) -> Tensor:
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

    def logits(self, model: CutNetwork, batch: Tensor) -> Tensor:
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

    def logits(self, model: CutNetwork, batch: Tensor) -> Tensor:
        """Through the tail alone."""
        return model.tail(batch)


def open_feed(plan: Plan) -> tuple[Feed, float]:
    """Open what a plan's tail is fed; computes what the cache lacks.

    Returns
    -------
    The feed, and what its activations cost when they were computed, in seconds.
    """
    project, manifest, views = plan.project, plan.manifest, views_of(plan.project)
    network = project.settings.weights.network
    if plan.prefix.cached:
        layer = parse_layer(plan.mode.cut, network)
        cached = extraction_of(project, manifest, [layer], views)
        cached.fill()
        places = [cached.places(layer, view) for view in views]
        return Activations(places, layer.shape(project.image_size), cached.recipe.dtype), cached.seconds(
            layer
        )
    pixels = extraction_of(project, manifest, [parse_layer("pixels", network)], views)
    decoder = Decoder(manifest, pixels.source, pixels.recipe.preprocessing, views)
    return Pixels(decoder, project.settings.finetune.augment), 0.0
