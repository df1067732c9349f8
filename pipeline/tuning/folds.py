"""Which rows tuning fits and which it scores: the validation split, or folds of cross-validation.

Test rows are in none of them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from features.errors import BadInput
from features.manifest import Manifest
from features.store import FeatureStore
from pipeline.datasets.splits import units


class Rows(NamedTuple):
    """Features of some images and their class numbers (n,).

    Features are (n, d), or (n, k, d) for k views; a float32 array, or a dask array where
    they do not fit memory. What belongs together has the same `unit`, (n,): copies of an image,
    and images of one group.
    """

    X: Any
    y: NDArray[np.int32]
    unit: NDArray[np.intp]

    @property
    def views(self) -> int:
        """Views per image."""
        return 1 if self.X.ndim == 2 else int(self.X.shape[1])

    def flat(self) -> "Rows":
        """One row per view, (n × k, d) and (n × k,), the views of an image adjacent."""
        X = self.X.reshape(-1, self.X.shape[-1])
        return Rows(X, self.y.repeat(self.views), self.unit.repeat(self.views))

    def take(self, numbers: NDArray[np.intp]) -> "Rows":
        """Some of them."""
        return Rows(self.X[numbers], self.y[numbers], self.unit[numbers])


def rows_of(
    store: FeatureStore | None, manifest: Manifest, splits: Sequence[str], memory_gb: float = math.inf
) -> Rows:
    """Read features of some splits, of all views; a head without a layer sees a single constant.

    Those that would take more than `memory_gb` 10⁹ bytes are a dask array, read when it is needed.
    """
    numbers = np.sort(np.concatenate([manifest.where(split) for split in splits]))
    labels, together = manifest.labels[numbers], units(manifest.rows)[numbers]
    if store is None:
        return Rows(np.zeros((len(numbers), 1), np.float32), labels, together)
    size = 4 * len(numbers) * math.prod(store.features.shape[1:])  # float32
    X = store.rows(numbers) if size <= 1e9 * memory_gb else store.lazy_rows(numbers)
    return Rows(X, labels, together)


class Fold(NamedTuple):
    """Rows to fit on, and rows to score."""

    train: Rows
    held: Rows


@dataclass(frozen=True)
class CrossValidation:
    """Repeated stratified k-fold: every row is scored once in each repeat; units stay together."""

    rows: Rows
    folds: int
    repeats: int
    seed: int

    def check(self, classes: Sequence[str]) -> None:
        """Raise BadInput where a class has too few images to be in every fold's train rows."""
        for number, name in enumerate(classes):
            units = len(np.unique(self.rows.unit[self.rows.y == number]))
            if units < self.folds:
                raise BadInput(
                    f"tuning.folds is {self.folds}, but class {name!r} has {units} "
                    f"image{'s' if units != 1 else ''} in train and validation that may be parted; "
                    f"{'lower tuning.folds' if units > 1 else 'add images of it'} or set tuning.protocol to "
                    "validation"
                )

    def check_nested(self, classes: Sequence[str]) -> None:
        """Raise BadInput where an outer fold leaves a class too few images for the folds within it."""
        self.check(classes)
        for train, _ in self._cuts():
            for number, name in enumerate(classes):
                of_class = self.rows.y == number
                left = len(np.unique(self.rows.unit[train][of_class[train]]))
                if left < self.folds:
                    units = len(np.unique(self.rows.unit[of_class]))
                    raise BadInput(
                        f"tuning.protocol is nested: of class {name!r}, with {units} images in train and "
                        f"validation that may be parted, an outer fold leaves {left}, too few for "
                        f"{self.folds} folds within it; set tuning.protocol to cross-validation or "
                        "validation, or add images"
                    )

    def __iter__(self) -> Iterator[Fold]:
        for train, held in self._cuts():
            yield Fold(self.rows.take(train), self.rows.take(held))

    def _cuts(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Row numbers to fit on, and to score."""
        for repeat in range(self.repeats):
            cut = StratifiedGroupKFold(self.folds, shuffle=True, random_state=self.seed + repeat)
            yield from cut.split(np.zeros(len(self.rows.y)), self.rows.y, self.rows.unit)
