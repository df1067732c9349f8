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

        def left_out(penalty: float) -> float:
            """Squared error of all rows, each predicted without itself."""
            kept = values / (values + penalty)
            leverage = (vectors**2 * kept).sum(axis=1) + 1 / n
            residuals = targets - offset - vectors @ (kept[:, None] * coordinates)
            return float(((residuals / np.maximum(1 - leverage, 1e-12)[:, None]) ** 2).sum())

        penalty = min(PENALTIES * (values.mean() or 1.0), key=left_out)
        return cls(classes, vectors @ (coordinates / (values + penalty)[:, None]), offset, mean)

    def predict(self, similarity: Array) -> NDArray[Any]:
        """Class numbers (m,) of held rows from their inner products with the train rows, (m, n)."""
        # Of the centring, what is the same for every row has no effect: the duals sum to zero
        scores = (similarity - self.mean) @ self.dual + self.offset
        return np.asarray(self.classes[scores.argmax(axis=1)])
