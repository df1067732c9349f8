"""The Gaussian-kernel SVM: exact while the kernel of all train rows fits memory, else approximated.

for point, head in RbfSVM.path(X, y, {"C": [1, 10], "gamma": [0.1, 1]}):
    scores = head.logits(X_validation)
head.kernel_  # "exact", or "Nyström, 1,000 landmarks"

Exact, it is LIBSVM's problem on a kernel matrix: the squared distances are computed once, by a
matrix product, for all C and gamma.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain, combinations
from typing import Any, ClassVar, Self

import numpy as np
from joblib import Parallel, delayed
from sklearn.svm import SVC
from sklearn.utils.class_weight import compute_class_weight

from pipeline.heads.base import Array, Head, Point, two_columns
from pipeline.heads.gaussian import draw, kernel, root, squared_distances, unit
from pipeline.heads.linear.estimators import LinearSVM
from pipeline.heads.rows import blocks, in_memory
from pipeline.heads.shared import Shared

# Train rows, views counted, of the largest exact kernel: 12,000² × 8 B = 1.15 GB, held twice (the
# squared distances, and the kernel of one gamma). LIBSVM's time grows with the square, too.
GRAM_ROWS = 12_000
# Rows that stand for all beyond: 8 kB of distances and 4 kB of features for each train row.
LANDMARKS = 1_000


class RbfSVM(Head):
    """SVM with kernel exp(−γ‖x − x'‖²).

    To `GRAM_ROWS` train rows one against one, as LIBSVM solves it. Beyond, and for a dask
    array, `LinearSVM` (one against the rest, squared hinge) on Nyström features; see `kernel_`.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty, on losses of images (see `LinearHead`).
    gamma : float
        γ in units of 1 / (features × their variance): 1 is scikit-learn's `scale`.
    class_weight : None, "balanced" or dict
        What a class's losses count, as in scikit-learn: the same, all classes the same, or as given.

    Attributes
    ----------
    support_ : (n_support, d)
        The support vectors, or landmarks.
    dual_ : (n_support, n_pairs) float64, or (landmarks, n_classes)
        Coefficients of each pair of classes (i, j), i < j: positive scores speak for i; or of each class.
    intercept_ : (n_pairs,) float64, or (n_classes,)
    gamma_ : () float64
        γ in absolute units.
    landmarks_ : () int64
        How many rows stand for all; 0 where the kernel is exact.
    """

    state: ClassVar[tuple[str, ...]] = ("support_", "dual_", "intercept_", "gamma_", "landmarks_")
    given: ClassVar[tuple[str, ...]] = ("support_", "gamma_", "landmarks_")

    extends: ClassVar[tuple[str, ...]] = ("C", "gamma")

    # While a path lasts: distances to its rows, and which of these are the support vectors
    _distances: Shared | None = None
    _positions: Array | slice = slice(None)

    def __init__(
        self, C: float = 1.0, gamma: float = 1.0, class_weight: str | dict[Any, float] | None = None
    ) -> None:
        self.C = C
        self.gamma = gamma
        self.class_weight = class_weight

    @property
    def kernel_(self) -> str:
        """`exact`, or by how many landmarks it is approximated."""
        landmarks = self.landmarks_.item()
        return f"Nyström, {landmarks:,} landmarks" if landmarks else "exact"

    @classmethod
    def path(cls, X: Any, y: Array, grid: Mapping[str, Any], views: int = 1) -> Iterator[tuple[Point, Self]]:
        """Fit every (gamma, C), sharing the distances (see `Head.path`); X may be a dask array."""
        classes, numbers = np.unique(y, return_inverse=True)
        heads = [[cls(C, gamma, grid.get("class_weight")) for C in grid["C"]] for gamma in grid["gamma"]]
        for head in chain.from_iterable(heads):
            head.classes_, head.n_features_in_ = classes, X.shape[1]
        for head in _solved(heads, X, numbers, views):
            yield {"C": head.C, "gamma": head.gamma}, head

    @classmethod
    def complexity(cls, point: Point) -> tuple[float, ...]:
        """Wide kernels first, then strong penalties (see `Head.complexity`)."""
        return point["gamma"], point["C"]

    def _fit(self, X: Array, y: Array, views: int) -> None:
        for _ in _solved([[self]], X, y, views):
            pass

    def _solve(self, K: Array, y: Array, views: int) -> None:
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[y])
        self.converged_ = True  # LIBSVM iterates until it is
        model = SVC(C=self.C / views, kernel="precomputed", class_weight=dict(enumerate(weights))).fit(K, y)
        self._positions = model.support_
        self.dual_ = _pairwise(model.dual_coef_, model.n_support_)
        self.intercept_ = model.intercept_.astype(np.float64)
        if len(model.n_support_) == 2:  # scikit-learn turns the sign of the only pair
            self.dual_, self.intercept_ = -self.dual_, -self.intercept_

    def _logits(self, X: Array) -> Array:
        scores = np.empty((len(X), len(self.intercept_)))
        for rows, part in blocks(X):
            scores[rows] = kernel(self._squares(part), self.gamma_.item()) @ self.dual_ + self.intercept_
        if self.landmarks_.item():
            return scores
        return two_columns(-scores[:, 0]) if scores.shape[1] == 1 else votes(scores, len(self.classes_))

    def _squares(self, X: Array) -> Array:
        """Squared distances to the support vectors, (n, n_support)."""
        if self._distances is not None and self._distances.open:
            return self._distances(X)[:, self._positions]
        return squared_distances(X, self.support_)


def _solved(heads: list[list[RbfSVM]], X: Any, y: Array, views: int) -> Iterator[RbfSVM]:
    """Fit heads that differ in C and gamma only, one list for each gamma; y are class numbers.

    Each is taken from its list: with its support vectors it may be as large as X.
    """
    exact = in_memory(X) and len(X) <= GRAM_ROWS
    return (_exact if exact else _approximated)(heads, X, y, views)


def _exact(heads: list[list[RbfSVM]], X: Array, y: Array, views: int) -> Iterator[RbfSVM]:
    scale, squares = unit(X), squared_distances(X, X)
    K = np.empty_like(squares)
    with Shared(partial(squared_distances, B=X)) as distances:
        for group in heads:
            gamma = np.asarray(group[0].gamma * scale)
            kernel(squares, gamma.item(), out=K)
            # Threads: LIBSVM releases the interpreter's lock, and K is shared.
            Parallel(n_jobs=-1, prefer="threads")(delayed(head._solve)(K, y, views) for head in group)
            while group:
                head = group.pop(0)
                head.support_ = X[head._positions]
                head.gamma_, head.landmarks_, head._distances = gamma, np.asarray(0), distances
                yield head


def _approximated(heads: list[list[RbfSVM]], X: Any, y: Array, views: int) -> Iterator[RbfSVM]:
    scale, L = unit(X), draw(X, LANDMARKS)
    among, squares = squared_distances(L, L), np.empty((len(y), len(L)))
    for rows, part in blocks(X):
        squares[rows] = squared_distances(part, L)
    Z = np.empty(squares.shape, np.float32)
    with Shared(partial(squared_distances, B=L)) as distances:
        for group in heads:
            gamma = np.asarray(group[0].gamma * scale)
            whiten = root(kernel(among, gamma.item()))
            for rows, part in blocks(squares):
                Z[rows] = kernel(part, gamma.item()) @ whiten
            grid = {"C": tuple(head.C for head in group), "class_weight": group[0].class_weight}
            path = LinearSVM.path(Z, group[0].classes_[y], grid, views)
            for head, (_, linear) in zip(group, path, strict=True):
                head.support_, head.dual_ = L, whiten @ linear.coef_.T
                head.intercept_, head.converged_ = linear.intercept_, linear.converged_
                head.gamma_, head.landmarks_ = gamma, np.asarray(len(L))
                head._distances, head._positions = distances, slice(None)
                yield head


def _pairwise(dual_coef: Array, n_support: Array) -> Array:
    """Turn LIBSVM's (n_classes − 1, n_support) coefficients into one column per pair of classes."""
    ends = np.cumsum(n_support)
    rows = [slice(end - count, end) for end, count in zip(ends, n_support, strict=True)]
    columns = []
    for i, j in combinations(range(len(n_support)), 2):
        column = np.zeros(dual_coef.shape[1])
        column[rows[i]] = dual_coef[j - 1, rows[i]]
        column[rows[j]] = dual_coef[i, rows[j]]
        columns.append(column)
    return np.stack(columns, axis=1)


def votes(pairs: Array, n_classes: int) -> Array:
    """Turn pairwise scores into one per class: votes, ties broken by confidence below ⅓.

    scikit-learn's `decision_function_shape="ovr"`.
    """
    count = np.zeros((len(pairs), n_classes))
    confidence = np.zeros((len(pairs), n_classes))
    for column, (i, j) in enumerate(combinations(range(n_classes), 2)):
        score = pairs[:, column]
        count[:, i] += score > 0
        count[:, j] += score <= 0
        confidence[:, i] += score
        confidence[:, j] -= score
    return np.asarray(count + confidence / (3 * (np.abs(confidence) + 1)))
