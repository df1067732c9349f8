"""Folders of image files: `root/<class>/**`, or `root/<split>/<class>/**`."""

import os
from collections.abc import Iterator
from pathlib import Path

from features.errors import BadInput
from features.images import EXTENSIONS, ImageFolder
from features.manifest import SPLITS
from pipeline.datasets.base import SPLIT_NAMES, Found, Listing, Problem

SKIPPED = frozenset({"Thumbs.db", "desktop.ini"})


def listing(root: Path) -> Listing:
    """List the image files; links, hidden and other files become problems.

    Raises
    ------
    BadInput
        No such folder, no images, an empty class folder, both val and validation.
    """
    if not root.is_dir():
        raise BadInput(f"dataset.root: there is no folder {root}")
    found: list[Found] = []
    problems: list[Problem] = []
    splits = _split_folders(root)
    below: dict[Path, str] = {root / name: SPLIT_NAMES[name] for name in splits} if splits else {root: ""}
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


def _split_folders(root: Path) -> list[str]:
    """Split folders, if `root/train` is one: it holds class folders and no images of its own."""
    train = root / "train"
    if not train.is_dir() or train.is_symlink():
        return []
    entries = list(train.iterdir())
    if any(entry.suffix.lower() in EXTENSIONS for entry in entries) or not any(e.is_dir() for e in entries):
        return []  # a class that is called train
    names = [name for name in SPLIT_NAMES if (root / name).is_dir()]
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
