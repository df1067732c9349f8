"""MNIST and Fashion-MNIST: four idx files, gzip or not, where torchvision puts them or in the root itself.

An idx file is two zero bytes, the type (8 is uint8), the number of dimensions,
each dimension as a big-endian uint32, and then the values, C order.

References
----------
LeCun, Cortes, Burges: The MNIST database, http://yann.lecun.com/exdb/mnist/
Xiao, Rasul, Vollgraf: https://github.com/zalandoresearch/fashion-mnist
"""

import gzip
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.download import md5_file
from features.errors import BadInput
from features.images import MIN_SIDE
from pipeline.datasets.arrays import Part
from pipeline.datasets.published import DOWNLOAD, obtain

MAX_BYTES = 1 << 30  # twenty times MNIST: a header that claims more is damaged, and not to be believed


@dataclass(frozen=True)
class IdxSet:
    """A published set of idx files; `md5` is of the gzip files, as torchvision lists it."""

    name: str
    folder: str
    mirrors: tuple[str, ...]
    md5: Mapping[str, str]
    classes: tuple[str, ...]


MNIST = IdxSet(
    name="mnist",
    folder="MNIST/raw",
    mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
    md5={
        "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    classes=tuple("0123456789"),
)
FASHION = IdxSet(
    name="fashion-mnist",
    folder="FashionMNIST/raw",
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    md5={
        "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    classes=(
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
)  # fmt: skip


# Both sets name their files alike: a packed file is known by its md5
KNOWN = {md5: f"{name}.gz of {which.name}" for which in (MNIST, FASHION) for name, md5 in which.md5.items()}


def read(which: IdxSet, root: Path, download: bool) -> list[Part]:
    """Read the train and the test part.

    Raises
    ------
    BadInput
        Files are missing and may not or cannot be downloaded, are damaged, or
        do not fit each other.
    """
    files = _files(which, root, download)
    for name, file in files.items():
        known = KNOWN.get(md5_file(file), "") if file.suffix == ".gz" else ""
        if known and known != f"{name}.gz of {which.name}":
            raise BadInput(f"{file} is in truth {known}; replace it by {name}.gz of {which.name}")
    return [_part(which, files, split, stem) for split, stem in (("train", "train"), ("test", "t10k"))]


def _files(which: IdxSet, root: Path, download: bool) -> dict[str, Path]:
    """The four files by name, all of one folder: two sets are never mixed."""
    folders = (root / which.folder, root)
    files = max((_found(which, folder) for folder in folders), key=len)
    lacking = [name for name in which.md5 if name not in files]
    if not lacking:
        return files
    if not download:
        raise BadInput(
            f"{which.name}: {', '.join(lacking)} (or with .gz) not found in {folders[0]} or {root}; "
            f"put all four files into one of these, or {DOWNLOAD}"
        )
    files = _found(which, folders[0])
    for name in which.md5.keys() - files.keys():
        urls = [f"{mirror}{name}.gz" for mirror in which.mirrors]
        files[name] = obtain(urls, which.md5[name], folders[0])
    return files


def _found(which: IdxSet, folder: Path) -> dict[str, Path]:
    """Those of the four files that are in a folder; an unpacked one goes before a packed one."""
    places = ((name, folder / f"{name}{suffix}") for name in which.md5 for suffix in (".gz", ""))
    return {name: file for name, file in places if file.is_file()}


def _part(which: IdxSet, files: Mapping[str, Path], split: str, stem: str) -> Part:
    images_file, labels_file = files[f"{stem}-images-idx3-ubyte"], files[f"{stem}-labels-idx1-ubyte"]
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    if len(images) != len(labels):
        raise BadInput(
            f"{images_file} holds {len(images)} images and {labels_file} {len(labels)} labels; "
            "replace both by the published files of one set"
        )
    if labels.max() >= len(which.classes):
        raise BadInput(
            f"{labels_file} holds the label {labels.max()}, and those of {which.name} end at "
            f"{len(which.classes) - 1}; replace it by the published file"
        )
    return Part(split, images, labels, which.classes, split)


def read_idx(file: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an idx file of bytes, gzip where its name ends in `.gz`.

    Returns
    -------
    Array of uint8 with `dimensions` dimensions, not writable

    Raises
    ------
    BadInput
        It is not such a file, or not exactly as long as its header says.
    """
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
            shape = _shape(opened.read(4 + 4 * dimensions), dimensions)
            announced = math.prod(shape)
            values = opened.read(announced + 1)  # one more, to notice that there is more
        if len(values) != announced:
            follow = "more" if len(values) > announced else f"{len(values):,}"
            raise ValueError(f"its header announces {announced:,} values and {follow} follow")
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(
            f"{file} is damaged or no idx file ({error}); replace it by the published file, "
            f"or delete it and {DOWNLOAD}"
        ) from error
    return np.frombuffer(values, np.uint8).reshape(shape)


def _shape(header: bytes, dimensions: int) -> tuple[int, ...]:
    """The dimensions that a header announces; ValueError where it is not that of an idx file of bytes."""
    magic = bytes([0, 0, 8, dimensions])  # 8: uint8
    if header[:4] != magic:
        raise ValueError(
            f"it should begin with {magic.hex()} and begins with {header[:4].hex() or 'nothing'}"
        )
    if len(header) < 4 + 4 * dimensions:
        raise ValueError("it ends within its header")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    if shape[0] < 1 or min(shape[1:], default=MIN_SIDE) < MIN_SIDE or math.prod(shape) > MAX_BYTES:
        raise ValueError(f"its header announces {' × '.join(map(str, shape))} values")
    return shape
