"""CIFAR-10: the binary or the Python version, unpacked or still in the archive they are published in.

A record of the binary version is a label and 3 × 32 × 32 bytes: the red, the
green and the blue plane. A file of the Python version is a pickle, and a pickle
can run code: one is read only if it is, to the byte, a file that torchvision
knows by its md5, and then by an unpickler that makes NumPy arrays and nothing
else. Archives are read where they lie; nothing is unpacked.

References
----------
Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009,
https://www.cs.toronto.edu/~kriz/cifar.html
"""

import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput
from pipeline.datasets.arrays import Part
from pipeline.datasets.published import DOWNLOAD, obtain

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
NAMES = (*BATCHES["train"], *BATCHES["test"])
RECORD = 1 + 3 * 32 * 32  # bytes of the binary version
MAX_BYTES = 1 << 26  # of a file in an archive: twice a published one

# What is downloaded, and its md5
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
URL_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
# Of the Python version's files, as torchvision lists them
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}

Batch = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # images (n, 3, 32, 32), labels (n,)


@dataclass(frozen=True)
class Version:
    """A published form of the set; `decode` takes a file's content and its name without suffix."""

    folder: str
    archive: str
    suffix: str
    decode: Callable[[bytes, str], Batch]


def decode_binary(content: bytes, name: str) -> Batch:
    """Read a file of the binary version; ValueError where it is not one."""
    if not content or len(content) % RECORD:
        raise ValueError(f"{len(content):,} bytes are not a whole number of records of {RECORD:,}")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0]
    if labels.max() >= len(CLASSES):
        raise ValueError(f"it holds the label {labels.max()}, and CIFAR-10's end at {len(CLASSES) - 1}")
    return records[:, 1:].reshape(-1, 3, 32, 32), labels


def decode_python(content: bytes, name: str) -> Batch:
    """Read a file of the Python version; ValueError, before it is looked into, where its md5 is another."""
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != MD5[name]:
        raise ValueError(
            f"its md5 is {found} and the published one {MD5[name]}: other pickles are not opened, "
            "since they can run code"
        )
    batch = ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    return batch["data"].reshape(-1, 3, 32, 32), np.array(batch["labels"], np.uint8)


class ArrayUnpickler(pickle.Unpickler):
    """Makes NumPy arrays, numbers, text, lists and dictionaries, and calls nothing else."""

    ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],  # it moved in NumPy 2
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up among those allowed; ValueError for any other."""
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise ValueError(f"it asks for {module}.{name}, which no array needs") from None


BINARY = Version("cifar-10-batches-bin", "cifar-10-binary.tar.gz", ".bin", decode_binary)
PYTHON = Version("cifar-10-batches-py", "cifar-10-python.tar.gz", "", decode_python)


def read(root: Path, download: bool) -> list[Part]:
    """Read the train and the test part.

    Raises
    ------
    BadInput
        Files are missing and may not or cannot be downloaded, or are damaged;
        or the Python version's are not the published ones.
    """
    found = _find(root)
    if not found and download:
        found = BINARY, obtain([URL], URL_MD5, root)
    if not found:
        raise BadInput(
            f"cifar10: there is no {BINARY.folder}, {BINARY.archive}, {PYTHON.folder} or {PYTHON.archive} "
            f"with all of {', '.join(NAMES)} in {root}; put one of them there, or {DOWNLOAD}"
        )
    version, place = found
    batches = {name: _decoded(version, place, name, data) for name, data in _contents(version, place)}
    lacking = ", ".join(name for name in NAMES if name not in batches)
    if lacking:
        raise BadInput(f"{place} lacks {lacking}; delete it and {DOWNLOAD}")
    return [_part(split, [batches[name] for name in names]) for split, names in BATCHES.items()]


def _find(root: Path) -> tuple[Version, Path] | None:
    """The folder or the archive to read; the version that runs no code first."""
    for version in (BINARY, PYTHON):
        for folder in (root / version.folder, root):
            if all((folder / f"{name}{version.suffix}").is_file() for name in NAMES):
                return version, folder
        if (root / version.archive).is_file():
            return version, root / version.archive
    return None


def _contents(version: Version, place: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the batches in a folder or in an archive."""
    if place.is_dir():
        for name in NAMES:
            yield name, (place / f"{name}{version.suffix}").read_bytes()
        return
    wanted = {f"{version.folder}/{name}{version.suffix}": name for name in NAMES}
    try:
        with tarfile.open(place, "r|gz") as archive:  # a stream: read once, front to back
            for member in archive:
                if member.name in wanted and member.isfile() and member.size <= MAX_BYTES:
                    content = archive.extractfile(member)
                    yield wanted[member.name], content.read() if content else b""
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BadInput(f"{place} is damaged ({error}); delete it and {DOWNLOAD}") from error


def _decoded(version: Version, place: Path, name: str, content: bytes) -> Batch:
    try:
        return version.decode(content, name)
    except ValueError as error:
        raise BadInput(
            f"{place / name}{version.suffix}: {error}; replace it by the published file, "
            f"or delete it and {DOWNLOAD}"
        ) from error


def _part(split: str, batches: Sequence[Batch]) -> Part:
    images = np.concatenate([images for images, _ in batches])  # (n, 3, 32, 32)
    labels = np.concatenate([labels for _, labels in batches])
    return Part(split, np.ascontiguousarray(images.transpose(0, 2, 3, 1)), labels, CLASSES, split)
