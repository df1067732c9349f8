"""The model that training starts from: the same every time it is asked for.

    start = StartingModel(plan, extraction, device)
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
from features.extraction import Extraction
from features.weights import Array
from pipeline.datasets.splits import units
from pipeline.finetuning.network import CutNetwork
from pipeline.finetuning.plan import Plan
from pipeline.heads.linear.estimators import LinearHead, LogReg
from pipeline.heads.normalisation import Normalisation
from pipeline.tuning.folds import Fold, Rows
from pipeline.tuning.search import tune

GRID = {"C": tuple(10.0**k for k in range(-5, 3))}  # of the head that the output layer starts from


@dataclass(frozen=True)
class StartingModel:
    """Builds the model that a plan's training starts from.

    Attributes
    ----------
    extraction : Extraction
        Of the layer that the output layer stands on.
    """

    plan: Plan
    extraction: Extraction
    device: torch.device

    def __call__(self) -> CutNetwork:
        """Build it anew: training changes tensors in place."""
        plan, weights = self.plan, self.plan.weights
        torch.manual_seed(plan.settings.seed)  # of an output layer that starts at random
        if plan.mode.is_scratch:
            state = sources.initialise(weights.network, plan.settings.seed)
            normalisation = sources.TORCHVISION
        else:
            state, normalisation = weights.state(plan.top), weights.normalisation
        classes, width = len(plan.manifest.classes), plan.top.width(plan.project.image_size)
        model = CutNetwork(plan.top, plan.mode.cut, state, normalisation, classes, width)
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
        plan, manifest = self.plan, self.plan.manifest
        if not plan.begins_with_a_head:
            return None
        try:
            store = plan.project.store(plan.top, manifest)
            X, y = store.rows(np.arange(len(manifest)), view=0), store.labels
        except BadInput:  # not among the published layers: from the cache, or through the network
            X, y = self.extraction.activations(plan.top), manifest.labels
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
        if self.plan.mode.is_scratch:
            return frozenset()
        origin = self.plan.weights.origin
        steps = (step for step in self.plan.top.steps if step.key)
        return frozenset(step.name for step in steps if origin(step) in ("imagenet", "file"))

    @property
    def weights(self) -> str:
        """How the result's numbers are labelled (see `Weights.label`)."""
        return "random" if self.plan.mode.is_scratch else self.plan.weights.label(self.plan.top)
