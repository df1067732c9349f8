"""Data sets that come as arrays: one numbered name per image, and scikit-learn's digits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.images import ImageArrays
from pipeline.datasets.base import Found, Listing


@dataclass(frozen=True)
class Part:
    """Images of a data set that belong to one given split, or to none.

    Attributes
    ----------
    folder : str
        First half of the images' names, `<folder>/<number>`.
    images : (n_images, H, W) or (n_images, H, W, 3) uint8
    labels : (n_images,) integers, positions in `classes`
    split : str
        A given split, or empty.
    digits : int
        Width of the numbers, padded with zeros so that names sort as numbers do.
    """

    folder: str
    images: NDArray[np.uint8]
    labels: NDArray[np.integer]
    classes: tuple[str, ...]
    split: str = ""
    digits: int = 5

    @property
    def names(self) -> list[str]:
        """`train/00000`, …, one per image."""
        return [f"{self.folder}/{number:0{self.digits}}" for number in range(len(self.images))]


def source(parts: list[Part]) -> ImageArrays:
    """The images by name."""
    named = (pair for part in parts for pair in zip(part.names, part.images, strict=True))
    return ImageArrays(dict(named))


def listing(parts: list[Part]) -> Listing:
    """The images with their labels and splits."""
    found = [
        Found(name, part.classes[label], part.split)
        for part in parts
        for name, label in zip(part.names, part.labels.tolist(), strict=True)
    ]
    return Listing(source(parts), found, [], frozenset(part.split for part in parts) - {""})


def digits(root: Path, download: bool) -> list[Part]:
    """scikit-learn's test part of the UCI optical digits: 1,797 images of 8 × 8, 17 grey levels."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - slow to import

    content = load_digits()
    images = np.rint(content.images * (255 / 16)).astype(np.uint8)
    return [Part("digits", images, content.target, tuple("0123456789"), digits=4)]
