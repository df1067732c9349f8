"""What every data set gives: the images it found, what is odd about them, where they are read from."""

from dataclasses import dataclass, field

from features.images import ImageArrays, ImageFolder


@dataclass(frozen=True)
class Found:
    """An image that the data set offers; `split` and `group` are empty where it gives none."""

    path: str
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Problem:
    """Something a user should know about a file: what, and what was done (`problems.csv`).

    Attributes
    ----------
    action : str
        "set aside" (an image that is not used), "ignored" (nothing is lost), "kept" (used, but odd),
        "noted" (of the whole data set, to be told at once).
    kind : str
        What is counted together on the terminal: ".heic", "hidden"; words that a number can stand before.
    """

    path: str
    problem: str
    action: str
    kind: str = ""


@dataclass(frozen=True)
class Listing:
    """What a data set offers; splits that are not among `given_splits` are drawn.

    Attributes
    ----------
    missing : list of Found
        Images that it names and whose files cannot be used; `problems` says why.
    """

    source: ImageFolder | ImageArrays
    found: list[Found]
    problems: list[Problem]
    given_splits: frozenset[str]
    missing: list[Found] = field(default_factory=list)
