"""The ways to train the network itself, on the same split as the heads: the baselines.

    python cli.py finetune --mode full
    python cli.py finetune --mode freeze:conv4_3

Per mode: `artifacts/finetune/<mode>/` with `model.safetensors` (torchvision's
parameter names, and the new output layer), `history.csv`, `predictions.npz` and `card.json`,
which has the others' digests. A finished run is kept under the cache root, checked
and published from there: nothing is trained twice. One under way has its checkpoints there.
Where `compare.seeds` asks for several random starts, `seeds.json` says what each reached.
"""

import csv
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, fields, replace
from functools import cached_property
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from features import immutable, probe
from features.cache import RUN_CARD, checkpoints, fingerprint, run_flaw, runs
from features.errors import BadInput
from features.files import read_bytes, read_text, remove, save_tensors, written_aside
from features.manifest import Manifest, write_csv
from pipeline import seeds
from pipeline.calibration import calibrated, temperature
from pipeline.extraction import extraction
from pipeline.meter import UNKNOWN, Meter
from pipeline.predictions import Predictions
from pipeline.project import Project, read_json
from pipeline.training import modes, prefix
from pipeline.training.checkpoint import Checkpoint, Epoch
from pipeline.training.halving import epochs_in_all, search
from pipeline.training.start import Start
from pipeline.training.tail import Tuned, arrays
from pipeline.training.trainer import Recipe, Task, scores, train

FILES = ("model.safetensors", "history.csv", "predictions.npz", RUN_CARD)
HISTORY = ("run", *(field.name for part in (Recipe, Epoch) for field in fields(part)))
SCRATCH_EPOCHS = 2  # times those of the others, which need not learn to see (SimCLR, appendix B.8)


def finetune(project: Project, names: Sequence[str]) -> None:
    """Train the baselines that are not there yet; publish all of them.

    Raises
    ------
    BadInput
        For a mode that there is not; where `prepare`, `weights` or `extract` has to run first;
        when training diverges.
    """
    manifest = project.read_manifest()
    asked = [from_seeds(project, manifest, name, project.settings.compare.seeds) for name in names]
    with project.writing(project.finetune_folder()) as scratch:
        project.finetune_folder().mkdir(parents=True, exist_ok=True)
        for runs_of_mode in asked:
            _publish(runs_of_mode, project.finetune_folder(runs_of_mode[0].mode.name), scratch)
        if tuple(names) == project.settings.finetune.modes:
            wanted = {project.finetune_folder(name) for name in names}
            for folder in set(project.finetune_folder().iterdir()) - wanted:
                remove(folder)
        note = project.finetune_folder() / "README.md"
        remove(note)
        if not names:
            _say_that_there_is_none(note, scratch)


def _say_that_there_is_none(note: Path, scratch: Path) -> None:
    """Put a word into a folder without baselines: DVC warns of an empty one."""
    with written_aside(note, scratch=scratch) as aside:
        aside.write_text("No network was trained: finetune.modes is [].\n", "utf-8")


def from_seeds(project: Project, manifest: Manifest, name: str, count: int) -> list["Run"]:
    """A mode's runs from so many seeds: `finetune.seed` and the numbers after it."""
    settings = project.settings
    first = settings.finetune.seed
    found = []
    for seed in range(first, first + count):
        section = settings.finetune.model_copy(update={"seed": seed})
        again = replace(project, settings=settings.model_copy(update={"finetune": section}))
        found.append(Run(again, manifest, name))
    return found


def _publish(asked: Sequence["Run"], target: Path, scratch: Path) -> None:
    """Copy the first seed's run, and what the others reached: the cache stays, whatever becomes of this."""
    kept = [run.obtained() for run in asked]
    with written_aside(target, scratch=scratch) as aside:
        aside.mkdir()
        for name in FILES:
            (aside / name).write_bytes(read_bytes(kept[0] / name))
        seeds.write(aside, [run.start for run in asked])


def inputs(project: Project, manifest: Manifest, name: str) -> dict[str, Any]:
    """Everything a mode's run depends on: the fingerprint under which it is kept."""
    return Run(project, manifest, name).facts


def read_card(project: Project, mode: str) -> dict[str, Any]:
    """Read a published baseline's card; BadInput where `finetune` has to run first."""
    path = project.finetune_folder(mode) / "card.json"
    if not path.exists():
        raise BadInput(f"there is no {path.parent}; run `python cli.py finetune --mode {mode}` first")
    return read_json(path)


def read_history(project: Project, mode: str) -> list[dict[str, str]]:
    """Read a published baseline's `history.csv`: a mapping for each epoch of each recipe."""
    text = read_text(project.finetune_folder(mode) / "history.csv")
    return list(csv.DictReader(text.splitlines()))


class Run:
    """A mode of a project: what it depends on, where it is kept, how it is made."""

    def __init__(self, project: Project, manifest: Manifest, name: str) -> None:
        self.project, self.manifest = project, manifest
        self.settings = project.settings.finetune
        self.mode = modes.parse_mode(name, project.settings.weights.network)
        self.weights = project.read_weights()
        self.top = modes.top_layer(self.settings.top, self.mode, self.weights)
        self.choice = prefix.choose(project, manifest, self.mode)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Everything the run depends on."""
        unread = {"modes", "top", "cache_gb"}
        return {
            "revision": 4,  # raised by hand when the training procedure changes: 4 calibrates anew
            "mode": self.mode.name,
            "manifest": self.manifest.digest,
            "weights": self.weights.fingerprint(self.top.steps),
            "top": self.top.name,
            "image_size": list(self.project.image_size),
            # How many views of the images are stored plays no part, unless training draws from them
            "features": {k: v for k, v in self.project.parameters()["extract"].items() if k != "views"},
            "views": list(prefix.views_of(self.project)),
            "prefix": "cached" if self.choice.cached else "computed",
            "finetune": self.settings.model_dump(mode="json", exclude=unread),
            "refit": self.project.settings.compare.refit,
            "score": self.project.settings.tuning.score,
            **(probe.here().words() if probe.here() != probe.REFERENCE else {}),
        }

    @property
    def folder(self) -> Path:
        """Where the finished run is kept, shared by all projects."""
        return runs(self.project.cache_root) / fingerprint(self.facts)

    @property
    def checkpoints(self) -> Path:
        """Where it stands while it is under way."""
        return checkpoints(self.project.cache_root) / self.folder.name

    @property
    def epochs(self) -> int:
        """Of the whole schedule."""
        return self.settings.epochs * (SCRATCH_EPOCHS if self.mode.is_scratch else 1)

    @property
    def epochs_in_all(self) -> int:
        """That all recipes are trained for together."""
        return epochs_in_all(len(self._recipes()), self.epochs, halve=self.settings.sweep == "halving")

    def obtained(self) -> Path:
        """Train, unless it was trained before; returns `folder`."""
        if self._is_kept():
            print(f"finetune: {self.mode.name} was trained before, taken from {self.folder}", flush=True)
        else:
            self._train()
        remove(self.checkpoints)  # also those of a run that was killed just when it was finished
        return self.folder

    @property
    def start(self) -> seeds.Start:
        """What the finished run reached from its seed."""
        reached = read_json(self.folder / RUN_CARD)["validation"]
        correct = Predictions.read(self.folder / "predictions.npz").correct
        return seeds.Start(self.settings.seed, reached["top1"], reached["score"], float(correct.mean()))

    def _is_kept(self) -> bool:
        """Whether the cache has this run whole; one that is damaged is taken away."""
        run = self.folder
        if not run.exists():
            return False
        if wrong := run_flaw(run):
            print(
                f"finetune: the kept run of {self.mode.name} is damaged and will be trained again ({wrong})",
                flush=True,
            )
            immutable.discard(self.project.cache_root, run, run_flaw)
            return run.exists()
        immutable.touch(run)
        return True

    def _train(self) -> None:
        """Try every recipe, keep the best one's best epoch, predict the test rows once."""
        images = len(self.manifest.where("train"))
        if self.settings.batch_size > images:
            raise BadInput(
                f"finetune.batch_size is {self.settings.batch_size}, but there are {images} train images"
            )
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with it only
        torch.use_deterministic_algorithms(True)
        resumed = self.checkpoints.exists()
        plan = extraction(self.project, self.manifest, [self.top], ("none",))
        device = torch.device(plan.choice.device)
        with Meter(plan.choice.device) as meter:
            feed, prefix_seconds = prefix.feed(self.project, self.manifest, self.mode, self.choice)
            begun = time.monotonic()
            start = Start(self.project, plan, self.mode, self.top, device)
            model = start()
            self._announce(model, device)
            tasks = [self._task(f"run-{n}", recipe, start, feed) for n, recipe in enumerate(self._recipes())]
            seconds = time.monotonic() - begun
            best, tried = search(tasks, halve=self.settings.sweep == "halving")
            begun = time.monotonic()
            model.load_state_dict(
                train(tasks[best], self.epochs).best, strict=False
            )  # as its checkpoint has it
            logits = scores(model, feed, self.manifest.where("validation"), device)
            T = temperature(logits, self.manifest.labels[self.manifest.where("validation")])
            if self.project.settings.compare.refit:
                again = self._refit(tasks[best], tried[best].chosen.epoch)
                model.load_state_dict(again.best, strict=False)
            proba = calibrated(scores(model, feed, self.manifest.where("test"), device), T)
            seconds += sum(state.spent for state in tried.values()) + time.monotonic() - begun
        card = self._card(tasks, tried, best) | {
            "weights": start.weights,
            "temperature": T,
            "runs": len(tasks),
            "images_seen": sum(state.epochs for state in tried.values()) * images,  # not by `refit`
            "seconds": round(seconds, 3),
            "cost": UNKNOWN if resumed else meter.cost,  # of the killed process nothing is known
            "prefix": {
                "cached": self.choice.cached,
                "why": self.choice.why,
                "seconds": round(prefix_seconds, 3),
            },
            "trainable_parameters": model.trainable_parameters(),
            "device": str(device),
        }
        with immutable.appearing(self.project.cache_root, self.folder) as aside:
            save_tensors(arrays(model.state_dict()), aside / "model.safetensors")
            write_csv(aside / "history.csv", HISTORY, _history(tasks, tried))
            Predictions.of(self.manifest, "test", proba).write(aside / "predictions.npz")
            immutable.seal(aside, RUN_CARD, card)

    def _recipes(self) -> list[Recipe]:
        return [Recipe(*pair) for pair in product(self.settings.learning_rate, self.settings.weight_decay)]

    def _task(self, name: str, recipe: Recipe, start: Start, feed: prefix.Feed) -> Task:
        many = len(self.settings.learning_rate) * len(self.settings.weight_decay) > 1
        return Task(
            words=f"{self.mode.name} ({recipe})" if many else self.mode.name,
            start=start,
            feed=feed,
            rows=self.manifest.where("train"),
            validation=self.manifest.where("validation"),
            labels=self.manifest.labels,
            epochs=self.epochs,
            score=self.project.settings.tuning.score,
            recipe=recipe,
            settings=self.settings,
            pretrained=start.pretrained,
            device=start.device,
            file=self.checkpoints / f"{name}.safetensors",
            facts=self.facts | {"run": name},
        )

    def _refit(self, task: Task, epochs: int) -> Checkpoint:
        """Train on train and validation rows together, by the same schedule, for so many epochs."""
        print(f"finetune: {self.mode.name} once more, with the validation rows, {epochs} epochs", flush=True)
        return train(
            replace(
                task,
                rows=np.sort(np.concatenate([task.rows, task.validation])),
                validation=task.validation[:0],
                file=self.checkpoints / "refit.safetensors",
                facts=self.facts | {"run": "refit"},
            ),
            epochs,
        )

    def _announce(self, model: Tuned, device: torch.device) -> None:
        pairs = len(self._recipes())
        frozen = "" if self.mode.cut == modes.IMAGE else f", frozen to {self.mode.cut} ({self._prefix_words})"
        print(
            f"finetune: {self.mode.name} on {device}, new output layer on {self.top.name}{frozen}, "
            f"{model.trainable_parameters():,} trained parameters, {self.epochs} epochs of "
            f"{len(self.manifest.where('train'))} images"
            + (f", {pairs} pairs of learning rate and weight decay" if pairs > 1 else ""),
            flush=True,
        )

    @property
    def _prefix_words(self) -> str:
        return f"{'from the cache' if self.choice.cached else 'computed each time'}: {self.choice.why}"

    def _card(self, tasks: Sequence[Task], tried: Mapping[int, Checkpoint], best: int) -> dict[str, Any]:
        """What produced the numbers."""
        chosen = tried[best].chosen
        return {
            "schema": 2,
            "method": f"finetune.{self.mode.name}",
            "mode": self.mode.name,
            "cut": self.mode.cut,
            "top": self.top.name,
            "inputs": self.facts,
            "chosen": {"epoch": chosen.epoch, **asdict(tasks[best].recipe)},
            "validation": {
                "top1": chosen.validation_top1,
                "log_loss": chosen.validation_log_loss,
                "score": chosen.validation_score,
            },
            "classes": list(self.manifest.classes),
            "fitted_on": ["train", *(["validation"] if self.facts["refit"] else [])],
            "versions": {"torch": version("torch")},
        }


def _history(tasks: Sequence[Task], tried: Mapping[int, Checkpoint]) -> list[tuple[Any, ...]]:
    """Every epoch of every recipe: rows of `HISTORY`."""
    return [
        (number, *astuple(tasks[number].recipe), *astuple(epoch))
        for number, state in tried.items()
        for epoch in state.history
    ]
