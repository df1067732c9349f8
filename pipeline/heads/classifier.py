"""A tuned head, whole: normalisation, head, temperature. Saved as arrays and a JSON card.

classifier = Classifier.load(Path("artifacts/heads/logreg/pool5.logreg"))
proba = classifier.predict_proba(X)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.files import save_tensors
from features.immutable import seal
from pipeline.heads import HEADS, name_of
from pipeline.heads.base import Head
from pipeline.heads.normalisation import Normalisation
from pipeline.heads.saved import ARRAYS, CARD, SCHEMA, Saved, as_saved_head, read_saved
from pipeline.statistics.calibration import calibrated


@dataclass(frozen=True)
class Classifier:
    """From raw features of one layer to calibrated probabilities."""

    normalisation: Normalisation
    head: Head
    temperature: float
    classes: tuple[str, ...]

    def predict_proba(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Map float32 features to (n, n_classes) calibrated probabilities.

        Parameters
        ----------
        X : (n, d), or (n, k, d) for k views of each image, over which probabilities are averaged
        """
        return calibrated(self.scores(X), self.temperature)

    def scores(self, X: NDArray[np.float32]) -> NDArray[Any]:
        """Map features to the head's scores, (n, n_classes) or (n, k, n_classes), not calibrated."""
        return self.head.logits_by_view(self.normalisation(X))

    def save(self, folder: Path, card: Mapping[str, Any]) -> None:
        """Write `head.safetensors` and `card.json`, sealed; nothing in them is ever executed.

        What else lies in the folder by then is vouched for, too.
        """
        arrays = {f"head.{key}": value for key, value in self.head.arrays().items()}
        arrays |= {f"normalisation.{key}": value for key, value in self.normalisation.arrays().items()}
        save_tensors(arrays, folder / ARRAYS)
        seal(folder, CARD, self.card(card))

    def card(self, card: Mapping[str, Any]) -> dict[str, Any]:
        """What `save` writes into the card: what is needed to open it again, and all that is given."""
        return {
            "schema": SCHEMA,
            "head": name_of(self.head),
            "hyper_parameters": self.head.get_params(),
            "normalisation": self.normalisation.kind,
            "temperature": self.temperature,
            "classes": list(self.classes),
            **card,
        }

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """Read what `save` wrote.

        Raises
        ------
        BadInput
            For another schema version, and for files that are damaged.
        """
        return cls.of(read_saved(folder), folder)

    @classmethod
    def of(cls, saved: Saved, folder: Path) -> "Classifier":
        """Restore what was read; BadInput where the arrays are not those of its head."""
        card = saved.card
        with as_saved_head(folder):
            head = HEADS[card["head"]](**card["hyper_parameters"])
            head.restore(saved.head, range(len(card["classes"])))
            normalisation = Normalisation(card["normalisation"]).restore(saved.normalisation)
            return cls(normalisation, head, float(card["temperature"]), tuple(card["classes"]))
