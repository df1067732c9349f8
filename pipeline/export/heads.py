"""Heads as ONNX operators: from features of k views to calibrated probabilities.

proba = classify(graph, rows, classifier)    # (n_classes,)
"""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput
from features.onnx import DOUBLE, FLOAT, HALF, Graph
from pipeline.heads.base import Head
from pipeline.heads.classifier import Classifier
from pipeline.heads.controls import KNN, Majority
from pipeline.heads.kernel import RbfSVM
from pipeline.heads.linear.estimators import LinearHead
from pipeline.heads.mlp import MLP
from pipeline.heads.normalisation import Normalisation


def classify(graph: Graph, rows: str, classifier: Classifier, dtype: str) -> str:
    """Map (k, d) float32 to (n_classes,) float64; `dtype` is the store's, in which heads know features."""
    if dtype == "float16":
        rows = graph.cast(graph.cast(rows, HALF), FLOAT)
    return calibrate(
        graph,
        _scores(graph, _normalised(graph, rows, classifier.normalisation), classifier.head),
        classifier.temperature,
    )


def calibrate(graph: Graph, scores: str, temperature: float) -> str:
    """Map scores (k, n_classes) to the mean of the views' probabilities, (n_classes,) float64."""
    logits = graph.add("Div", graph.cast(scores, DOUBLE), np.array(temperature))
    return graph.add("ReduceMean", graph.add("Softmax", logits, axis=-1), np.array([0]), keepdims=0)


def _normalised(graph: Graph, rows: str, normalisation: Normalisation) -> str:
    if normalisation.kind == "standard":
        return graph.add("Div", graph.add("Sub", rows, normalisation.mean), normalisation.scale)
    if normalisation.kind == "l2":
        lengths = graph.add("ReduceL2", rows, np.array([-1]))
        empty = graph.add("Equal", lengths, np.array(0, np.float32))
        return graph.add("Div", rows, graph.add("Where", empty, np.array(1, np.float32), lengths))
    return rows


def _scores(graph: Graph, rows: str, head: Head) -> str:
    """Map normalised features (k, d) to (k, n_classes)."""
    if isinstance(head, LinearHead):
        return affine(graph, rows, head.coef_.T, head.intercept_)
    if isinstance(head, MLP):
        hidden = graph.add("Relu", affine(graph, rows, head.hidden_coef_, head.hidden_intercept_))
        return affine(graph, hidden, head.output_coef_, head.output_intercept_)
    if isinstance(head, RbfSVM):
        return _kernel_machine(graph, rows, head)
    raise TypeError(f"{type(head).__name__} has no graph; `check_exportable` comes first")


def check_exportable(head: Head) -> None:
    """Refuse a head that a graph would not be the right form for, with a BadInput."""
    reasons = {
        KNN: "a knn head is all its train images' features, and searches them",
        Majority: "majority says the same of every image",
    }
    if reason := reasons.get(type(head)):
        raise BadInput(f"{reason}: it is not exported; name another --method")


def affine(graph: Graph, rows: str, weights: NDArray[np.floating], intercept: NDArray[np.floating]) -> str:
    """Map (k, d) float32 to rows · weights + intercept, weights (d, m) in float32, too."""
    return graph.add("Gemm", rows, weights.astype(np.float32), intercept.astype(np.float32))


def _kernel_machine(graph: Graph, rows: str, head: RbfSVM) -> str:
    """Pairwise scores and votes of an exact kernel, or class scores of Nyström's (see `RbfSVM`)."""
    x, support = graph.cast(rows, DOUBLE), graph.add("Cast", head.support_, to=DOUBLE)
    products = graph.add("MatMul", x, graph.add("Transpose", support, perm=[1, 0]))
    own = graph.add("ReduceSumSquare", x, np.array([1]))  # (k, 1)
    theirs = graph.add("ReduceSumSquare", support, np.array([1]), keepdims=0)  # (n_support,)
    sums = graph.add("Add", graph.add("Sub", own, graph.add("Mul", products, np.array(2.0))), theirs)
    squares = graph.add("Max", sums, np.array(0.0))
    kernel = graph.add("Exp", graph.add("Mul", squares, np.array(-head.gamma_.item())))
    dual, intercept = (array.astype(np.float64) for array in (head.dual_, head.intercept_))
    scores = graph.add("Add", graph.add("MatMul", kernel, dual), intercept)
    if head.landmarks_.item():
        return scores
    pairs = list(combinations(range(len(head.classes_)), 2))
    if len(pairs) == 1:  # positive scores speak for the first class
        return graph.add("MatMul", scores, np.array([[0.5, -0.5]]))
    return _votes(graph, scores, pairs, len(head.classes_))


def _votes(graph: Graph, scores: str, pairs: list[tuple[int, int]], n_classes: int) -> str:
    """Turn pairwise scores (k, pairs) into one per class (see `pipeline.heads.kernel.votes`)."""
    first, second = (np.eye(n_classes)[[pair[which] for pair in pairs]] for which in (0, 1))
    won = graph.cast(graph.add("Greater", scores, np.array(0.0)), DOUBLE)
    lost = graph.add("Sub", np.array(1.0), won)
    count = graph.add("Add", graph.add("MatMul", won, first), graph.add("MatMul", lost, second))
    confidence = graph.add("MatMul", scores, first - second)
    bound = graph.add("Mul", graph.add("Add", graph.add("Abs", confidence), np.array(1.0)), np.array(3.0))
    return graph.add("Add", count, graph.add("Div", confidence, bound))
