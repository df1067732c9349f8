"""Train a network's tail: the loop, the optimiser, the schedule, the scores.

    state = train(task, 2)      # to the end of epoch 2; later on from there, in another process
    logits = scores(model, feed, rows, device)

What is random in a step (order, views, dropout, augmentation) is drawn from the seed and the
step's number alone. So a run that was killed goes on from its last checkpoint and ends with
the same weights.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.errors import Diverged
from features.positions import Positions
from features.progress import Progress
from pipeline.finetuning import checkpoint
from pipeline.finetuning.checkpoint import Checkpoint, Epoch, copied
from pipeline.finetuning.feed import Feed
from pipeline.finetuning.network import CutNetwork
from pipeline.finetuning.plan import Hyperparameters
from pipeline.params import Finetune
from pipeline.statistics.calibration import calibrated, log_loss, temperature
from pipeline.statistics.scores import score

EVALUATION_BATCH = 64  # images
MAX_NORM = 5.0  # gradients longer than this are shortened: one odd batch must not undo the pretraining
CHECKPOINT_SECONDS = 120  # a kill loses about as much; each epoch ends with a checkpoint, too


@dataclass(frozen=True)
class Task:
    """One training run.

    Attributes
    ----------
    start : function
        Builds the model that training starts from: the same every time.
    rows, validation : image numbers to train on, and to score after each epoch (perhaps none)
    labels : (n_images,) class numbers
    epochs : int
        Of the whole schedule.
    score : str
        Of validation rows, by which the epoch and the hyper-parameters are chosen (`tuning.score`).
    pretrained : names of the steps that learn at a lower rate
    file : Path
        The checkpoint.
    facts : dict
        What the run depends on: a checkpoint of another run is refused.
    """

    words: str
    start: Callable[[], CutNetwork]
    feed: Feed
    rows: NDArray[np.intp]
    validation: NDArray[np.intp]
    labels: NDArray[Any]
    epochs: int
    score: str
    hyperparameters: Hyperparameters
    settings: Finetune
    pretrained: frozenset[str]
    device: torch.device
    file: Path
    facts: dict[str, Any]

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return math.ceil(len(self.rows) / self.settings.batch_size)

    def batches(self, epoch: int) -> list[Positions]:
        """Positions for each step of an epoch, counted from 0: every image once, by one of its views."""
        rng = np.random.default_rng([self.settings.seed, epoch])
        order = rng.permutation(self.rows)
        views = rng.integers(self.feed.views, size=len(order))
        return np.array_split(order * self.feed.views + views, self.steps)

    def factor(self, step: int) -> float:
        """Share of the learning rate at a step, counted from 0: a linear warm-up, then a cosine to zero."""
        total = self.epochs * self.steps
        rising = self.settings.warmup * total
        risen = min(1.0, (step + 1) / rising) if rising else 1.0
        return risen * 0.5 * (1 + math.cos(math.pi * step / total))

    def is_over(self, state: Checkpoint, until: int) -> bool:
        """Whether a run need not go on: at its aim, or without improvement for too long."""
        patience = self.settings.patience
        waited = state.epochs - state.chosen.epoch
        return state.epochs >= until or (patience is not None and waited >= patience)


def train(task: Task, until: int) -> Checkpoint:
    """Train on to the end of an epoch, from the last checkpoint; returns how the run stands there.

    Raises
    ------
    Diverged
        When the loss or its gradient is no longer finite; the last checkpoint stays.
    """
    state = checkpoint.read(task.file, task.facts)
    if state is not None and task.is_over(state, until):
        return state
    run = _Run(task, state)
    done = run.state.epochs * len(task.rows)
    with Progress("finetune", until * len(task.rows) - done, "images") as progress:
        while not task.is_over(run.state, until):
            run.epoch(progress)
    return run.state


class _Run:
    """A run in progress."""

    def __init__(self, task: Task, state: Checkpoint | None) -> None:
        self.task, self.model = task, task.start()
        groups = self.model.groups(
            task.hyperparameters.learning_rate,
            pretrained=task.pretrained,
            factor=task.settings.pretrained_factor,
            decay=task.settings.layer_decay,
        )
        self.optimiser = torch.optim.AdamW(groups, weight_decay=task.hyperparameters.weight_decay)
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.begun = self.saved = time.monotonic()
        if state is None:
            self.state = Checkpoint()
            self._close()
        else:
            self.state = state
            state.restore(self.model, self.optimiser)

    def epoch(self, progress: Progress) -> None:
        """Finish the epoch under way, score it, and keep it."""
        task, state = self.task, self.state
        self.begun = time.monotonic() - state.seconds
        batches = task.batches(state.epochs)[len(state.losses) :]
        self.model.train()
        for positions, batch in zip(batches, task.feed.batches(batches), strict=True):
            state.losses.append(self._step(positions, batch))
            progress.advance(len(positions))
            if time.monotonic() - self.saved > CHECKPOINT_SECONDS:
                self._save()
        self._close()

    def _step(self, positions: Positions, batch: Tensor) -> float:
        task = self.task
        number = self.state.epochs * task.steps + len(self.state.losses)
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * task.factor(number)
        torch.manual_seed(int(np.random.SeedSequence([task.settings.seed, number]).generate_state(1)[0]))
        batch = task.feed.augmented(batch).to(task.device)
        labels = torch.from_numpy(task.labels[positions // task.feed.views]).long().to(task.device)
        with _precision(task):
            logits = task.feed.logits(self.model, batch)
        loss = nn.functional.cross_entropy(
            logits.float(), labels, label_smoothing=task.settings.label_smoothing
        )
        self.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        if not (loss.isfinite() and norm.isfinite()):
            raise Diverged(
                f"finetune: training diverged at {task.hyperparameters} (the loss is not finite); "
                "lower finetune.learning_rate"
            )
        self.optimiser.step()
        return loss.item()

    def _close(self) -> None:
        """Score the epoch, note it, and save."""
        task, state = self.task, self.state
        loss = float(np.mean(state.losses)) if state.losses else math.nan
        top1 = validation_loss = value = math.nan
        if len(task.validation):
            labels = task.labels[task.validation]
            logits = scores(self.model, task.feed, task.validation, task.device)
            logits /= temperature(logits, labels)
            top1 = float((calibrated(logits, 1.0).argmax(axis=1) == labels).mean())
            validation_loss, value = log_loss(logits, labels), score(task.score, logits, labels).value
        seconds = round(time.monotonic() - self.begun, 3)
        state.history.append(Epoch(len(state.history), loss, top1, validation_loss, value, seconds))
        state.losses, self.begun = [], time.monotonic()
        if state.chosen is state.history[-1]:
            state.best = copied(self.model.state())
        if len(task.validation):
            print(
                f"finetune: {task.words}, epoch {state.epochs}, validation top-1 {top1:.4f}, "
                f"log-loss {validation_loss:.4f}",
                flush=True,
            )
        self._save()

    def _save(self) -> None:
        self.saved = time.monotonic()
        self.state.seconds = self.saved - self.begun
        self.state.write(self.task.file, self.task.facts, self.model, self.optimiser)


def _precision(task: Task) -> torch.autocast:
    """Mixed precision where it is asked for: weights and their updates stay float32."""
    return torch.autocast(task.device.type, torch.bfloat16, enabled=task.settings.mixed(task.device.type))


@torch.inference_mode()
def scores(
    model: CutNetwork, feed: Feed, numbers: NDArray[np.intp], device: torch.device
) -> NDArray[np.float32]:
    """Logits of some images, in evaluation mode.

    Returns
    -------
    (n, n_classes) float32; (n, views, n_classes) where there are several views.
    """
    model.eval()
    positions = (numbers[:, None] * feed.views + np.arange(feed.views)).ravel()
    batches = np.split(positions, range(EVALUATION_BATCH, len(positions), EVALUATION_BATCH))
    logits = torch.cat(
        [feed.logits(model, batch.to(device)).float().cpu() for batch in feed.batches(batches)]
    )
    found = np.asarray(logits.numpy())
    return found if feed.views == 1 else found.reshape(len(numbers), feed.views, -1)
