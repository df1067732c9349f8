"""What a fine-tuning run depends on, where it is kept, and how long it is: by sizes alone, without torch.

    plan = Plan(project, manifest, "freeze:conv4_3")
    plan.facts          # everything it depends on; its digest names plan.folder
    plan.epochs_in_all  # of the whole sweep

Who wants to know whether a run is there, what it would cost or what it was made with needs no more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from features import probe
from features.cache import checkpoints, fingerprint, runs
from features.cuts import IMAGE, Mode, parse_mode, top_layer
from features.manifest import Manifest
from features.network import Layer, parse_layer
from features.views import names
from pipeline import heads
from pipeline.project import Project

REVISION = 4  # raised by hand when the training procedure changes: 4 calibrates anew
SOLVER = 2  # the revision of heads that training of this revision began with
SCRATCH_EPOCHS = 2  # times those of the others, which need not learn to see (SimCLR, appendix B.8)
CROPS, FLIPS = ("crop", "crop-flip"), ("flip", "crop-flip")  # values of finetune.augment


@dataclass(frozen=True)
class Prefix:
    """Whether the frozen part's activations are read from the cache, and why."""

    cached: bool
    why: str


@dataclass(frozen=True)
class Hyperparameters:
    """What a sweep varies."""

    learning_rate: float
    weight_decay: float

    def __str__(self) -> str:
        return f"learning rate {self.learning_rate:g}, weight decay {self.weight_decay:g}"


class Plan:
    """A mode of a project, from one seed.

    Raises
    ------
    BadInput
        For a mode that there is not; where `weights` has to run first.
    """

    def __init__(self, project: Project, manifest: Manifest, name: str) -> None:
        self.project, self.manifest = project, manifest
        self.settings = project.settings.finetune
        self.mode = parse_mode(name, project.settings.weights.network)
        self.weights = project.read_weights()
        self.top = top_layer(self.settings.top, self.mode, self.weights)
        self.prefix = prefix_of(project, manifest, self.mode)

    @property
    def begins_with_a_head(self) -> bool:
        """Whether the output layer continues a head that is fitted on frozen features first."""
        return self.settings.head_start == "head" and not self.mode.is_scratch

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Everything the run depends on."""
        unread = {"modes", "top", "cache_gb"}
        return {
            "revision": REVISION,
            "mode": self.mode.name,
            "manifest": self.manifest.digest,
            "weights": self.weights.fingerprint(self.top),
            "top": self.top.name,
            "image_size": list(self.project.image_size),
            # How many views of the images are stored plays no part, unless training draws from them
            "features": {k: v for k, v in self.project.parameters()["extract"].items() if k != "views"},
            "views": list(views_of(self.project)),
            "prefix": "cached" if self.prefix.cached else "computed",
            "finetune": self.settings.model_dump(mode="json", exclude=unread),
            "refit": self.project.settings.compare.refit,
            "score": self.project.settings.tuning.score,
            # What was true of every run when these were first asked is left out: kept runs stay valid
            **({"heads": heads.REVISION} if self.begins_with_a_head and heads.REVISION != SOLVER else {}),
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
    def sweep(self) -> list[Hyperparameters]:
        """All that is tried."""
        return [
            Hyperparameters(*pair)
            for pair in product(self.settings.learning_rate, self.settings.weight_decay)
        ]

    @property
    def halves(self) -> bool:
        """Whether what falls behind is given up early."""
        return self.settings.sweep == "halving"

    @property
    def epochs(self) -> int:
        """Of the whole schedule."""
        return self.settings.epochs * (SCRATCH_EPOCHS if self.mode.is_scratch else 1)

    @property
    def epochs_in_all(self) -> int:
        """That the whole sweep is trained for together."""
        return epochs_in_all(len(self.sweep), self.epochs, halve=self.halves)


def plans(project: Project, manifest: Manifest, name: str, seeds: int) -> list[Plan]:
    """A mode's plans from so many seeds: `finetune.seed` and the numbers after it."""
    settings = project.settings
    found = []
    for seed in range(settings.finetune.seed, settings.finetune.seed + seeds):
        section = settings.finetune.model_copy(update={"seed": seed})
        again = replace(project, settings=settings.model_copy(update={"finetune": section}))
        found.append(Plan(again, manifest, name))
    return found


def rungs(candidates: int, epochs: int, *, halve: bool) -> Sequence[tuple[int, int]]:
    """After which epochs how many candidates go on: (epoch, candidates) pairs, the end last with one.

    Each time half of them, rounded up. The last rung but one is half-way, the one before at a
    quarter, and so on.
    """
    if not halve or candidates == 1:
        return [(epochs, 1)]
    count = math.ceil(math.log2(candidates))
    steps = [max(1, epochs // 2 ** (count - number)) for number in range(count)]
    return [
        *((epoch, math.ceil(candidates / 2 ** (number + 1))) for number, epoch in enumerate(steps)),
        (epochs, 1),
    ]


def epochs_in_all(candidates: int, epochs: int, *, halve: bool) -> int:
    """Count the epochs that all candidates are trained for together."""
    total, before, going_on = 0, 0, candidates
    for epoch, left in rungs(candidates, epochs, halve=halve):
        total += going_on * (epoch - before)
        before, going_on = epoch, left
    return total


def views_of(project: Project) -> tuple[str, ...]:
    """The views of each image that training draws from."""
    stored = project.settings.finetune.augment == "views"
    return names(project.settings.extract.views) if stored else ("none",)


def prefix_of(project: Project, manifest: Manifest, mode: Mode) -> Prefix:
    """Decide by sizes alone, so that the same settings always give the same."""
    settings = project.settings.finetune
    if mode.cut == IMAGE:
        return Prefix(False, "nothing is frozen")
    if settings.augment in (*CROPS, *FLIPS):
        return Prefix(False, f"finetune.augment is {settings.augment}: every image is new each time")
    need = bytes_of(project, manifest, parse_layer(mode.cut, project.settings.weights.network)) / 1e9
    if need > settings.cache_gb:
        return Prefix(
            False, f"its activations would take {need:.1f} GB, finetune.cache_gb is {settings.cache_gb:g}"
        )
    return Prefix(True, f"{need:.2g} GB, finetune.cache_gb is {settings.cache_gb:g}")


def bytes_of(project: Project, manifest: Manifest, layer: Layer) -> int:
    """What the cache takes for all images' activations of a layer."""
    size = np.dtype(project.settings.extract.dtype).itemsize
    return len(manifest) * len(views_of(project)) * layer.width(project.image_size) * size
