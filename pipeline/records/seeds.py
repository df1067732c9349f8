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
from features.files import read_text, write_json

FILE = "seeds.json"


@dataclass(frozen=True)
class Seed:
    """A method tuned and trained from one seed; accuracies are top-1 on the split's rows."""

    seed: int
    validation_top1: float
    validation_score: float  # what chooses goes by it (`tuning.score`)
    test_top1: float


def write_seeds(folder: Path, seeds: Sequence[Seed]) -> None:
    """Write a method's seeds; a single one needs no file."""
    if len(seeds) > 1:
        write_json(folder / FILE, [asdict(seed) for seed in seeds])


def read_seeds(folder: Path) -> list[Seed]:
    """Read a method's seeds: none where there is a single one. BadInput where the file is damaged."""
    if not (folder / FILE).exists():
        return []
    try:
        return [Seed(**seed) for seed in json.loads(read_text(folder / FILE))]
    except (TypeError, ValueError) as error:
        raise BadInput(f"{folder / FILE} is damaged ({error}); train that method again") from error
