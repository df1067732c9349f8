"""Whether the last comparison is of what lies there now: its numbers belong to cards, by digest.

outdated(project)        # ["pixels.logreg"], trained anew since
for sentence in since(project): ...
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.lines import BASELINES, ENSEMBLE
from pipeline.project import Project, read_json

NAMED = 3  # methods, of more only their number is said


def identity(cards: Sequence[Mapping[str, Any]]) -> str:
    """A digest of a method's card, or of those of an ensemble's members."""
    return hashlib.sha256(json.dumps(cards, sort_keys=True).encode()).hexdigest()


def outdated(project: Project) -> list[str]:
    """Methods that are not what was compared: trained anew since then, or gone."""
    content = read_json(project.comparison) if project.comparison.exists() else {}
    members = {ENSEMBLE: content.get("ensemble", [])}
    compared = content.get("identities", {})
    return [name for name in compared if _identity(project, members.get(name, [name])) != compared[name]]


def _identity(project: Project, members: Sequence[str]) -> str:
    files = [_card(project, member) for member in members]
    return identity([read_json(file) for file in files]) if all(file.exists() for file in files) else ""


def _card(project: Project, method: str) -> Path:
    if method.startswith(BASELINES):
        return project.finetune_folder(method.removeprefix(BASELINES)) / "card.json"
    return project.head_folder(method.rpartition(".")[2]) / method.replace(":", "-") / "card.json"


def since(project: Project) -> list[str]:
    """What has to be said beside the last comparison's numbers; nothing where they are of what is there."""
    names, sentences = outdated(project), []
    if names:
        several = len(names) > 1
        which = " and ".join([", ".join(names[:-1]), names[-1]] if several else names)
        if len(names) > NAMED:
            which = f"{len(names)} methods, {', '.join(names[:NAMED])} among them,"
        sentences.append(
            f"{which} {'were' if several else 'was'} trained anew or removed after the last compare: "
            f"what is said of {'them' if several else 'it'} here is of what was there before; "
            "`python cli.py compare` compares anew."
        )
    made = read_json(project.dataset_record).get("manifest") if project.dataset_record.exists() else None
    if made and made != read_json(project.comparison).get("manifest", made):
        sentences.append("The images were prepared anew after the last compare, which is of those before.")
    return sentences
