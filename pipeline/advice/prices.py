"""What each way of using the network costs on this machine: measured where it was done, else reckoned.

    rates = Rates.of(project, manifest)
    price("finetune.full", project, manifest, rates).epoch     # seconds

A training step on an image counts as three forward passes through what is trained (forward, and
backward to activations and to weights); what is frozen below it is computed once, and kept.
"""

import time
from dataclasses import dataclass
from typing import Any, Self

from features.cuts import parse_mode, top_layer
from features.engines.choice import choose
from features.errors import BadInput
from features.manifest import Manifest
from features.network import parse_layer
from pipeline.finetuning.plan import Plan
from pipeline.project import Project, read_json
from pipeline.records.cards import BASELINES
from pipeline.records.runs import read_run

BACKWARD = 2  # forward passes that the way back costs
TRIAL_SECONDS = 0.5  # of training a single convolution, where no run has been measured


@dataclass(frozen=True)
class Work:
    """GFLOP per image: of the frozen prefix, forward, once; and of the trained part, forward, every epoch."""

    frozen: float
    trained: float


@dataclass(frozen=True)
class WayPrice:
    """Seconds; None where nothing is known.

    Attributes
    ----------
    once : float or None
        What is computed once: features, or the activations of a frozen prefix.
    epoch : float or None
        A pass over the train images.
    total : float or None
        All passes of all that is tried (see `finetune`), or a head's whole tuning; without `once`.
    source : str
        `measured`, `reckoned`, or why there is no price.
    """

    once: float | None
    epoch: float | None
    total: float | None
    source: str


@dataclass(frozen=True)
class Rates:
    """GFLOP/s of extraction (None where it was not measured) and of training, and how these are known."""

    extraction: float | None
    training: float
    source: str

    @classmethod
    def of(cls, project: Project, manifest: Manifest) -> Self:
        """Take the rates from what was done on this device, else measure training for half a second."""
        device = choose("torch", project.settings.device, "auto").device
        extraction = _extraction_rate(project, manifest)
        for mode in project.settings.finetune.modes:
            run = finished(project, manifest, mode)
            if run and run["device"] == device:
                done = (1 + BACKWARD) * work(run["method"], project).trained * run["images_seen"]
                return cls(extraction, done / run["seconds"], f"{run['method']} on {device}")
        said = f"one convolution for {TRIAL_SECONDS} s on {device}, so that real training takes longer"
        return cls(extraction, convolution_rate(device), said)


def finished(project: Project, manifest: Manifest, mode: str) -> dict[str, Any] | None:
    """Read the card of a fine-tuning run; None where there is none with these settings and images."""
    try:
        card = read_run(project, mode)
    except BadInput:
        return None
    return card if card["inputs"] == Plan(project, manifest, mode).facts else None


def work(method: str, project: Project) -> Work:
    """Count a fine-tuned method's operations: `finetune.full`, `.scratch`, `.dense`, `.freeze:conv4_1`."""
    network, size = project.settings.weights.network, project.image_size
    mode = parse_mode(method.removeprefix(BASELINES), network)
    top = top_layer(project.settings.finetune.top, mode, project.read_weights())
    frozen = parse_layer(mode.cut, network).gflops(size)
    return Work(frozen, top.gflops(size) - frozen)


def price(method: str, project: Project, manifest: Manifest, rates: Rates) -> WayPrice:
    """Price a fine-tuned method: measured where this very run is finished, else reckoned."""
    needed, mode = work(method, project), method.removeprefix(BASELINES)
    images, held = len(manifest.where("train")), len(manifest.where("validation"))
    card = finished(project, manifest, mode) if mode in project.settings.finetune.modes else None
    if card:
        epochs = card["images_seen"] / images
        return WayPrice(card["prefix"]["seconds"], card["seconds"] / epochs, card["seconds"], "measured")
    plan = Plan(project, manifest, mode)
    epoch = needed.trained * ((1 + BACKWARD) * images + held) / rates.training
    once = needed.frozen * len(manifest) / (rates.extraction or rates.training)
    if not plan.prefix.cached:
        once, epoch = 0.0, epoch + needed.frozen * (images + held) / rates.training
    return WayPrice(once, epoch, epoch * plan.epochs_in_all, "reckoned")


def extraction_seconds(project: Project, layer: str) -> float | None:
    """What computing a layer's features cost when they were computed; None where that is not recorded."""
    if not project.extract_record.exists():
        return None
    spent = read_json(project.extract_record).get("computed_seconds", {}).get(layer)
    return None if spent is None else float(spent)


def _extraction_rate(project: Project, manifest: Manifest) -> float | None:
    """GFLOP/s, counted as direct convolutions, of the layer with the most operations."""
    views = read_json(project.extract_record).get("views", 1) if project.extract_record.exists() else 1
    rates = {}
    for layer in project.layers:
        operations, seconds = layer.gflops(project.image_size), extraction_seconds(project, layer.name)
        if operations and seconds:
            rates[operations] = operations * len(manifest) * views / seconds
    return rates[max(rates)] if rates else None


def convolution_rate(device: str) -> float:
    """Measure GFLOP/s of training a 3 × 3 convolution of 256 channels, forward and backward."""
    import torch  # noqa: PLC0415 - slow to import, and not needed where a run was measured

    channels, side, images = 256, 28, 4
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1).to(device)
    x = torch.randn(images, channels, side, side, device=device, requires_grad=True)
    operations = (1 + BACKWARD) * 2 * 9 * channels**2 * side**2 * images / 1e9

    def step() -> None:
        layer(x).square().mean().backward()
        x.grad.flatten()[0].item()  # type: ignore[union-attr]  # waits for the device

    step()
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < TRIAL_SECONDS:
        step()
        steps += 1
    return operations * steps / (time.perf_counter() - begun)
