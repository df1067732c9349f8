"""What lies in a folder: images, and what is passed over, with the reason. For `prepare` and `predict`.

    tree = Tree()
    for found in tree.walk(place("photos")):  # Place: an image; Passed: what is none, or cannot be used

An image is a regular file with the extension of one. Symbolic links are followed wherever they lead: data
sets are made of them. Each real file and folder comes once, under its own name where it has one below
the folder, else under the first link's; a link to a folder that it lies in is passed over.
Pipes, sockets and devices are never opened.
"""

import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from features.decoding.formats import EXTENSIONS, HEAD, IMAGE_KINDS, OTHER_EXTENSIONS, kind
from pipeline.datasets.system import THUMBNAILS, is_system

CIRCLE = ("linked in a circle", "a link to a folder that it lies in")  # kind and reason


@dataclass(frozen=True, slots=True)  # slots: there are as many as images
class Place:
    """A folder or an image file.

    Attributes
    ----------
    path : str
        As it was reached.
    real : str
        Where it lies, with all links followed.
    linked : bool
        Whether its own name is that of a link.
    """

    path: str
    real: str
    folder: bool
    linked: bool = False

    @property
    def name(self) -> str:
        """The last part of its path."""
        return os.path.basename(self.path)  # noqa: PTH119 - for every file


@dataclass(frozen=True)
class Passed:
    """What is passed over.

    Attributes
    ----------
    kind : str
        What is counted together: ".heic", "hidden"; words that a number can stand before.
    lost : bool
        Whether it is an image or may hold some, so that something is lost by passing it over.
    error : OSError or None
        Why it could not be looked at.
    """

    path: str
    kind: str
    reason: str
    lost: bool
    error: OSError | None = None

    def __fspath__(self) -> str:
        return self.path


@dataclass(frozen=True)
class Level:
    """What lies in a folder itself, by name; of folders only that they are there."""

    places: list[Place]
    passed: list[Passed]

    @property
    def folders(self) -> list[Place]:
        """Its folders, but for those of systems and hidden ones."""
        return [place for place in self.places if place.folder]

    @property
    def images(self) -> list[Place]:
        """Its image files."""
        return [place for place in self.places if not place.folder]


def place(folder: str) -> Place:
    """Begin at a folder."""
    return Place(folder, os.path.realpath(folder), folder=True)


class Tree:
    """Folders of a file system, each read once."""

    def __init__(self) -> None:
        self._levels: dict[str, Level] = {}

    def level(self, folder: Place) -> Level:
        """Read a folder; one that cannot be read has passed over itself, with the error."""
        if folder.path not in self._levels:
            self._levels[folder.path] = self._read(folder)
        return self._levels[folder.path]

    def walk(self, start: Place) -> Iterator[Place | Passed]:
        """All images in a folder and below, and what is passed over there."""
        own, linked = deque([start]), deque[Place]()
        seen: dict[str, str] = {}
        while own or linked:  # links come last: a file's own name is its name
            one = (own or linked).popleft()
            if one.real in seen:
                first = os.path.relpath(seen[one.real], os.path.dirname(start.path))  # noqa: PTH120
                yield Passed(one.path, "linked twice", f"a link to {first}, which is used", lost=False)
                continue
            seen[one.real] = one.path
            if not one.folder:
                yield one
            elif one is not start and _holds(one.real, start.real):
                yield Passed(one.path, *CIRCLE, lost=False)
            elif one is not start and one.name.lower() in THUMBNAILS:
                said = "a folder of thumbnails, by its name"
                yield Passed(one.path, "in folders of thumbnails", said, lost=True)
            else:
                level = self.level(one)
                yield from level.passed
                for inner in level.places:
                    (linked if inner.linked else own).append(inner)

    def holds_images(self, folder: Place) -> bool:
        """Whether there is an image in a folder or below, be it one that is passed over."""
        return any(isinstance(one, Place) or one.lost for one in self.walk(folder))

    def _read(self, folder: Place) -> Level:
        places: list[Place] = []
        passed: list[Passed] = []
        try:
            with os.scandir(folder.path) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            return Level([], [_unreadable(folder.path, "in unreadable folders", error)])
        for entry in listed:
            found = self._entry(entry, folder)
            if isinstance(found, Place):
                places.append(found)
            else:
                passed.append(found)
        return Level(places, passed)

    def _entry(self, entry: os.DirEntry[str], parent: Place) -> Place | Passed:
        real = f"{parent.real.rstrip('/')}/{entry.name}"
        try:
            if linked := entry.is_symlink():
                real = os.path.realpath(real, strict=True)
            folder, regular = entry.is_dir(), entry.is_file()
        except FileNotFoundError:
            return Passed(entry.path, "linked to nothing", "a link to nothing", lost=_may_hold(entry.name))
        except OSError as error:
            return _unreadable(entry.path, "unreadable", error)
        if is_system(entry.name, folder=folder):
            what = "folder" if folder else "file"
            return Passed(entry.path, "of the system", f"a {what} of the system or a program", lost=False)
        if folder and linked and _holds(real, parent.real):
            return Passed(entry.path, *CIRCLE, lost=False)
        one = Place(entry.path, real, folder, linked)
        if entry.name.startswith("."):
            return self._hidden(one)
        if not folder and not regular:
            said = irregular(entry.stat().st_mode)
            return Passed(entry.path, "not regular", said, _may_hold(entry.name))
        return one if folder or extension(entry.name) in EXTENSIONS else _no_image(one)

    def _hidden(self, one: Place) -> Passed:
        """Pass over what its name hides, and say whether it holds images."""
        if not one.folder:
            lost = extension(one.name) in EXTENSIONS | OTHER_EXTENSIONS
            return Passed(one.path, "hidden", "a hidden file", lost)
        count = sum(isinstance(found, Place) or found.lost for found in self.walk(one))
        if not count:
            return Passed(one.path, "hidden", "a hidden folder", lost=False)
        said = f"a hidden folder, which holds {count:,} image{'s' * (count > 1)}; rename it to use them"
        return Passed(one.path, "in hidden folders", said, lost=True)


def _holds(folder: str, other: str) -> bool:
    """Whether a real folder is another, or holds it."""
    return f"{other}/".startswith(f"{folder.rstrip('/')}/")


def extension(name: str) -> str:
    """Extension of a file's name in lower case, with its dot; empty where there is none."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - for every file


def _may_hold(name: str) -> bool:
    """Whether what cannot be looked at may be an image or a folder of some, by its name."""
    return extension(name) in EXTENSIONS | OTHER_EXTENSIONS | {""}


def _unreadable(path: str, what: str, error: OSError) -> Passed:
    return Passed(path, what, f"cannot be read ({error.strerror})", lost=True, error=error)


def irregular(mode: int) -> str:
    """In words, what a file of this mode is that is no regular file."""
    what = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
    return f"{what}, no regular file"


def _no_image(one: Place) -> Passed:
    """Pass over a file that has another extension than images have; its first bytes say what it is."""
    suffix = extension(one.name)
    if suffix in OTHER_EXTENSIONS:
        remedy = (
            "install pillow-heif, or save it as JPEG" if suffix[:3] == ".he" else "save it as PNG or JPEG"
        )
        return Passed(one.path, suffix, f"{suffix} files are not read; {remedy}", lost=True)
    try:
        with open(one.path, "rb", buffering=0) as file:  # noqa: PTH123 - for every file
            words = kind(file.read(HEAD))
    except OSError:  # it is no image by its name
        words = ""
    if words in IMAGE_KINDS:
        said = f"{words}, though its name has no extension of an image; rename it to use it"
        return Passed(one.path, "without a known extension", said, lost=True)
    said = "its extension is not that of a known image format"
    return Passed(one.path, suffix or "without extension", said, lost=False)
