"""Images as users give them: files, encoded bytes, Pillow images, arrays, one or many, or as they arrive.

    one, items = taken(images)                            # whether that is a single image
    for group in arriving(paths, most=128): ...           # what has come so far
    Decoder(given.manifest(digests=False), given, ...)    # `Given` is a source of images

An array with two axes is a grey image, with three one of (H, W, channels), with four a batch of these:
(3, H, W), as torch has images, is refused and not taken for three grey ones.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Semaphore, Thread
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from features.errors import BadInput, Unreadable
from features.images import Decoded, array_sha256, decode, image_bytes, upright_rgb
from features.manifest import Manifest, Row
from pipeline.datasets.walk import Passed, irregular

T = TypeVar("T")
Encoded = bytes | bytearray | memoryview | IO[bytes]  # a whole image file
Asked = str | os.PathLike[str] | Encoded | Image.Image | NDArray[np.uint8]
Images = Asked | Iterable[Asked]  # one, or any number

BLANK = Image.new("RGB", (32, 32))  # runs in place of an image that cannot be read, and is dropped
CHANNELS = (1, 3, 4)  # grey, RGB, RGBA

_loading = Lock()  # Pillow reads a file that it opened when its pixels are first asked for, by whoever asks
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release
    )


def taken(images: Any) -> tuple[bool, Iterable[Any]]:
    """Whether this is one image, and what is given as something to go through: one image as a list.

    Raises
    ------
    BadInput
        For what is neither an image nor a collection of them.
    """
    if not isinstance(images, Image.Image | np.ndarray) and hasattr(images, "__array__"):
        images = _array(images)  # a column of a table, a tensor: their own iteration gives something else
    if isinstance(images, np.ndarray):
        if images.ndim in (2, 3) and images.dtype.kind not in "OSUT":
            return True, [images]
        if not images.ndim:
            return taken(images.item())
    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | Image.Image) or hasattr(
        images, "read"
    ):
        return True, [images]
    if isinstance(images, Iterable) and not isinstance(images, Mapping):
        return False, images
    raise BadInput(
        "images should be paths, bytes of image files, Pillow images or arrays, one or several of them, "
        f"not {_kind(images)}"
    )


def arriving(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """Group items as they come: those that have arrived, at least one, at most `most`.

    A thread waits for the next while the caller works on a group, at most `most` ahead of it; it
    ends with the next item when the caller stops early.

    Raises
    ------
    BadInput
        In a process that was forked meanwhile: that thread is not there.
    """
    queue: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
    room, process, over = Semaphore(most), os.getpid(), False

    def wait() -> None:
        try:
            for item in items:
                queue.put((item,))
                room.acquire()
                if over:
                    return
            queue.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again, where the caller is
            queue.put(error)

    def following() -> tuple[T] | BaseException | None:
        if os.getpid() != process:
            raise BadInput("a stream of images does not go on in a forked process; start one there")
        found = queue.get()
        room.release()
        return found

    Thread(target=wait, daemon=True).start()
    try:
        last = following()
        while isinstance(last, tuple):
            group = [last[0]]
            while len(group) < most and not queue.empty() and isinstance(last := following(), tuple):
                group.append(last[0])
            yield group
            if isinstance(last, tuple):
                last = following()
        if last is not None:
            raise last
    finally:
        over = True
        room.release()


@dataclass(frozen=True)
class Given:
    """Images given by a user, as a source for `features.batches.Decoder`.

    What cannot be read is replaced by a blank image, and its reason kept. Open files are read at once:
    several threads, or the same file twice, would read on where the other stopped.

    Attributes
    ----------
    problems, notes : dicts of int to str
        By an image's number: why it cannot be used, what should be known although it can.
    """

    items: Sequence[Any]
    crop: bool
    problems: dict[int, str] = field(init=False, default_factory=dict)
    notes: dict[int, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        read = [_read(item) if hasattr(item, "read") else item for item in self.items]
        object.__setattr__(self, "items", read)

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
            found = opened(self.items[number])
        except Exception as error:  # noqa: BLE001 - whatever Pillow or the system says of one image
            words = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self.problems[number] = words or type(error).__name__
            return BLANK
        if found.note:
            self.notes[number] = found.note
        return found.image


def _read(file: Any) -> Any:
    """The bytes of an open file, from its beginning as Pillow reads it; or why there are none."""
    try:
        if getattr(file, "seekable", bool)():
            file.seek(0)
        data = file.read()
    except Exception as error:  # noqa: BLE001 - another's code; one file is no reason to lose the others
        return Unreadable(str(error) or type(error).__name__)
    return data if isinstance(data, bytes) else Unreadable(f"its read() gives no bytes but {_kind(data)}")


def opened(item: Any) -> Decoded:
    """Open what a user gives for an image, upright RGB.

    Raises
    ------
    Unreadable, OSError
        Where a file cannot be read, or holds no usable image; for what is no image at all, and for
        an array of another shape or type.
    """
    if isinstance(item, Unreadable):
        raise item
    if isinstance(item, Passed):
        raise Unreadable(item.reason)
    if isinstance(item, Image.Image):
        with _loading:
            return Decoded(upright_rgb(item))
    if isinstance(item, bytes | bytearray | memoryview):
        return decode(bytes(item))
    if isinstance(item, str | os.PathLike):
        return decode(_file(item))
    if hasattr(item, "__array__"):
        return Decoded(_from_array(_array(item)))
    raise Unreadable(f"{_kind(item)} is no image: a path, bytes, a Pillow image or an array is one")


def _file(item: str | os.PathLike[str]) -> bytes:
    if not os.fspath(item):
        raise Unreadable("an empty path")
    path = Path(os.fsdecode(item))
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise Unreadable("a folder, from which no image was taken")
    if not stat.S_ISREG(mode):  # a pipe would be waited for
        raise Unreadable(irregular(mode))
    return image_bytes(path)


def _array(item: Any) -> NDArray[Any]:
    if np.ma.is_masked(item):  # `asarray` would take what is behind the mask
        raise BadInput("masked pixels have no value; fill them, as `filled(0)` does")
    try:
        return np.asarray(item)
    except Exception as error:  # of a tensor on a GPU, say
        raise BadInput(f"{_kind(item)} cannot be read as an array ({error}); give one of NumPy's") from error


def _from_array(array: NDArray[Any]) -> Image.Image:
    grey = array.ndim == 2
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] in CHANNELS)):
        raise Unreadable(
            "an image array should be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8, "
            f"not {array.shape} {array.dtype}"
        )
    if not array.size:
        raise Unreadable(f"{array.shape[1]} × {array.shape[0]} pixels")
    return upright_rgb(Image.fromarray(array[:, :, 0] if not grey and array.shape[2] == 1 else array))


def _kind(value: object) -> str:
    """What something is, for a sentence: `None`, `a list`."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _digest(item: Any) -> str:
    """The sha256 of a file's bytes or an array's values; empty where there is none."""
    try:
        if isinstance(item, bytes | bytearray | memoryview):
            return sha256(item).hexdigest()
        if isinstance(item, str | os.PathLike):
            return sha256(_file(item)).hexdigest()
        if isinstance(item, Image.Image):
            with _loading:
                item.load()
        return array_sha256(np.asarray(item))
    except Exception:  # noqa: BLE001 - `image` will say so
        return ""
