"""What cached features say of the labels, layer by layer, on one sample of rows.

    drawn = sample(manifest, widest=25088, memory_gb=4)
    evidence(store, drawn).probe          # accuracy on validation rows, with its interval

Of train rows, and validation rows where something has to be scored on rows that it was not
fitted on. Test rows are not read. Of several views of an image the first counts, the image as it is.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import NoAdvice
from features.manifest import Manifest
from features.positions import Positions
from features.store import FeatureStore
from pipeline.advice import transferability
from pipeline.advice.linear_probe import Probe
from pipeline.datasets.splits import units
from pipeline.statistics.metrics import Interval, accuracy

ROWS = 2000  # of each split, at most: what grows with their cube then takes seconds
ENOUGH = 100  # rows; of fewer, where there are more, nothing worth saying can be said
SEED = 0  # of the sample


@dataclass(frozen=True)
class Sample:
    """Row numbers of train and validation rows, ascending, and what is known of all rows.

    Attributes
    ----------
    y, unit : (n_images,) class numbers, and numbers of what must not be parted
    """

    train: Positions
    held: Positions
    y: NDArray[np.int32]
    unit: NDArray[np.intp]

    @property
    def chance(self) -> float:
        """Accuracy on the held rows of always answering the most frequent class of the train rows."""
        return float((self.y[self.held] == np.bincount(self.y[self.train]).argmax()).mean())


@dataclass(frozen=True)
class Evidence:
    """One layer's scores (see `pipeline.advice.transferability`).

    Attributes
    ----------
    weights : str
        What the layer is computed with: `imagenet`, `untrained`, `random`, `file`, `none`.
    five : float
        Leave-one-out accuracy of a vote of the five nearest train rows.
    probe : Interval
        Accuracy on held rows of a closed-form linear probe.
    """

    layer: str
    weights: str
    width: int
    five: float
    probe: Interval
    logme: float

    @property
    def trained(self) -> bool:
        """Whether the layer's weights were trained on images."""
        return self.weights in ("imagenet", "file")

    @property
    def best(self) -> float:
        """Accuracy of the better of probe and five nearest neighbours."""
        return max(self.probe.value, self.five)


def sample(manifest: Manifest, widest: int, memory_gb: float) -> Sample:
    """Draw the rows that every layer is looked at on, at most `ROWS` of each split.

    Parameters
    ----------
    widest : int
        Columns of the widest layer, of which both parts have to fit into `memory_gb` 10⁹ bytes.

    Raises
    ------
    NoAdvice
        Where the train rows are of one class, or hardly any row fits.
    """
    train, held = manifest.where("train"), manifest.where("validation")
    if len(np.unique(manifest.labels[train])) < 2:
        raise NoAdvice(f"all train images are of the class {manifest.classes[manifest.labels[train[0]]]!r}; "
                       "add images of another one")  # fmt: skip
    most = min(ROWS, int(1e9 * memory_gb / (2 * 4 * widest)))  # float32
    if most < min(ENOUGH, len(train)):
        raise NoAdvice(
            f"of a layer of {widest:,} numbers only {most} images fit tuning.memory_gb = {memory_gb:g}; "
            "raise that, or take a narrower layer into extract.layers, such as pool5:avg"
        )
    draw = np.random.default_rng(SEED)
    train, held = (np.sort(draw.permutation(rows)[:most]) for rows in (train, held))
    return Sample(train, held, manifest.labels, units(manifest.rows))


def evidence(store: FeatureStore, drawn: Sample) -> Evidence:
    """Score one layer's features."""
    X, held = store.rows(drawn.train, view=0), store.rows(drawn.held, view=0)  # (n, d), (m, d)
    y = drawn.y[drawn.train]
    products = transferability.gram(X)
    squares = np.diag(products)
    near = transferability.cosines(products, squares, squares)
    across = transferability.cosines(transferability.gram(held, X), _squared_lengths(held), squares)
    unit = drawn.unit[drawn.train]
    return Evidence(
        str(store.attributes["layer"]),
        str(store.attributes["weights"]),
        X.shape[1],
        transferability.neighbour_accuracy(near, y, unit, 5),
        accuracy(Probe.fit(near, y).predict(across) == drawn.y[drawn.held]),
        transferability.logme(products, y),
    )


def _squared_lengths(X: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.einsum("ij,ij->i", X, X, dtype=np.float64))
