"""Which images are asked for on the command line: files, folders, patterns, or paths line by line.

paths = listed(["photos", "scans/*.png", "cat.jpg"])
"""

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from features.errors import BadInput
from features.images import EXTENSIONS
from pipeline.datasets.walk import Passed, Place, Tree, place


def listed(arguments: Sequence[str]) -> list[Path | Passed]:
    """List the images that paths, folders and patterns name, each argument's sorted.

    A path that is not there stays in the list, as does what holds or matches no image, and what a folder
    holds that is an image and passed over, as `prepare` does: each has its own line in the answer.

    Raises
    ------
    BadInput
        Where nothing matches any of them.
    """
    found = [path for argument in arguments for path in _matching(argument) or [Path(argument)]]
    if not any(isinstance(path, Passed) or _is_there(path) for path in found):
        raise BadInput(
            f"no images match {', '.join(arguments)}; name image files, folders of them "
            f"({', '.join(sorted(EXTENSIONS))}), patterns such as 'photos/*.jpg', or - for standard input"
        )
    return found


def _is_there(path: Path) -> bool:
    """Whether there is a file, be it one that cannot be looked at."""
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True


def _matching(argument: str) -> list[Path | Passed]:
    # Not Path's own: these answer False where a name is too long, or a disk does not answer
    if os.path.isdir(argument):  # noqa: PTH112
        return _below(argument)
    if not os.path.lexists(argument) and glob.has_magic(argument):  # no shell has expanded it
        matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 - any path
        return [one for match in matches for one in _matching(match)]
    return [Path(argument)]


def _below(folder: str) -> list[Path | Passed]:
    """Images in a folder and below, and those among them that are passed over, by path."""
    found = [one for one in Tree().walk(place(folder)) if isinstance(one, Place) or one.lost]
    found.sort(key=lambda one: Path(one.path))
    return [Path(one.path) if isinstance(one, Place) else one for one in found]


def lines(binary: Iterable[bytes]) -> Iterator[Path]:
    """Paths, one a line, as the system spells them; empty lines are passed over."""
    for line in binary:
        if name := os.fsdecode(line).rstrip("\r\n"):
            yield Path(name)
