"""The files that a table names: where each lies, or why it cannot be used. Links are followed, as in folders.

found, missing, problems = Files(root).resolved(images)   # of `Found`, as the table has them
"""

import contextlib
import os
import stat
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.datasets.base import Found, Problem
from pipeline.datasets.faults import checked
from pipeline.datasets.names import form
from pipeline.datasets.walk import irregular

KEPT = "its name has another Unicode form on the disk"


class Files:
    """Files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # Folder → what each name in it is seen as → these names; read where a name is missing
        self._names: dict[tuple[str, Callable[[str], str]], dict[str, list[str]]] = {}
        self._real: dict[str, str] = {}  # folder → where it lies, all links followed

    def resolved(self, images: Sequence[Found]) -> tuple[list[Found], list[Found], list[Problem]]:
        """Images whose files are there, those whose are not, and what is wrong or odd.

        Raises
        ------
        BadInput
            Where a disk does not answer.
        """
        problems: list[Problem] = []
        missing: list[Found] = []
        lying: list[tuple[bool, str, Found]] = []  # whether by a link, the real file, the image
        for image in images:
            on_disk = image.path
            why = self._unusable(on_disk)
            if why and (other := self._alike(on_disk, _composed)):
                on_disk, why = other, self._unusable(other)
                problems += [] if why else [Problem(on_disk, KEPT, "kept")]
            if why:
                missing.append(image)
                problems.append(Problem(image.path, why[0], "set aside", why[1]))
            else:
                real = self._lies(on_disk)
                lying.append((real != f"{self._folder('')}/{on_disk}", real, replace(image, path=on_disk)))
        found: dict[tuple[str, ...], Found] = {}
        for _, real, image in sorted(lying, key=lambda each: each[0]):  # a file's own name is its name
            first = found.setdefault((real, image.label, image.split, image.group), image)
            if first is not image:
                said = f"a link to {first.path}, which is used"
                problems.append(Problem(image.path, said, "ignored", "linked twice"))
        return list(found.values()), missing, problems

    def _unusable(self, path: str) -> tuple[str, str] | None:
        """Why a file cannot be used, and the kind that is counted; what it holds is not looked at."""
        try:
            mode = (self.root / path).stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            if (self.root / path).is_symlink():
                return "a link to nothing", "linked to nothing"
            return f"there is no such file{self._hint(path)}", "missing"
        except OSError as error:
            return checked(self.root / path, error), "unreadable"
        if stat.S_ISDIR(mode):
            return "a folder, no image file", "named by a folder"
        return None if stat.S_ISREG(mode) else (irregular(mode), "not regular")

    def _hint(self, path: str) -> str:
        """Name the file that is there and may be meant."""
        forward = path.replace("\\", "/").strip("/")
        other = self._alike(forward, form)
        if other and other != path:
            return f"; folders are separated by / here: {other}" if "\\" in path else f", but {other!r}"
        return "; folders are separated by / here" if "\\" in path else ""

    def _alike(self, path: str, seen: Callable[[str], str]) -> str:
        """The one path on the disk that is this one to who sees `seen` of each name; else empty."""
        reached = ""
        for part in Path(path).parts:
            same = self._listed(reached, seen).get(seen(part), [])
            if part not in same and len(same) != 1:
                return ""
            name = part if part in same else same[0]
            reached = f"{reached}/{name}" if reached else name
        return reached

    def _listed(self, folder: str, seen: Callable[[str], str]) -> dict[str, list[str]]:
        if (folder, seen) not in self._names:
            names = self._names[folder, seen] = {}
            with contextlib.suppress(OSError):  # nothing is found there, then
                for name in os.listdir(self.root / folder):  # noqa: PTH208 - names, not paths
                    names.setdefault(seen(name), []).append(name)
        return self._names[folder, seen]

    def _folder(self, folder: str) -> str:
        if folder not in self._real:
            self._real[folder] = os.path.realpath(self.root / folder)
        return self._real[folder]

    def _lies(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        real = f"{self._folder(folder)}/{name}"
        return os.path.realpath(real) if os.path.islink(real) else real  # noqa: PTH114 - for every file


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
