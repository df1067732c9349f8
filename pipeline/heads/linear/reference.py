"""The same minimum from SciPy, one C at a time: the solver is held against it, and can fall back to it.

coef, intercept = minimum(X, y, C=1.0, loss="softmax")    # scores are X @ coef.T + intercept

Nothing here is shared with the rest of the room: no path, no dual, no certificate, float64 throughout. A
doubtful head can be checked by it, and `path.solve` be replaced by a loop over it, where time does not
matter. It takes 50 times as long for the softmax and 46 times for the hinge (processor time of one core,
300 × 1,024 rows of the stand-in of `benchmarks.cached`, 10 classes, 15 values of C from 1e-4 to 1e3), and
finds minima to some 1e-12 of F.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

Array = NDArray[np.float64]


def minimum(
    X: NDArray[Any],
    y: NDArray[Any],
    C: float,
    loss: Literal["softmax", "squared hinge"],
    weights: Array | None = None,
) -> tuple[Array, Array]:
    """Minimise ½‖W‖² + C Σ loss by L-BFGS: coefficients (k, d) and intercepts (k,).

    Parameters
    ----------
    X : (n, d), cast to float64
    y : (n,) class numbers, each of which is there
    loss : str
        The softmax's intercept is free, and the hinge's penalised; of two classes the hinge has one column,
        k = 1, for the second.
    weights : (n,)
        What each row's loss counts; 1 by default.
    """
    X, hinge = X.astype(np.float64), loss == "squared hinge"
    classes = np.arange(y.max() + 1)
    own = y[:, None] == (classes[1:] if hinge and len(classes) == 2 else classes)  # (n, k)
    counts = np.ones(len(y)) if weights is None else weights
    shape = own.shape[1], X.shape[1] + 1  # the last column is the intercept

    def objective(flat: Array) -> tuple[float, Array]:
        W, b = np.split(flat.reshape(shape), [-1], axis=1)  # (k, d), (k, 1)
        S = X @ W.T + b.T  # (n, k)
        if hinge:
            short = np.maximum(1 - np.where(own, S, -S), 0)
            losses, E = (short**2).sum(1), np.where(own, -2 * short, 2 * short)
        else:
            losses, E = logsumexp(S, axis=1) - S[own], softmax(S, axis=1) - own
        E *= C * counts[:, None]
        value = (W**2).sum() / 2 + hinge * (b**2).sum() / 2 + C * counts @ losses
        return value, np.hstack([W + E.T @ X, hinge * b + E.sum(0)[:, None]]).ravel()

    options = {"ftol": 0, "gtol": 1e-9, "maxiter": 20_000, "maxfun": 40_000, "maxcor": 50}
    found = minimize(objective, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options)
    W, b = np.split(found.x.reshape(shape), [-1], axis=1)
    return W, b[:, 0]
