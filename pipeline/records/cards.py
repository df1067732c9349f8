"""Cards: what a trained thing says of itself, sealed, so that one that was edited or cut short is seen.

card = read_card(project.finetune_folder("full"), "python cli.py finetune --mode full")
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.cache import RUN_CARD as CARD
from features.errors import BadInput, Damaged
from features.immutable import check_file
from features.immutable import read_card as read_sealed
from pipeline.project import Project

BASELINES = "finetune."  # how the names of fine-tuned methods begin

__all__ = ["BASELINES", "CARD", "check_files", "command_of", "folder_of", "is_there", "read_card"]


def folder_of(project: Project, method: str) -> Path:
    """Where a trained method's card and predictions lie: `pool5.logreg`, `majority`, `finetune.full`."""
    if method.startswith(BASELINES):
        return project.finetune_folder(method.removeprefix(BASELINES))
    return project.head_folder(method.rpartition(".")[2]) / method.replace(":", "-")


def command_of(method: str) -> str:
    """What trains a method."""
    if method.startswith(BASELINES):
        return f"python cli.py finetune --mode {method.removeprefix(BASELINES)}"
    return f"python cli.py train --head {method.rpartition('.')[2]}"


def is_there(folder: Path) -> bool:
    """Whether something was trained into this folder."""
    return (folder / CARD).exists()


def read_card(folder: Path, command: str) -> dict[str, Any]:
    """Read a folder's card.

    Raises
    ------
    BadInput
        Where there is none, or it is not what was written; names the command that makes it.
    """
    if not is_there(folder):
        raise BadInput(f"there is no {folder}; run `{command}` first")
    try:
        return read_sealed(folder, CARD)
    except Damaged as error:
        raise BadInput(f"{folder}: {error}; run `{command}` again") from error


def check_files(folder: Path, card: Mapping[str, Any], method: str, names: Sequence[str]) -> None:
    """Refuse files that are not those of a card: of a folder that was replaced since the card was read.

    Raises
    ------
    BadInput
        Names the folder; also where a file is damaged.
    """
    try:
        for name in names:
            if name in card["files"]:
                check_file(folder, card, name)
    except Damaged as error:
        raise BadInput(
            f"{folder}: {error}; {method} was trained anew meanwhile, or is damaged: run this again, or else "
            f"`{command_of(method)}`"
        ) from error
