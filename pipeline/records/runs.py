"""What `finetune` leaves: cards, histories, and what a run reached.

card = read_run(project, "freeze:conv4_3")
"""

import csv
from pathlib import Path
from typing import Any

from features.files import read_text
from pipeline.project import Project
from pipeline.records.cards import BASELINES, command_of, folder_of, read_card
from pipeline.records.predictions import Predictions
from pipeline.records.seeds import Seed


def read_run(project: Project, mode: str) -> dict[str, Any]:
    """Read a published baseline's card; BadInput where `finetune` has to run first."""
    method = f"{BASELINES}{mode}"
    return read_card(folder_of(project, method), command_of(method))


def read_history(project: Project, mode: str) -> list[dict[str, str]]:
    """Read a published baseline's `history.csv`: a mapping for each epoch of each pair tried."""
    text = read_text(project.finetune_folder(mode) / "history.csv")
    return list(csv.DictReader(text.splitlines()))


def reached(folder: Path, seed: int) -> Seed:
    """What a finished run reached from its seed."""
    validation = read_card(folder, "python cli.py finetune")["validation"]
    correct = Predictions.read(folder / "predictions.npz").correct
    return Seed(seed, validation["top1"], validation["score"], float(correct.mean()))
