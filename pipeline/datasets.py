"""The data sets: where images, labels and given splits come from.

A data set either lies in a folder as image files (`folder`) or comes as arrays
in one piece (`digits`); arrays are never exploded into files.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.errors import BadInput
from features.images import EXTENSIONS, ImageArrays, ImageFolder, ImageSource
from features.manifest import SPLITS
from features.network import Size

# What `extract.image_size: auto` means. 224: the VGG paper's. 48 for 8 × 8 digits: a whole run with a
# fine-tuned baseline within minutes on two cores.
AUTO_SIZE: dict[str, Size] = {"digits": (48, 48), "folder": (224, 224)}

SPLIT_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
SKIPPED = frozenset({"Thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Found:
    """An image that the data set offers; `split` is empty where it gives none."""

    path: str
    label: str
    split: str = ""


@dataclass(frozen=True)
class Problem:
    """Something a user should know about a file: what, and what was done (`problems.csv`)."""

    path: str
    problem: str
    action: str  # "set aside", "ignored", "kept"


@dataclass(frozen=True)
class Listing:
    """What a data set offers."""

    source: ImageSource
    found: list[Found]
    problems: list[Problem]
    given_splits: frozenset[str]


def listing(name: str, root: Path) -> Listing:
    """List a data set's images.

    Raises
    ------
    BadInput
        Where there are none.
    """
    return DATASETS[name](root)


def source(name: str, root: Path) -> ImageSource:
    """Where the images of a manifest are read from."""
    return ImageFolder(root) if name == "folder" else listing(name, root).source


def _digits(root: Path) -> Listing:
    """scikit-learn's test part of the UCI optical digits: 1,797 images of 8 × 8, 17 grey levels."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - slow to import

    content = load_digits()
    images = np.rint(content.images * (255 / 16)).astype(np.uint8)
    arrays = {f"digits/{number:04}": image for number, image in enumerate(images)}
    found = [Found(path, str(label)) for path, label in zip(arrays, content.target, strict=True)]
    return Listing(ImageArrays(arrays), found, [], frozenset())


def _folder(root: Path) -> Listing:
    """Image files in `root/<class>/**` or `root/<split>/<class>/**`."""
    if not root.is_dir():
        raise BadInput(f"dataset.root: there is no folder {root}")
    found: list[Found] = []
    problems: list[Problem] = []
    splits = _split_folders(root)
    below: dict[Path, str] = {root / name: SPLIT_FOLDERS[name] for name in splits} if splits else {root: ""}
    for folder, split in below.items():
        for entry in _entries(folder, root, problems):
            if entry.is_dir():
                _class_folder(entry, split, root, found, problems)
            elif entry not in below:
                problems.append(Problem(_relative(entry, root), "not in a class folder", "ignored"))
    if splits:
        others = [entry for entry in _entries(root, root, problems) if entry not in below]
        problems += [Problem(_relative(e, root), "not in a split folder", "ignored") for e in others]
    if not found:
        listed = f" ({len(problems)} entries were passed over)" if problems else ""
        raise BadInput(
            f"no images found in {root}{listed}; expected {root}/<class>/*.jpg "
            f"or {root}/{{{','.join(SPLITS)}}}/<class>/*.jpg"
        )
    return Listing(ImageFolder(root), found, problems, frozenset(below.values()) - {""})


DATASETS = {"digits": _digits, "folder": _folder}


def _split_folders(root: Path) -> list[str]:
    """Split folders, if `root/train` is one: it holds class folders and no images of its own."""
    train = root / "train"
    if not train.is_dir() or train.is_symlink():
        return []
    entries = list(train.iterdir())
    if any(entry.suffix.lower() in EXTENSIONS for entry in entries) or not any(e.is_dir() for e in entries):
        return []  # a class that is called train
    names = [name for name in SPLIT_FOLDERS if (root / name).is_dir()]
    if {"val", "validation"} <= set(names):
        raise BadInput(f"{root} has both val and validation; keep one of them")
    return names


def _entries(folder: Path, root: Path, problems: list[Problem]) -> Iterator[Path]:
    """A folder's entries in order; links, hidden and unnameable entries become problems."""
    for entry in sorted(folder.iterdir()):
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            problems.append(Problem(_relative(entry, root), "the name is not valid UTF-8", "set aside"))
            continue
        if entry.is_symlink():
            problems.append(Problem(_relative(entry, root), "a symbolic link is not followed", "set aside"))
        elif entry.name.startswith(".") or entry.name in SKIPPED:
            problems.append(Problem(_relative(entry, root), "a hidden file or folder", "ignored"))
        else:
            yield entry


def _relative(path: Path, root: Path) -> str:
    """Path below root with forward slashes; bytes that are not UTF-8 become backslash escapes."""
    name = path.relative_to(root).as_posix()
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _class_folder(folder: Path, split: str, root: Path, found: list[Found], problems: list[Problem]) -> None:
    before = len(found)
    pending = [folder]
    while pending:
        for entry in _entries(pending.pop(), root, problems):
            if entry.is_dir():
                pending.append(entry)
            elif entry.suffix.lower() in EXTENSIONS:
                found.append(Found(entry.relative_to(root).as_posix(), folder.name, split))
            else:
                kinds = "its extension is not that of a known image format"
                problems.append(Problem(_relative(entry, root), kinds, "ignored"))
    if len(found) == before:
        raise BadInput(f"the class folder {folder} holds no images; fill it or delete it")
