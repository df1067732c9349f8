"""Train a network's tail: the loop, the optimiser, the schedule, the scores.

history, best = train(model, decoder, settings, device)
model.load_state_dict(best)
logits = scores(model, decoder, manifest.where("test"), device)
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.batches import Decoder, Pixels
from features.errors import BadInput
from features.modules import build
from features.network import Layer
from features.progress import Progress
from features.weights import Weights
from pipeline.calibration import log_loss
from pipeline.params import Finetune

DROPOUT = 0.5  # behind the hidden dense layers, as in the VGG paper
EVALUATION_BATCH = 64  # images
MAX_NORM = 5.0  # gradients longer than this are shortened: one odd batch must not undo the pretraining


@dataclass(frozen=True)
class Epoch:
    """What one pass over the train rows gave; epoch 0 is the start, before any step."""

    epoch: int
    train_loss: float
    validation_top1: float
    validation_log_loss: float
    seconds: float

    @property
    def rank(self) -> tuple[float, float]:
        """Higher is better: accuracy, ties decided by log-loss."""
        return self.validation_top1, -self.validation_log_loss


class Tuned(nn.Module):
    """The network up to `top`, and a new output layer on its standardised activations.

    The features' mean and scale over the train rows are constants of the module:
    a linear head that was fitted on standardised features continues as it is,
    and the output layer's inputs are of the size that its learning rate assumes.
    """

    mean: Tensor
    std: Tensor
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, top: Layer, weights: Weights, n_classes: int, width: int) -> None:
        super().__init__()
        mean, std = weights.normalisation
        self.network = build(top.steps, weights.state(top.steps), dropout=DROPOUT)
        self.output = nn.Linear(width, n_classes)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_scale", torch.ones(width))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (B, H, W, 3) uint8 to (B, n_classes) logits."""
        x = (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std  # (B, 3, H, W), channels last
        x = self.network(x).flatten(1)  # (B, width)
        logits: Tensor = self.output((x - self.feature_mean) / self.feature_scale)
        return logits


def train(
    model: Tuned, decoder: Decoder, settings: Finetune, device: torch.device
) -> tuple[list[Epoch], dict[str, Tensor]]:
    """Train; return the history and the state of the best epoch on validation rows."""
    manifest = decoder.manifest
    validation = manifest.where("validation")
    history: list[Epoch] = []
    best = _copy(model)
    begun = time.monotonic()
    passes = _passes(model, decoder, settings, device, manifest.where("train"), settings.epochs)
    for number, losses in enumerate(passes):
        logits = scores(model, decoder, validation, device)
        top1 = float((logits.argmax(axis=1) == manifest.labels[validation]).mean())
        loss = log_loss(logits, manifest.labels[validation])
        mean = float(np.mean(losses)) if losses else float("nan")
        history.append(Epoch(number, mean, top1, loss, round(time.monotonic() - begun, 3)))
        print(f"finetune: epoch {number}, validation top-1 {top1:.4f}, log-loss {loss:.4f}", flush=True)
        if history[-1].rank >= max(epoch.rank for epoch in history):
            best = _copy(model)
        begun = time.monotonic()
    return history, best


def refit(model: Tuned, decoder: Decoder, settings: Finetune, device: torch.device, epochs: int) -> None:
    """Train on train and validation rows together, by the same schedule, and stop after so many epochs."""
    manifest = decoder.manifest
    rows = np.sort(np.concatenate([manifest.where("train"), manifest.where("validation")]))
    for _ in _passes(model, decoder, settings, device, rows, epochs):
        pass


def _passes(
    model: Tuned,
    decoder: Decoder,
    settings: Finetune,
    device: torch.device,
    rows: NDArray[np.intp],
    epochs: int,
) -> Iterator[list[float]]:
    """Train; yields the losses of every epoch, none for epoch 0: the start as it is."""
    order = np.random.default_rng(settings.seed)
    steps = math.ceil(len(rows) / settings.batch_size)
    optimiser, schedule = _optimiser(model, settings, settings.epochs * steps)
    yield []
    with Progress("finetune", epochs * len(rows), "images") as progress:
        for _ in range(epochs):
            losses: list[float] = []
            batches = np.array_split(order.permutation(rows), steps)
            for loss in _steps(model, decoder, batches, optimiser, schedule, device):
                losses.append(loss)
                progress.advance(len(batches[len(losses) - 1]))
            yield losses


def _optimiser(
    model: Tuned, settings: Finetune, total: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, a lower rate for pretrained layers; linear warm-up, then a cosine to zero."""
    optimiser = torch.optim.AdamW(
        [
            {
                "params": model.network.parameters(),
                "lr": settings.learning_rate * settings.pretrained_factor,
            },
            {"params": model.output.parameters(), "lr": settings.learning_rate},
        ],
        weight_decay=settings.weight_decay,
    )
    rising = settings.warmup * total

    def factor(step: int) -> float:
        risen = min(1.0, (step + 1) / rising) if rising else 1.0
        return risen * 0.5 * (1 + math.cos(math.pi * step / total))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def _steps(
    model: Tuned,
    decoder: Decoder,
    batches: Sequence[NDArray[np.intp]],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    device: torch.device,
) -> Iterator[float]:
    """One pass over the train rows; yields the loss of every step.

    Raises
    ------
    BadInput
        When the loss is no longer a finite number.
    """
    model.train()
    for numbers, pixels in zip(batches, decoder.batches(batches), strict=True):
        labels = torch.from_numpy(decoder.manifest.labels[numbers]).long().to(device)
        loss = nn.functional.cross_entropy(model(_on(pixels, device)), labels)
        if not loss.isfinite():
            raise BadInput(
                "finetune: training diverged (the loss is not finite); lower finetune.learning_rate"
            )
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimiser.step()
        schedule.step()
        yield loss.item()


@torch.inference_mode()
def scores(
    model: Tuned, decoder: Decoder, numbers: NDArray[np.intp], device: torch.device
) -> NDArray[np.float32]:
    """Logits of some rows, (n, n_classes) float32, in evaluation mode."""
    model.eval()
    batches = np.split(numbers, range(EVALUATION_BATCH, len(numbers), EVALUATION_BATCH))
    logits = [model(_on(pixels, device)).cpu() for pixels in decoder.batches(batches)]
    return np.asarray(torch.cat(logits).numpy())


def _on(pixels: Pixels, device: torch.device) -> Tensor:
    return torch.from_numpy(pixels).to(device)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
