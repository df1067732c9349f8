"""The end-to-end baseline: the same network, on the same split, trained.

    python cli.py finetune --mode full

Per mode: `artifacts/finetune/<mode>/` with `model.safetensors` (torchvision's
parameter names, and the new output layer), `card.json`, `history.csv` and
`predictions.npz`. A finished run is kept under the cache root and published from
there: nothing is trained twice.

References
----------
Kumar et al., Fine-Tuning can Distort Pretrained Features, arXiv:2202.10054 (the
new output layer starts from a head fitted on frozen features).
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from features.batches import Decoder, Pixels
from features.errors import BadInput
from features.extract import Extraction
from features.files import remove, written_aside
from features.manifest import Manifest, write_csv
from features.modules import build
from features.network import Layer, parse_layer
from features.progress import Progress
from features.weights import Weights
from pipeline.calibration import calibrated, log_loss, temperature
from pipeline.extraction import extraction
from pipeline.heads.linear import LinearHead, LogReg
from pipeline.predictions import Predictions
from pipeline.project import Project, read_json
from pipeline.tuning import Rows, tune

DROPOUT = 0.5  # behind the hidden dense layers, as in the VGG paper
EVALUATION_BATCH = 64  # images
START_GRID = {"C": tuple(10.0**k for k in range(-5, 3))}  # of the head the output layer starts from
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
        self.network = build(top.steps, weights.tensors(top.steps), dropout=DROPOUT)
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


def finetune(project: Project, modes: Sequence[str]) -> None:
    """Train the baselines that are not there yet; publish all of them.

    Raises
    ------
    BadInput
        Where `prepare`, `weights` or `extract` has to run first; when training diverges.
    """
    manifest = project.read_manifest()
    with project.writing(project.finetune_folder()) as scratch:
        project.finetune_folder().mkdir(parents=True, exist_ok=True)
        for mode in modes:
            facts = inputs(project, manifest, mode)
            run = run_folder(project, facts)
            if not (run / "card.json").exists():
                _train(project, manifest, mode, facts, run)
            else:
                print(f"finetune: {mode} was trained before, taken from {run}", flush=True)
            _publish(run, project.finetune_folder(mode), scratch)
        if tuple(modes) == project.settings.finetune.modes:
            wanted = {project.finetune_folder(mode) for mode in modes}
            for folder in set(project.finetune_folder().iterdir()) - wanted:
                remove(folder)


def inputs(project: Project, manifest: Manifest, mode: str) -> dict[str, Any]:
    """Everything a run depends on: the fingerprint under which it is kept."""
    top = top_layer(project)
    weights = project.read_weights()
    return {
        "revision": 1,  # raised by hand when the training procedure changes
        "mode": mode,
        "manifest": manifest.digest,
        "weights": weights.fingerprint(top.steps),
        "top": top.name,
        "image_size": list(project.image_size),
        "features": project.parameters()["extract"],
        "finetune": project.settings.finetune.model_dump(mode="json", exclude={"modes", "top"}),
    }


def run_folder(project: Project, facts: dict[str, Any]) -> Path:
    """Where the finished run of these inputs is kept, shared by all projects."""
    fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return project.cache_root / "runs" / fingerprint


def top_layer(project: Project) -> Layer:
    """Resolve `finetune.top`: the layer that the new output layer stands on."""
    asked, network = project.settings.finetune.top, project.settings.weights.network
    if asked == "auto":
        trained = project.read_weights().label(parse_layer("fc7", network).steps) in ("imagenet", "file")
        asked = "fc7" if trained else "pool5"
    return parse_layer(asked, network)


def _publish(run: Path, target: Path, scratch: Path) -> None:
    """Copy a finished run: the cache stays, whatever becomes of the project's outputs."""
    with written_aside(target, scratch=scratch) as aside:
        aside.mkdir()
        for file in sorted(run.iterdir()):
            (aside / file.name).write_bytes(file.read_bytes())


def _train(project: Project, manifest: Manifest, mode: str, facts: dict[str, Any], run: Path) -> None:
    """Train from the start to the last epoch, keep the best epoch, predict the test rows once."""
    settings = project.settings.finetune
    images = len(manifest.where("train"))
    if settings.batch_size > images:
        raise BadInput(f"finetune.batch_size is {settings.batch_size}, but there are {images} train images")
    started = time.monotonic()
    top = top_layer(project)
    plan = extraction(project, manifest, [top])
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with it only
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(settings.seed)
    model = Tuned(top, plan.weights, len(manifest.classes), top.width(project.image_size))
    if settings.head_start == "head":
        _start_from_head(model, project, plan, top)
    device = torch.device(plan.choice.device)
    model.to(device).to(memory_format=torch.channels_last)
    print(
        f"finetune: {mode} on {device}, new output layer on {top.name}, {_parameters(model):,} parameters, "
        f"{settings.epochs} epochs of {images} images",
        flush=True,
    )
    decoder = Decoder(manifest, plan.source, plan.preprocessing)
    history, best = _epochs(model, decoder, project, device)
    model.load_state_dict(best)
    scores = _scores(model, decoder, manifest.where("validation"), device)
    T = temperature(scores, manifest.labels[manifest.where("validation")])
    proba = calibrated(_scores(model, decoder, manifest.where("test"), device), T)
    chosen = max(history, key=lambda epoch: epoch.rank)
    card = {
        "schema": 1,
        "method": f"finetune.{mode}",
        "mode": mode,
        "top": top.name,
        "weights": plan.weights.label(top.steps),
        "inputs": facts,
        "chosen": {"epoch": chosen.epoch},
        "validation": {"top1": chosen.validation_top1, "log_loss": chosen.validation_log_loss},
        "temperature": T,
        "classes": list(manifest.classes),
        "runs": 1,
        "images_seen": settings.epochs * images,
        "seconds": round(time.monotonic() - started, 3),
        "trainable_parameters": _parameters(model),
        "device": str(device),
        "versions": {"torch": version("torch")},
    }
    with written_aside(run) as aside:
        aside.mkdir()
        save_file(_state(model), aside / "model.safetensors")
        (aside / "model.safetensors").chmod(0o644)  # safetensors creates it for its owner only
        write_csv(aside / "history.csv", list(vars(history[0])), [tuple(vars(e).values()) for e in history])
        Predictions.of_test(manifest, proba).write(aside / "predictions.npz")
        (aside / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _start_from_head(model: Tuned, project: Project, plan: Extraction, top: Layer) -> None:
    """Fit a logistic regression on the frozen activations of the train rows; C by validation rows."""
    manifest = plan.manifest
    try:
        store = project.store(top, manifest)
        X, y = store.rows(np.arange(len(manifest))), store.labels
    except BadInput:  # not among the published layers: from the cache, or through the network
        X, y = plan.activations(top), manifest.labels
    train, validation = (manifest.where(split) for split in ("train", "validation"))
    tuned = tune(
        LogReg,
        START_GRID,
        ["standard"],
        Rows(X[train], y[train]),
        Rows(X[validation], y[validation]),
        manifest.classes,
    )
    head, normalisation = tuned.classifier.head, tuned.classifier.normalisation
    assert isinstance(head, LinearHead)  # noqa: S101 - narrows the type: LogReg is one
    with torch.no_grad():
        model.output.weight.copy_(torch.from_numpy(head.coef_))
        model.output.bias.copy_(torch.from_numpy(head.intercept_))
        model.feature_mean.copy_(torch.from_numpy(normalisation.mean))
        model.feature_scale.copy_(torch.from_numpy(normalisation.scale))


def _epochs(
    model: Tuned, decoder: Decoder, project: Project, device: torch.device
) -> tuple[list[Epoch], dict[str, Tensor]]:
    """Train; return the history and the state of the best epoch on validation rows."""
    settings, manifest = project.settings.finetune, decoder.manifest
    train, validation = manifest.where("train"), manifest.where("validation")
    order = np.random.default_rng(settings.seed)
    steps = math.ceil(len(train) / settings.batch_size)
    optimiser, schedule = _optimiser(model, project, settings.epochs * steps)
    history: list[Epoch] = []
    best = _copy(model)
    with Progress("finetune", settings.epochs * len(train), "images") as progress:
        for number in range(settings.epochs + 1):
            begun, losses = time.monotonic(), []
            if number:  # epoch 0: the start as it is
                batches = np.array_split(order.permutation(train), steps)
                for loss in _steps(model, decoder, batches, optimiser, schedule, device):
                    losses.append(loss)
                    progress.advance(len(batches[len(losses) - 1]))
            scores = _scores(model, decoder, validation, device)
            top1 = float((scores.argmax(axis=1) == manifest.labels[validation]).mean())
            loss = log_loss(scores, manifest.labels[validation])
            mean = float(np.mean(losses)) if losses else float("nan")
            history.append(Epoch(number, mean, top1, loss, round(time.monotonic() - begun, 3)))
            print(f"finetune: epoch {number}, validation top-1 {top1:.4f}, log-loss {loss:.4f}", flush=True)
            if history[-1].rank >= max(epoch.rank for epoch in history):
                best = _copy(model)
    return history, best


def _optimiser(
    model: Tuned, project: Project, total: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, a lower rate for pretrained layers; linear warm-up, then a cosine to zero."""
    settings = project.settings.finetune
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
def _scores(
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


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _state(model: Tuned) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}


def card(project: Project, mode: str) -> dict[str, Any]:
    """Read a published baseline's card; BadInput where `finetune` has to run first."""
    path = project.finetune_folder(mode) / "card.json"
    if not path.exists():
        raise BadInput(f"there is no {path.parent}; run `python cli.py finetune --mode {mode}` first")
    return read_json(path)
