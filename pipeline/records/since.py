"""Whether the last comparison is of what lies there now: its numbers belong to cards, by digest.

outdated(project)        # ["pixels.logreg"], trained anew since
for sentence in since(project): ...
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from features.errors import Damaged
from features.immutable import read_card
from pipeline.project import Project, read_json
from pipeline.records.cards import CARD, folder_of
from pipeline.records.comparison import ENSEMBLE

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
    try:
        return identity([read_card(folder_of(project, member), CARD) for member in members])
    except Damaged:  # or gone
        return ""


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
