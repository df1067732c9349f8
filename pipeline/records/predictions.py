"""What a method says of the test rows: the only thing a comparison looks at."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput
from features.files import naming, of_machine, written_aside
from features.manifest import Manifest


@dataclass(frozen=True)
class Predictions:
    """Calibrated probabilities of one split's rows, in manifest order.

    Attributes
    ----------
    id : (n,) str
    label : (n,) int32, positions in `classes`
    proba : (n, n_classes) float32
    classes : (n_classes,) str
    """

    id: NDArray[np.str_]
    label: NDArray[np.int32]
    proba: NDArray[np.float32]
    classes: NDArray[np.str_]

    @classmethod
    def of(cls, manifest: Manifest, split: str, proba: NDArray[Any]) -> "Predictions":
        """Join probabilities with the manifest's rows of one split."""
        numbers = manifest.where(split)
        ids = np.array([manifest.rows[number].id for number in numbers])
        return cls(ids, manifest.labels[numbers], proba.astype(np.float32), np.array(manifest.classes))

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which rows the most probable class is right for, (n,)."""
        return np.asarray(self.proba.argmax(axis=1) == self.label)

    def write(self, path: Path) -> None:
        """Write an .npz file that opens without pickle."""
        with written_aside(path) as aside, aside.open("wb") as file:
            np.savez_compressed(file, **vars(self))

    @classmethod
    def read(cls, path: Path) -> "Predictions":
        """Read an .npz file; never unpickles. BadInput where it is damaged."""
        try:
            with naming(path), np.load(path, allow_pickle=False) as content:
                return cls(content["id"], content["label"], content["proba"], content["classes"])
        except (OSError, ValueError, KeyError) as error:
            if of_machine(error):
                raise
            raise BadInput(f"{path} is no predictions file ({error}); train that method again") from error
