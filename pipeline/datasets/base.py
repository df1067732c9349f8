"""What every data set gives: the images it found, what is odd about them, where they are read from."""

from dataclasses import dataclass

from features.images import ImageArrays, ImageFolder

# How people name a split, in folders and tables, and what it is called from here on
SPLIT_NAMES = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Found:
    """An image that the data set offers; `split` and `group` are empty where it gives none."""

    path: str
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Problem:
    """Something a user should know about a file: what, and what was done (`problems.csv`)."""

    path: str
    problem: str
    action: str  # "set aside", "ignored", "kept"


@dataclass(frozen=True)
class Listing:
    """What a data set offers; splits that are not among `given_splits` are drawn."""

    source: ImageFolder | ImageArrays
    found: list[Found]
    problems: list[Problem]
    given_splits: frozenset[str]
