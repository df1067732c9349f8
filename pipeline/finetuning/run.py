"""A plan carried out: every pair of hyper-parameters tried, the best one's best epoch kept.

    folder = obtained(plan)     # under the cache root; trained only where it is not there

In order: what the tail is fed and the model that training starts from, the sweep on train rows with
validation rows to choose by, the temperature, perhaps once more on both, the test rows once.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from features import immutable
from features.cache import RUN_CARD, run_flaw
from features.cuts import IMAGE
from features.errors import BadInput
from features.files import remove, save_tensors
from features.manifest import write_csv
from pipeline.finetuning.checkpoint import Checkpoint, Epoch
from pipeline.finetuning.feed import Feed, open_feed
from pipeline.finetuning.network import CutNetwork, arrays
from pipeline.finetuning.plan import Hyperparameters, Plan
from pipeline.finetuning.search import search
from pipeline.finetuning.start import StartingModel
from pipeline.finetuning.trainer import Task, scores, train
from pipeline.meter import Meter
from pipeline.records.predictions import Predictions
from pipeline.records.prices import UNKNOWN
from pipeline.statistics.calibration import calibrated, temperature
from pipeline.stores.recipe import extraction_of

FILES = ("model.safetensors", "history.csv", "predictions.npz", RUN_CARD)
HISTORY = ("run", *(field.name for part in (Hyperparameters, Epoch) for field in fields(part)))


def obtained(plan: Plan) -> Path:
    """Train, unless it was trained before; returns `plan.folder`.

    Raises
    ------
    BadInput
        Where `extract` has to run first, there are fewer images than a batch has, or training diverges.
    """
    if _is_kept(plan):
        print(f"finetune: {plan.mode.name} was trained before, taken from {plan.folder}", flush=True)
    else:
        _train(plan)
    remove(plan.checkpoints)  # also those of a run that was killed just when it was finished
    return plan.folder


def _is_kept(plan: Plan) -> bool:
    """Whether the cache has this run whole; one that is damaged is taken away."""
    run = plan.folder
    if not run.exists():
        return False
    if wrong := run_flaw(run):
        print(
            f"finetune: the kept run of {plan.mode.name} is damaged and will be trained again ({wrong})",
            flush=True,
        )
        immutable.discard(plan.project.cache_root, run, run_flaw)
        return run.exists()
    immutable.touch(run)
    return True


def _train(plan: Plan) -> None:
    images, resumed = _enough_images(plan), plan.checkpoints.exists()
    _deterministic()
    top = extraction_of(plan.project, plan.manifest, [plan.top], ("none",))
    device = torch.device(top.recipe.choice.device)
    with Meter(top.recipe.choice.device) as meter:
        feed, prefix_seconds = open_feed(plan)
        begun = time.monotonic()
        start = StartingModel(plan, top, device)
        model = start()
        _announce(plan, model, device)
        tasks = tasks_of(plan, start, feed)
        seconds = time.monotonic() - begun
        best, tried = search(tasks, halve=plan.halves)
        begun = time.monotonic()
        T, proba = _predicted(plan, model, tasks[best], tried[best].chosen.epoch)
        seconds += sum(state.spent for state in tried.values()) + time.monotonic() - begun
    card = {
        **_card(plan, tasks[best].hyperparameters, tried[best]),
        "weights": start.weights,
        "temperature": T,
        "runs": len(tasks),
        "images_seen": sum(state.epochs for state in tried.values()) * images,  # not by `refit`
        "seconds": round(seconds, 3),
        "cost": UNKNOWN if resumed else meter.cost,  # of the killed process nothing is known
        "prefix": {**asdict(plan.prefix), "seconds": round(prefix_seconds, 3)},
        "trainable_parameters": model.trainable_parameters(),
        "device": str(device),
    }
    with immutable.appearing(plan.project.cache_root, plan.folder) as aside:
        save_tensors(arrays(model.state_dict()), aside / "model.safetensors")
        write_csv(aside / "history.csv", HISTORY, _history(tasks, tried))
        Predictions.of(plan.manifest, "test", proba).write(aside / "predictions.npz")
        immutable.seal(aside, RUN_CARD, card)


def _enough_images(plan: Plan) -> int:
    images = len(plan.manifest.where("train"))
    if plan.settings.batch_size > images:
        raise BadInput(
            f"finetune.batch_size is {plan.settings.batch_size}, but there are {images} train images"
        )
    return images


def _deterministic() -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with it only
    torch.use_deterministic_algorithms(True)


def tasks_of(plan: Plan, start: StartingModel, feed: Feed) -> list[Task]:
    """One training run for each pair of hyper-parameters."""
    return [
        Task(
            words=f"{plan.mode.name} ({pair})" if len(plan.sweep) > 1 else plan.mode.name,
            start=start,
            feed=feed,
            rows=plan.manifest.where("train"),
            validation=plan.manifest.where("validation"),
            labels=plan.manifest.labels,
            epochs=plan.epochs,
            score=plan.project.settings.tuning.score,
            hyperparameters=pair,
            settings=plan.settings,
            pretrained=start.pretrained,
            device=start.device,
            file=plan.checkpoints / f"run-{number}.safetensors",
            facts=plan.facts | {"run": f"run-{number}"},
        )
        for number, pair in enumerate(plan.sweep)
    ]


def _predicted(plan: Plan, model: CutNetwork, task: Task, epoch: int) -> tuple[float, np.ndarray[Any, Any]]:
    """Fit the temperature on validation rows, and predict the test rows: this once."""
    model.load_state_dict(train(task, plan.epochs).best, strict=False)  # as its checkpoint has it
    validation = plan.manifest.where("validation")
    T = temperature(scores(model, task.feed, validation, task.device), plan.manifest.labels[validation])
    if plan.project.settings.compare.refit:
        model.load_state_dict(_refitted(plan, task, epoch).best, strict=False)
    logits = scores(model, task.feed, plan.manifest.where("test"), task.device)
    return T, calibrated(logits, T)


def _refitted(plan: Plan, task: Task, epochs: int) -> Checkpoint:
    """Train on train and validation rows together, by the same schedule, for so many epochs."""
    print(f"finetune: {plan.mode.name} once more, with the validation rows, {epochs} epochs", flush=True)
    return train(
        replace(
            task,
            rows=np.sort(np.concatenate([task.rows, task.validation])),
            validation=task.validation[:0],
            file=plan.checkpoints / "refit.safetensors",
            facts=plan.facts | {"run": "refit"},
        ),
        epochs,
    )


def _announce(plan: Plan, model: CutNetwork, device: torch.device) -> None:
    source = f"{'from the cache' if plan.prefix.cached else 'computed each time'}: {plan.prefix.why}"
    frozen = "" if plan.mode.cut == IMAGE else f", frozen to {plan.mode.cut} ({source})"
    pairs = len(plan.sweep)
    print(
        f"finetune: {plan.mode.name} on {device}, new output layer on {plan.top.name}{frozen}, "
        f"{model.trainable_parameters():,} trained parameters, {plan.epochs} epochs of "
        f"{len(plan.manifest.where('train'))} images"
        + (f", {pairs} pairs of learning rate and weight decay" if pairs > 1 else ""),
        flush=True,
    )


def _card(plan: Plan, pair: Hyperparameters, state: Checkpoint) -> dict[str, Any]:
    """What produced the numbers."""
    chosen = state.chosen
    return {
        "schema": 2,
        "method": f"finetune.{plan.mode.name}",
        "mode": plan.mode.name,
        "cut": plan.mode.cut,
        "top": plan.top.name,
        "inputs": plan.facts,
        "chosen": {"epoch": chosen.epoch, **asdict(pair)},
        "validation": {
            "top1": chosen.validation_top1,
            "log_loss": chosen.validation_log_loss,
            "score": chosen.validation_score,
        },
        "classes": list(plan.manifest.classes),
        "fitted_on": ["train", *(["validation"] if plan.facts["refit"] else [])],
        "versions": {"torch": version("torch")},
    }


def _history(tasks: Sequence[Task], tried: Mapping[int, Checkpoint]) -> list[tuple[Any, ...]]:
    """Every epoch of every pair: rows of `HISTORY`."""
    return [
        (number, *astuple(tasks[number].hyperparameters), *astuple(epoch))
        for number, state in tried.items()
        for epoch in state.history
    ]
