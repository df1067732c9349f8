"""One line of the doctor's: a mark, what was found, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

from features.errors import BadInput


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes
    ----------
    mark : str
        `ok`; `note`, where the pipeline works and could do better; `wrong`, where some stage would fail.
    topic : str
        What was looked at, in a word.
    remedy : str
        What to do; empty where it is ok.
    """

    mark: Literal["ok", "note", "wrong"]
    topic: str
    found: str
    remedy: str = ""


def ok(topic: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding("ok", topic, found)


def note(topic: str, found: str, remedy: str) -> Finding:
    """Worth knowing."""
    return Finding("note", topic, found, remedy)


def wrong(topic: str, found: str, remedy: str) -> Finding:
    """To be mended."""
    return Finding("wrong", topic, found, remedy)


def refused(topic: str, error: BadInput) -> Finding:
    """What a command would refuse; its sentence ends in the remedy, after a semicolon."""
    found, _, remedy = str(error).rpartition("; ")
    return wrong(topic, found, remedy) if found else wrong(topic, remedy, "mend what it names")
