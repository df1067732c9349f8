"""A linear probe in closed form: regularised least squares on features scaled to length 1.

    probe = Probe.fit(similarity, y)
    predicted = probe.predict(similarity_of_held_rows)

References
----------
Rifkin and Lippert, Notes on regularized least squares, MIT-CSAIL-TR-2007-025: all
leave-one-out errors for every penalty, from one eigendecomposition.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

PENALTIES = np.geomspace(1e-6, 1e2, 33)  # in units of the mean eigenvalue

TINY = 1e-12  # of what a row leaves to the others: below it only rounding is left

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes
    ----------
    classes : (n_classes,) class numbers
    dual : (n, n_classes) coefficients of the train rows
    offset : (n_classes,)
    mean : (n,) mean similarity of the train rows to each of them
    """

    classes: NDArray[Any]
    dual: Array
    offset: Array
    mean: Array

    @classmethod
    def fit(cls, similarity: Array, y: NDArray[Any]) -> Self:
        """Fit on (n, n) inner products of train rows and (n,) labels.

        The penalty is that of the least squared leave-one-out error.
        """
        n = len(y)
        classes = np.unique(y)
        targets = (y[:, None] == classes).astype(np.float64)  # (n, n_classes)
        offset, mean = targets.mean(axis=0), similarity.mean(axis=0)
        values, vectors = eigh(similarity - mean - mean[:, None] + mean.mean())
        values = np.maximum(values, 0)
        coordinates = vectors.T @ (targets - offset)

        penalties = PENALTIES * (values.mean() or 1.0)
        kept = values[:, None] / (values[:, None] + penalties)  # (n, penalties)
        leverage = vectors**2 @ kept + 1 / n  # (n, penalties)
        residuals = (targets - offset - vectors @ (share[:, None] * coordinates) for share in kept.T)
        left_out = [  # sum over rows of the squared error of each, predicted without itself
            ((each / np.maximum(1 - own, TINY)[:, None]) ** 2).sum()
            for each, own in zip(residuals, leverage.T, strict=True)
        ]
        penalty = penalties[np.argmin(left_out)]
        return cls(classes, vectors @ (coordinates / (values + penalty)[:, None]), offset, mean)

    def predict(self, similarity: Array) -> NDArray[Any]:
        """Class numbers (m,) of held rows from their inner products with the train rows, (m, n)."""
        # Of the centring, what is the same for every row has no effect: the duals sum to zero
        scores = (similarity - self.mean) @ self.dual + self.offset
        return np.asarray(self.classes[scores.argmax(axis=1)])
