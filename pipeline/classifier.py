"""A tuned head, whole: normalisation, head, temperature. Saved as arrays and a JSON card.

classifier = Classifier.load(Path("artifacts/heads/logreg/pool5.logreg"))
proba = classifier.predict_proba(X)
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from features.errors import BadInput
from features.files import load_tensors, of_machine, read_text, save_tensors
from pipeline.applied import SCHEMA
from pipeline.calibration import calibrated
from pipeline.heads import HEADS
from pipeline.heads.base import Head
from pipeline.heads.normalisation import Normalisation


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
        """Write `head.safetensors` and `card.json`; nothing in them is ever executed."""
        name = next(name for name, head in HEADS.items() if type(self.head) is head)
        arrays = {f"head.{key}": value for key, value in self.head.arrays().items()}
        arrays |= {f"normalisation.{key}": value for key, value in self.normalisation.arrays().items()}
        save_tensors(arrays, folder / "head.safetensors")
        content = {
            "schema": SCHEMA,
            "head": name,
            "hyper_parameters": self.head.get_params(),
            "normalisation": self.normalisation.kind,
            "temperature": self.temperature,
            "classes": list(self.classes),
            **card,
        }
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (folder / "card.json").write_text(text + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """Read what `save` wrote.

        Raises
        ------
        BadInput
            For another schema version, and for files that are damaged.
        """
        try:
            card = json.loads(read_text(folder / "card.json"))
            if card["schema"] != SCHEMA:
                raise BadInput(
                    f"{folder} has schema {card['schema']}, this version reads {SCHEMA}; train it again"
                )
            arrays = load_tensors(folder / "head.safetensors")
            parts: dict[str, dict[str, NDArray[Any]]] = {"head": {}, "normalisation": {}}
            for key, value in arrays.items():
                part, _, name = key.partition(".")
                parts[part][name] = value
            head = HEADS[card["head"]](**card["hyper_parameters"])
            head.restore(parts["head"], range(len(card["classes"])))
            normalisation = Normalisation(card["normalisation"]).restore(parts["normalisation"])
        except (OSError, KeyError, TypeError, json.JSONDecodeError, SafetensorError) as error:
            if of_machine(error):
                raise
            raise BadInput(f"{folder} holds no saved head ({error}); train it again") from error
        return cls(normalisation, head, float(card["temperature"]), tuple(card["classes"]))
