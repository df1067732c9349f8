"""The model that training starts from: the same every time it is asked for.

    start = Start(project, plan, mode, top, device)
    model = start()

References
----------
Kumar et al., Fine-Tuning can Distort Pretrained Features, arXiv:2202.10054 (the
new output layer starts from a head fitted on frozen features).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from features import sources
from features.errors import BadInput
from features.extract import Extraction
from features.network import Layer
from features.weights import Array
from pipeline.folds import Fold, Rows
from pipeline.heads.linear import LinearHead, LogReg
from pipeline.heads.normalisation import Normalisation
from pipeline.project import Project
from pipeline.splits import units
from pipeline.training.modes import Mode
from pipeline.training.tail import Tuned
from pipeline.tuning import tune

GRID = {"C": tuple(10.0**k for k in range(-5, 3))}  # of the head that the output layer starts from


@dataclass(frozen=True)
class Start:
    """Builds a mode's model.

    Attributes
    ----------
    plan : Extraction
        Of the layer that the output layer stands on.
    """

    project: Project
    plan: Extraction
    mode: Mode
    top: Layer
    device: torch.device

    def __call__(self) -> Tuned:
        """Build it anew: training changes tensors in place."""
        torch.manual_seed(self.project.settings.finetune.seed)  # of an output layer that starts at random
        weights, size = self.plan.weights, self.project.image_size
        if self.mode.is_scratch:
            seed = self.project.settings.finetune.seed
            state, normalisation = sources.initialise(weights.network, seed), sources.TORCHVISION
        else:
            state, normalisation = weights.state(self.top.steps), weights.normalisation
        classes = len(self.plan.manifest.classes)
        model = Tuned(self.top, self.mode.cut, state, normalisation, classes, self.top.width(size))
        if self.head:
            model.start_from(*self.head)
        return model.to(self.device).to(memory_format=torch.channels_last)

    @cached_property
    def head(self) -> tuple[Array, Array, Array, Array] | None:
        """Weights and intercepts of a logistic regression, and the means and scales of its features.

        Fitted on the frozen activations of the train rows; the validation rows choose C, and whether
        each column has its own scale or all have one. Sparse features of photographs need one: columns
        that are nearly always zero would weigh as much as the others. None where the output layer
        starts at random.
        """
        if self.project.settings.finetune.head_start == "random" or self.mode.is_scratch:
            return None
        manifest = self.plan.manifest
        try:
            store = self.project.store(self.top, manifest)
            X, y = store.rows(np.arange(len(manifest)), view=0), store.labels
        except BadInput:  # not among the published layers: from the cache, or through the network
            X, y = self.plan.activations(self.top), manifest.labels
        train = X[manifest.where("train")]
        each = Normalisation("standard").fit(train)
        one = np.full_like(each.scale, float((train - each.mean).std()) or 1.0)
        found = []
        for scale in (each.scale, one):
            rows = Rows((X - each.mean) / scale, y, units(manifest.rows))
            fold = Fold(*(rows.take(manifest.where(split)) for split in ("train", "validation")))
            found.append((tune(LogReg, GRID, ["none"], [fold], manifest.classes), scale))
        tuned, scale = max(found, key=lambda pair: (pair[0].chosen.top1, -pair[0].chosen.log_loss))
        head = tuned.classifier.head
        assert isinstance(head, LinearHead)  # noqa: S101 - narrows the type: LogReg is one
        return head.coef_, head.intercept_, each.mean, scale

    @property
    def pretrained(self) -> frozenset[str]:
        """Names of the steps that start from trained weights."""
        if self.mode.is_scratch:
            return frozenset()
        label = self.plan.weights.label
        return frozenset(step.name for step in self.top.steps if label((step,)) in ("imagenet", "file"))

    @property
    def weights(self) -> str:
        """How the result's numbers are labelled (see `Weights.label`)."""
        return "random" if self.mode.is_scratch else self.plan.weights.label(self.top.steps)
