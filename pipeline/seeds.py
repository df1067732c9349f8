"""The same method from other random starts: how much of its accuracy is chance.

    artifacts/heads/mlp/pool5.mlp/seeds.json, artifacts/finetune/full/seeds.json

written where `compare.seeds` is above 1. The first is the method itself; no start is chosen by what
the others reach.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from features.errors import BadInput
from features.files import read_text, written_aside

FILE = "seeds.json"


@dataclass(frozen=True)
class Start:
    """A method tuned and trained from one seed; accuracies are top-1 on the split's rows."""

    seed: int
    validation_top1: float
    validation_score: float  # what chooses goes by it (`tuning.score`)
    test_top1: float


def write(folder: Path, starts: Sequence[Start]) -> None:
    """Write a method's starts; a single one needs no file."""
    if len(starts) > 1:
        with written_aside(folder / FILE) as aside:
            aside.write_text(json.dumps([asdict(start) for start in starts], indent=1) + "\n", "utf-8")


def read(folder: Path) -> list[Start]:
    """Read a method's starts: none where there is a single one. BadInput where the file is damaged."""
    if not (folder / FILE).exists():
        return []
    try:
        return [Start(**start) for start in json.loads(read_text(folder / FILE))]
    except (TypeError, ValueError) as error:
        raise BadInput(f"{folder / FILE} is damaged ({error}); train that method again") from error
