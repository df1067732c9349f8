"""The data sets by name: where images, labels and given splits come from.

    listed = listing("mnist", Path("data"))    # images, labels, splits, problems: for `prepare`
    images = source("mnist", Path("data"))     # the images alone: for `extract`

A data set either lies in a folder as image files (`folder`, `csv`) or comes as
arrays in a few files (`mnist`, …); arrays are never exploded into files.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from features.images import ImageArrays, ImageFolder
from pipeline.datasets import arrays, cifar, folder, mnist, table
from pipeline.datasets.base import Listing
from pipeline.params import ARRAYS

READERS: dict[str, Callable[[Path, bool], list[arrays.Part]]] = {
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
        As in `pipeline.params.AUTO_SIZE`.
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
        return arrays.listing(READERS[name](root, download))
    return table.listing(root, csv) if name == "csv" else folder.listing(root)


def source(name: str, root: Path) -> ImageFolder | ImageArrays:
    """Where the images of a manifest are read from; never downloads (see `listing`)."""
    return arrays.source(READERS[name](root, False)) if name in ARRAYS else ImageFolder(root)
