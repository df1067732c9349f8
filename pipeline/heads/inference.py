"""A saved head applied with NumPy alone.

    head = open_head(Path("artifacts/heads/logreg/pool5.logreg"))
    proba = head.predict_proba(X)

Scoring takes a product or two. The estimators that were trained need scikit-learn and torch, whose
import takes longer than everything else that one prediction does: only heads that are more than
products (rbf-svm, knn) are opened as such.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.saved import as_saved_head, read_saved

Arrays = Mapping[str, NDArray[Any]]


class SavedHead(Protocol):
    """What `open_head` gives: a `pipeline.heads.classifier.Classifier`, or something that scores as one."""

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the probabilities' columns."""

    @property
    def normalisation(self) -> Callable[[Any], Any]:
        """What is done to features first, (…, d) float32."""

    def predict_proba(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probabilities (n, n_classes) of features (n, d), or (n, k, d) in k views."""


@dataclass(frozen=True)
class AppliedHead:
    """A head whose scores are products (see `SavedHead`)."""

    classes: tuple[str, ...]
    normalisation: Callable[[Any], Any]
    scores: Callable[[Any], Any]
    temperature: float

    def predict_proba(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """See `SavedHead`."""
        logits = np.asarray(self.scores(self.normalisation(X)), np.float64) / self.temperature
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        proba = odds / odds.sum(axis=-1, keepdims=True)
        return np.asarray(proba if proba.ndim == 2 else proba.mean(axis=1))


def open_head(folder: Path) -> SavedHead:
    """Open what `Classifier.save` wrote.

    Raises
    ------
    BadInput
        For another schema version, and for files that are damaged.
    """
    saved = read_saved(folder)
    card = saved.card
    if card["head"] not in FORMULAS:
        from pipeline.heads.classifier import Classifier  # noqa: PLC0415 - scikit-learn and torch

        return Classifier.of(saved, folder)
    with as_saved_head(folder):
        return AppliedHead(
            tuple(card["classes"]),
            _normalisation(card["normalisation"], saved.normalisation),
            FORMULAS[card["head"]](saved.head),
            float(card["temperature"]),
        )


def _normalisation(kind: str, arrays: Arrays) -> Callable[[Any], Any]:
    """As `pipeline.heads.normalisation.Normalisation` does it."""
    if kind == "standard":
        return partial(_standardised, arrays["mean"], arrays["scale"])
    return to_unit_length if kind == "l2" else np.asarray


def _standardised(mean: NDArray[Any], scale: NDArray[Any], X: Any) -> Any:
    return (X - mean) / scale


def to_unit_length(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (…, d) at length 1; a row of zeros stays one."""
    lengths = np.sqrt(np.einsum("...i,...i->...", X, X))[..., None]
    return np.asarray(X / np.where(lengths > 0, lengths, 1))


# Functions with what they need, and no closures: these can be pickled


def _linear(a: Arrays) -> Callable[[Any], Any]:
    return partial(_product, a["coef_"].T.astype(np.float32), a["intercept_"].astype(np.float32))


def _product(coef: NDArray[Any], intercept: NDArray[Any], X: Any) -> Any:
    return X @ coef + intercept


def _mlp(a: Arrays) -> Callable[[Any], Any]:
    hidden, output = (a["hidden_coef_"], a["hidden_intercept_"]), (a["output_coef_"], a["output_intercept_"])
    return partial(_perceptron, hidden, output)


def _perceptron(hidden: tuple[Any, Any], output: tuple[Any, Any], X: Any) -> Any:
    return _product(*output, np.maximum(_product(*hidden, X), 0))


def _majority(a: Arrays) -> Callable[[Any], Any]:
    return partial(_same_for_all, np.log(a["shares_"]))


def _same_for_all(logits: NDArray[Any], X: Any) -> Any:
    return np.broadcast_to(logits, (*X.shape[:-1], len(logits)))


FORMULAS = {"logreg": _linear, "linear-svm": _linear, "mlp": _mlp, "majority": _majority}
