"""The data sets: where images, labels and given splits come from.

    listed = listing("mnist", Path("data"))    # images, labels, splits, problems: for `prepare`
    images = source("mnist", Path("data"))     # the images alone: for `extract`

A data set either lies in a folder as image files (`folder`, `csv`) or comes as
arrays in a few files (`mnist`, …); arrays are never exploded into files.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from features.images import ImageArrays, ImageFolder
from features.network import Size
from pipeline.datasets import arrays, cifar, folder, mnist, table
from pipeline.datasets.base import Found, Listing, Problem

__all__ = ["AUTO_SIZE", "Found", "Listing", "Problem", "listing", "source"]

# What `extract.image_size: auto` means. 224: the VGG paper's. 48 for 8 × 8 digits: a whole run with a
# fine-tuned baseline within minutes on two cores. 32: CIFAR-10's own size, and the network's smallest.
AUTO_SIZE: dict[str, Size] = {
    "digits": (48, 48),
    "mnist": (32, 32),
    "fashion-mnist": (32, 32),
    "cifar10": (32, 32),
    "folder": (224, 224),
    "csv": (224, 224),
}

ARRAYS: dict[str, Callable[[Path, bool], list[arrays.Part]]] = {
    "digits": arrays.digits,
    "mnist": partial(mnist.read, mnist.MNIST),
    "fashion-mnist": partial(mnist.read, mnist.FASHION),
    "cifar10": cifar.read,
}


def listing(name: str, root: Path, *, csv: str = "", download: bool = False) -> Listing:
    """List a data set's images.

    Parameters
    ----------
    name : str
        A key of `AUTO_SIZE`.
    root : Path
        The folder in which the data set lies, or is downloaded to.
    csv : str
        The table's name below `root`; read for `csv` only.
    download : bool
        Whether missing files of a published set may be downloaded.

    Raises
    ------
    BadInput
        Where there are no images, or files are missing or damaged.
    """
    if name in ARRAYS:
        return arrays.listing(ARRAYS[name](root, download))
    return table.listing(root, csv) if name == "csv" else folder.listing(root)


def source(name: str, root: Path) -> ImageFolder | ImageArrays:
    """Where the images of a manifest are read from; never downloads (see `listing`)."""
    return arrays.source(ARRAYS[name](root, False)) if name in ARRAYS else ImageFolder(root)
