"""Which images are asked for on the command line: files, folders, patterns, or paths line by line.

paths = listed(["photos", "scans/*.png", "cat.jpg"])
"""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from features.errors import BadInput
from features.images import EXTENSIONS


def listed(arguments: Sequence[str]) -> list[Path]:
    """List the images that paths, folders and patterns name, each argument's sorted.

    A path that is not there stays in the list, as does what holds or matches no image: each has its
    own line in the answer.

    Raises
    ------
    BadInput
        Where nothing matches any of them.
    """
    found = [path for argument in arguments for path in _matching(argument) or [Path(argument)]]
    if not any(path.exists() and not path.is_dir() for path in found):
        raise BadInput(
            f"no images match {', '.join(arguments)}; name image files, folders of them "
            f"({', '.join(sorted(EXTENSIONS))}), patterns such as 'photos/*.jpg', or - for standard input"
        )
    return found


def _matching(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_dir():
        return _below(path)
    if not path.exists() and glob.has_magic(argument):  # no shell has expanded it
        matches = [Path(match) for match in sorted(glob.glob(argument, recursive=True))]  # noqa: PTH207 - any path
        return [one for match in matches for one in (_below(match) if match.is_dir() else [match])]
    return [path]


def _below(folder: Path) -> list[Path]:
    """Image files in a folder and below, sorted; hidden ones are passed over."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        named = [Path(parent, name) for name in files if not name.startswith(".")]
        found += [path for path in named if path.suffix.lower() in EXTENSIONS]
    return sorted(found)


def lines(binary: Iterable[bytes]) -> Iterator[Path]:
    """Paths, one a line, as the system spells them; empty lines are passed over."""
    for line in binary:
        if name := os.fsdecode(line).rstrip("\r\n"):
            yield Path(name)
