"""Heads: cheap classifiers on cached features, each a scikit-learn estimator."""

from pipeline.heads.base import Head
from pipeline.heads.controls import KNN, Majority
from pipeline.heads.kernel import RbfSVM
from pipeline.heads.linear import LinearSVM, LogReg
from pipeline.heads.mlp import MLP

HEADS: dict[str, type[Head]] = {
    "logreg": LogReg,
    "linear-svm": LinearSVM,
    "rbf-svm": RbfSVM,
    "mlp": MLP,
    "knn": KNN,
    "majority": Majority,
}
