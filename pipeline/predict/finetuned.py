"""A fine-tuned network, opened to be used on new images (see `pipeline.predict.method.Method`).

    method = FineTuned(project, "finetune.full", Path("artifacts/finetune/full"))

The file holds the whole network, its preprocessing constants included: nothing else is read.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.batches import Decoder
from features.cache import RUN_CARD
from features.engines.choice import choose
from features.errors import BadInput, Damaged
from features.files import load_tensors
from features.forward import BLOCK_IMAGES
from features.images import Preprocessing
from features.immutable import unseal
from features.network import Layer, parse_layer
from features.probe import REFERENCE, Library
from features.turns import starts_threads, turn
from features.weights import RGB
from pipeline.finetuning.feed import Pixels
from pipeline.finetuning.network import CutNetwork
from pipeline.finetuning.trainer import scores
from pipeline.made_with import differing, in_words, way_back
from pipeline.predict.method import OTHER_PILLOW, Scored, cards_of, identity_of, note_of
from pipeline.project import Project
from pipeline.statistics.calibration import calibrated


class FineTuned:
    """See `pipeline.predict.method.Method`."""

    def __init__(self, project: Project, name: str, folder: Path) -> None:
        cards = cards_of({name: folder})
        try:
            card = unseal(folder, RUN_CARD)
        except Damaged as error:
            identity_of({name: folder}, cards)  # being replaced, it may look damaged
            mode = name.partition(".")[2]
            raise BadInput(f"{folder}: {error}; run `python cli.py finetune --mode {mode}` again") from error
        size = project.image_size
        if card["inputs"]["image_size"] != list(size):
            others = differing(
                {"image_size": card["inputs"]["image_size"]}, {"image_size": list(size)}, "extract."
            )
            raise BadInput(
                f"{name} was trained on images of {in_words(others)}; {way_back(others)}, or fine-tune again"
            )
        self.members: tuple[str, ...] = (name,)
        self.layer_names: tuple[str, ...] = (card["top"],)
        self.name, self.weights, self.temperature = name, card["weights"], card["temperature"]
        self.classes, self.views = tuple(card["classes"]), tuple(card["inputs"]["views"])
        settings = project.settings
        chosen = choose(settings.extract.engine, settings.device, settings.extract.precision)
        self.device = torch.device(chosen.device)
        self.top = top = parse_layer(card["top"], settings.weights.network)
        tensors = load_tensors(folder / "model.safetensors")
        self.identity = identity_of({name: folder}, cards)
        starts_threads("torch")
        mean, std = (_rgb(tensors[key]) for key in ("mean", "std"))
        self.preprocessing = Preprocessing(size, project.crop, mean, std)
        library = Library(**{key: card["inputs"].get(key, word) for key, word in REFERENCE.words().items()})
        self.note = note_of(OTHER_PILLOW if library != self.preprocessing.library else "")
        model = rebuilt(top, card["cut"], tensors, len(self.classes), top.width(size))
        self.model = model.to(self.device).to(memory_format=torch.channels_last)

    def scored(self, decoder: Decoder) -> Iterator[Scored]:
        """See `pipeline.predict.method.Method`."""
        feed = InTurn(decoder, "none")
        images = np.arange(len(decoder.manifest))
        for part in np.split(images, range(BLOCK_IMAGES, len(images), BLOCK_IMAGES)):
            yield Scored(calibrated(scores(self.model, feed, part, self.device), self.temperature), {})


class InTurn(Pixels):
    """Pixels that meet the network one batch at a time, whichever thread they come from."""

    def logits(self, model: CutNetwork, batch: Tensor) -> Tensor:
        """See `pipeline.finetuning.feed.Feed`."""
        starts_threads("torch")
        with turn:
            return super().logits(model, batch)


def rebuilt(
    top: Layer, cut: str, tensors: Mapping[str, NDArray[Any]], n_classes: int, width: int
) -> CutNetwork:
    """Put a saved network together again from all of its tensors; BadInput where some do not fit."""
    state = steps_of(top, tensors)
    normalisation = _rgb(tensors["mean"]), _rgb(tensors["std"])
    try:
        model = CutNetwork(top, cut, state, normalisation, n_classes, width)
        model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
    except (KeyError, RuntimeError) as error:
        raise BadInput(
            f"the fine-tuned network does not fit weights.network = {top.network}: {error}"
        ) from error
    return model.eval()


def steps_of(top: Layer, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The steps' tensors of a saved network by torchvision's names, as `Weights.state` gives them."""
    return {
        name: tensors[
            f"network.{step.name}{'_norm' if key == step.norm else ''}.{name.removeprefix(f'{key}.')}"
        ]
        for step in top.steps
        for key in filter(None, (step.key, step.norm))
        for name in step.state
        if name.startswith(f"{key}.")
    }


def _rgb(tensor: NDArray[Any]) -> RGB:
    red, green, blue = tensor.ravel().tolist()
    return red, green, blue
