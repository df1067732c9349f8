"""Which images are asked for: files, folders, patterns, arrays, or paths as they arrive.

paths = listed(["photos", "scans/*.png", "cat.jpg"])
for group in arriving(sys.stdin.buffer, most=128): ...   # what has come so far
"""

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from features.errors import BadInput
from features.files import sha256_file
from features.images import EXTENSIONS, Unreadable, array_sha256, decode, upright_rgb
from features.manifest import Manifest, Row
from pipeline.datasets.walk import Passed, Place, Tree, irregular, place

T = TypeVar("T")
Asked = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]  # of (H, W, 3) or (H, W), RGB or grey

BLANK = Image.new("RGB", (32, 32))  # runs in place of an image that cannot be read, and is dropped


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


def arriving(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """Group items as they come: those that have arrived, at least one, at most `most`.

    A thread waits for the next while the caller works on a group.
    """
    queue: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()

    def wait() -> None:
        try:
            for item in items:
                queue.put((item,))
            queue.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again, where the caller is
            queue.put(error)

    Thread(target=wait, daemon=True).start()
    last: tuple[T] | BaseException | None = queue.get()
    while isinstance(last, tuple):
        group = [last[0]]
        while len(group) < most and not queue.empty() and isinstance(last := queue.get(), tuple):
            group.append(last[0])
        yield group
        if isinstance(last, tuple):
            last = queue.get()
    if last is not None:
        raise last


@dataclass(frozen=True)
class Given:
    """Images given by a user, as a source for `features.batches.Decoder`.

    What cannot be read is replaced by a blank image, and its reason kept.

    Attributes
    ----------
    problems : dict of int to str
        Why an image cannot be used, by its number.
    """

    items: Sequence[Asked]
    crop: bool
    problems: dict[int, str] = field(init=False, default_factory=dict)

    def manifest(self, *, digests: bool) -> Manifest:
        """Rows in the order given; with `digests`, of which random crops are drawn, as `prepare` has them."""
        found = [_digest(item) if digests else "" for item in self.items]
        width = len(str(len(found)))  # so that names sort as numbers do
        rows = ((f"{number:0{width}}", digest) for number, digest in enumerate(found))
        return Manifest(tuple(Row(name, name, "", "test", digest, 0, 0) for name, digest in rows))

    def image(self, path: str, sha256: str) -> Image.Image:
        """Return an image, upright RGB, or a blank one (see `features.images.ImageSource`)."""
        number = int(path)
        try:
            return opened(self.items[number])
        except (Unreadable, OSError) as error:
            self.problems[number] = (error.strerror if isinstance(error, OSError) else None) or str(error)
            return BLANK


def opened(item: Asked) -> Image.Image:
    """Open what a user gives for an image, upright RGB.

    Raises
    ------
    Unreadable, OSError
        Where a file cannot be read, or holds no usable image.
    BadInput
        For an array of another shape or type.
    """
    if isinstance(item, np.ndarray):
        if item.dtype != np.uint8 or item.ndim not in (2, 3) or item.shape[2:] not in ((), (3,)):
            raise BadInput(
                f"an image array should be (H, W, 3) or (H, W) uint8, not {item.shape} {item.dtype}"
            )
        return Image.fromarray(item).convert("RGB")
    if isinstance(item, Image.Image):
        return upright_rgb(item)
    if isinstance(item, Passed):
        raise Unreadable(item.reason)
    path = Path(item)
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise Unreadable("a folder, from which no image was taken")
    if not stat.S_ISREG(mode):  # a pipe may wait for ever
        raise Unreadable(irregular(mode))
    return decode(path.read_bytes()).image


def _digest(item: Asked) -> str:
    """The sha256 of a file's bytes or an array's values; empty where there is none."""
    if isinstance(item, np.ndarray):
        return array_sha256(item)
    if isinstance(item, Image.Image):
        return array_sha256(np.asarray(item))
    try:
        return sha256_file(Path(item)) if Path(item).is_file() else ""
    except OSError:  # `image` will say so
        return ""
