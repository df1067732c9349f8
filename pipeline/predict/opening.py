"""Opening a trained method by its name.

method = open_method(project, "pool5.logreg")   # or ensemble, finetune.full, majority
"""

import difflib
from collections.abc import Mapping
from pathlib import Path

from features.errors import BadInput, Damaged
from features.immutable import read_card as read_sealed
from pipeline.predict.frozen import Frozen
from pipeline.predict.method import Method
from pipeline.project import Project, read_json
from pipeline.records.cards import BASELINES, CARD, is_there
from pipeline.records.comparison import ENSEMBLE


def trained(project: Project) -> dict[str, Path]:
    """Folders of all methods that are trained, by name; `ensemble` has none of its own."""
    cards = [*project.artifacts.glob(f"heads/*/*/{CARD}"), *project.finetune_folder().glob(f"*/{CARD}")]
    found = {}
    for folder in sorted(card.parent for card in cards):
        try:
            found[str(read_sealed(folder, CARD)["method"])] = folder
        except Damaged:
            if is_there(folder):  # else it is being made anew, or swept; who asks for this one is told why
                found[folder.name] = folder
    return found


def open_method(project: Project, name: str) -> Method:
    """Open a trained method.

    Raises
    ------
    BadInput
        For one that is not trained, is damaged, or was trained with other settings.
    """
    folders = trained(project)
    if name == ENSEMBLE:
        return _frozen(project, name, {member: _folder(member, folders) for member in _members(project)})
    folder = _folder(name, folders)
    if not name.startswith(BASELINES):
        return _frozen(project, name, {name: folder})
    project.check_kind_of_images()  # which the file does not say
    from pipeline.predict.finetuned import FineTuned  # noqa: PLC0415 - torch and all of training

    return FineTuned(project, name, folder)


def _frozen(project: Project, name: str, folders: Mapping[str, Path]) -> Frozen:
    try:
        return Frozen(project, name, folders)
    except BadInput:
        project.check_kind_of_images()  # the cause where it is another kind; what was said is its effect
        raise


def _folder(name: str, folders: Mapping[str, Path]) -> Path:
    if name in folders:
        return folders[name]
    near = difflib.get_close_matches(name, folders, n=1, cutoff=0.0)
    there = f"did you mean {near[0]!r}? (trained: {', '.join(folders)})" if near else "none is trained yet"
    raise BadInput(f"there is no trained method {name!r}; {there}; `python cli.py train` trains heads")


def _members(project: Project) -> list[str]:
    """Names of the heads that the last comparison's ensemble is the mean of."""
    members = read_json(project.comparison).get("ensemble") if project.comparison.exists() else []
    if not members:
        raise BadInput("there is no ensemble; `python cli.py compare` makes one, of two layers or more")
    return list(members)
