"""The weights of a project: what is trained in them, their preprocessing, their tensors.

weights = Weights.open(Path("artifacts/weights"))
weights.label(parse_layer("fc7", "vgg16"))  # "imagenet", "untrained", …
weights.tensors(layer)  # to compute with: weight and bias per step, batch norm folded in
weights.state(layer)    # to train: batch norm's tensors as they are
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from features.errors import BadInput, Damaged
from features.files import by_safetensors, of_machine
from features.immutable import read_card
from features.network import Layer, Step

PROVENANCE = "provenance.json"  # beside the tensors, sealed

# What batch norm adds to the variance: torch's default, with which torchvision's and timm's networks
# are trained. Fixed, and therefore no part of a fingerprint.
EPSILON = 1e-5

UNTRAINED = ("untrained", "random")  # labels: numbers made with such weights are marked wherever they appear

RGB = tuple[float, float, float]
Array = NDArray[np.float32]


def digest(tensor: Array) -> str:
    """Hexadecimal sha256 of a float32 tensor's values."""
    return hashlib.sha256(np.ascontiguousarray(tensor).data).hexdigest()


def marked(name: str, label: str) -> str:
    """A method's or layer's name, with the label of its weights where these are not trained."""
    return f"{name} ({label})" if label in UNTRAINED else name


@dataclass(frozen=True)
class Weights:
    """The weights of a project, as `sources.write` left them; tensors are read only when asked for."""

    file: Path
    provenance: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Weights":
        """Open a folder that `sources.write` made.

        Raises
        ------
        BadInput
            When its record is missing or damaged.
        """
        try:
            provenance = read_card(folder, PROVENANCE)
        except Damaged as error:
            raise BadInput(f"{folder}: {error}; run `python cli.py weights` again") from error
        return cls(folder / f"{provenance['network']}.safetensors", provenance)

    @property
    def network(self) -> str:
        """The member of the family, `vgg16`."""
        return str(self.provenance["network"])

    @property
    def normalisation(self) -> tuple[RGB, RGB]:
        """Mean and standard deviation per channel, on the 0 … 255 scale."""
        mean, std = self.provenance["mean"], self.provenance["std"]
        return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])

    def origin(self, step: Step) -> str:
        """Where a step's parameters are from: `imagenet`, `file`, `untrained` or `random`."""
        return str(self.provenance["layers"][step.name])

    def label(self, layer: Layer) -> str:
        """How numbers of a layer are labelled.

        `random`, `untrained`, `file`, `imagenet`, the first that is true of any
        step; `none` where no step has parameters (the layer `pixels`).
        """
        origins = {self.origin(step) for step in layer.steps if step.key}
        return next((name for name in ("random", "untrained", "file", "imagenet") if name in origins), "none")

    def digests(self, layer: Layer) -> dict[str, str]:
        """The sha256 of each tensor the layer depends on."""
        return {name: self.provenance["tensors"][name] for name in layer.tensors}

    def fingerprint(self, layer: Layer) -> str:
        """One sha256 for all tensors the layer depends on."""
        return hashlib.sha256(json.dumps(self.digests(layer), sort_keys=True).encode()).hexdigest()

    def tensors(self, layer: Layer) -> dict[str, Array]:
        """Weight and bias of each step to the layer, batch norm folded in (see `state`, `folded`)."""
        state = self.state(layer)
        return {name: tensor for step in layer.steps for name, tensor in folded(step, state).items()}

    def state(self, layer: Layer) -> dict[str, Array]:
        """Read the layer's tensors as stored and check their digests; BadInput where one differs."""
        expected = self.digests(layer)
        try:
            with by_safetensors(self.file), safe_open(self.file, framework="np") as opened:
                tensors = {name: opened.get_tensor(name) for name in expected}
        except (SafetensorError, OSError) as error:
            if of_machine(error):
                raise
            raise BadInput(f"{self.file} cannot be read ({error}); run `weights` again") from error
        for name, tensor in tensors.items():
            if digest(tensor) != expected[name]:
                raise BadInput(f"{self.file}: {name} is not what provenance.json says; run `weights` again")
        return tensors


def folded(step: Step, state: Mapping[str, Array]) -> dict[str, Array]:
    """The step's weight and bias, with its batch norm, in evaluation mode, folded into both.

    w·γ/√(σ² + ε) and (b − μ)·γ/√(σ² + ε) + β, computed in float64 and rounded
    once; as they are where the step has no batch norm.
    """
    if step.norm:
        weight, bias, gamma, beta, mean, variance = (state[name].astype(np.float64) for name in step.state)
        scale = gamma / np.sqrt(variance + EPSILON)  # (outputs,)
        weight, bias = weight * scale[:, None, None, None], (bias - mean) * scale + beta
        return dict(zip(step.tensors, (weight.astype(np.float32), bias.astype(np.float32)), strict=True))
    return {name: state[name] for name in step.tensors}
