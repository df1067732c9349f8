"""How a training run stands: one file, from which it goes on to the same weights.

    state = read(file, facts)       # None where there is none
    state.write(file, facts, model, optimiser)

A checkpoint is one .safetensors file with what training changes (see `CutNetwork.state`), the best
epoch's, and the optimiser's moments; its header carries the rest as JSON. It replaces the one
before by a rename.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from features.errors import BadInput
from features.files import by_safetensors, remove, save_tensors, written_aside
from pipeline.finetuning.network import CutNetwork, arrays
from pipeline.statistics.ranking import rank

PARTS = ("model", "best", "optimiser")


@dataclass(frozen=True)
class Epoch:
    """What one pass over the train rows gave; epoch 0 is the start, before any step.

    Attributes
    ----------
    validation_top1, validation_log_loss : float
        NaN where no validation rows were scored; the log-loss is after temperature scaling, as a head's.
    validation_score : float
        What chooses (`tuning.score`), higher is better.
    seconds : float
        Of this epoch, its scoring included.
    """

    epoch: int
    train_loss: float
    validation_top1: float
    validation_log_loss: float
    validation_score: float
    seconds: float

    @property
    def rank(self) -> tuple[float, float]:
        """Higher is better."""
        if math.isnan(self.validation_score):
            return -math.inf, -math.inf
        return rank(self.validation_score, self.validation_log_loss)


@dataclass
class Checkpoint:
    """How a run stands.

    Attributes
    ----------
    history : list of Epoch
        Finished ones, the start included.
    losses : list of float
        Of the steps of the epoch under way.
    seconds : float
        That this epoch has taken.
    best : tensors by name
        The model after the best epoch; of a run without validation rows, after the last.
    model, optimiser : tensors by name
        As they were read, until `restore` has put them in place: they may take gigabytes.
    """

    history: list[Epoch] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    model: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    optimiser: dict[str, Tensor] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Finished epochs of training."""
        return len(self.history) - 1

    @property
    def chosen(self) -> Epoch:
        """The best epoch; of equals the last."""
        return max(self.history, key=lambda epoch: (epoch.rank, epoch.epoch))

    @property
    def spent(self) -> float:
        """Seconds of all finished epochs."""
        return sum(epoch.seconds for epoch in self.history)

    def without_tensors(self) -> "Checkpoint":
        """The history alone."""
        return replace(self, model={}, best={}, optimiser={})

    def restore(self, model: CutNetwork, optimiser: torch.optim.Optimizer) -> None:
        """Put both where they stood, and let go of the tensors."""
        model.load_state_dict(self.model, strict=False)
        state: dict[int, dict[str, Tensor]] = {}
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        for key, tensor in self.optimiser.items():
            number, _, name = key.partition(".")
            like = parameters[int(number)]
            # In the parameter's memory format, as if never saved; `step` is a bare number
            moment = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
            state.setdefault(int(number), {})[name] = moment
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        self.model, self.optimiser = {}, {}

    def write(
        self, file: Path, facts: Mapping[str, Any], model: CutNetwork, optimiser: torch.optim.Optimizer
    ) -> None:
        """Replace the checkpoint of a run, with the model and the optimiser as they stand."""
        moments = optimiser.state_dict()["state"].items()
        parts = {
            "model": model.state(),
            "best": self.best,
            "optimiser": {f"{n}.{name}": tensor for n, own in moments for name, tensor in own.items()},
        }
        tensors = {f"{part}/{name}": tensor for part, own in parts.items() for name, tensor in own.items()}
        words = {
            "facts": facts,
            "history": [asdict(epoch) for epoch in self.history],
            "losses": self.losses,
            "seconds": self.seconds,
        }
        with written_aside(file) as aside:
            save_tensors(arrays(tensors), aside, {"checkpoint": json.dumps(words)})


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, contiguous."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def read(file: Path, facts: Mapping[str, Any]) -> Checkpoint | None:
    """Read a checkpoint; None where there is none, or where it is damaged, which is said.

    Raises
    ------
    BadInput
        For one of another run.
    """
    if not file.exists():
        return None
    try:
        with by_safetensors(file), safe_open(file, framework="pt") as opened:
            words = json.loads((opened.metadata() or {})["checkpoint"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError):
        print(f"finetune: the checkpoint {file} is damaged; training starts anew", flush=True)
        remove(file)
        return None
    if words["facts"] != json.loads(json.dumps(facts)):
        raise BadInput(f"{file} is the checkpoint of another run; delete it, and training starts anew")
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        parts[part][name] = tensor
    history = [Epoch(**epoch) for epoch in words["history"]]
    return Checkpoint(history, words["losses"], words["seconds"], **parts)
