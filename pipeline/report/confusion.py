"""What is taken for what, and the pictures behind it: best head and baseline.

Few classes make a matrix, many the list of the most frequent confusions. Each of a cell's pictures
is a row of the manifest with two probabilities; the images themselves stand in the page once.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.inspection.thumbnails import Thumbnails
from pipeline.records.natural import in_order
from pipeline.records.predictions import Predictions
from pipeline.report.compared import Compared
from pipeline.report.section import Section
from pipeline.statistics import metrics

MATRIX_UP_TO = 40  # classes
PAIRS_SHOWN = 50  # confusions, where there is no matrix
PER_CELL = 12  # pictures
PICTURES = 600  # of all methods together: about 1.5 MB
# Shares of a true class at which the colour changes: fine where errors are, coarse on the diagonal
STEPS = (1e-9, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75)

Chosen = dict[str, list[tuple[int, float, float]]]  # "true-predicted" → (row, p of predicted, p of true)


def section(compared: Compared, thumbnails: Thumbnails) -> Section:
    """Confusions of the methods that are looked into, and the pictures of their cells."""
    methods, chosen, wanted = [], [], 0
    lines = compared.looked_into
    for line in lines:
        found = compared.predictions(line.method)
        table = metrics.confusion(found.proba.argmax(axis=1), found.label, len(found.classes))
        few = len(table) <= MATRIX_UP_TO
        pairs = [] if few else most_frequent(table)
        cells = None if few else {(pair["truth"], pair["answer"]) for pair in pairs}
        chosen.append(pictures(found, compared.test_rows, PICTURES // len(lines), cells))
        counts = table if few else np.array([pair["count"] for pair in pairs])
        wanted += int(np.minimum(counts, PER_CELL).sum())
        methods.append(
            {
                "label": line.label,
                "right": int(table.trace()),
                "matrix": _matrix(table) if few else None,
                "pairs": pairs,
                "confusions": np.count_nonzero(table) - np.count_nonzero(table.diagonal()),
            }
        )
    classes = compared.predictions(lines[0].method).classes.tolist()
    content = {
        "methods": methods,
        "classes": classes,
        "order": in_order(classes),
        "test_images": compared.test_images,
        "per_cell": PER_CELL,
        "shortened": sum(len(rows) for cells in chosen for rows in cells.values()) < wanted,
        "data": {"classes": classes, "methods": chosen, "paths": _shown(compared, chosen, thumbnails)},
    }
    return Section("confusion", "What is taken for what", content)


def most_frequent(table: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Confusions with their counts and shares of the true class, the most frequent first."""
    wrong = table.copy()
    np.fill_diagonal(wrong, 0)
    true, predicted = np.nonzero(wrong)
    totals = table.sum(axis=1)
    order = np.lexsort((predicted, true, -wrong[true, predicted]))[:PAIRS_SHOWN]
    return [
        {
            "truth": int(t),
            "answer": int(p),
            "count": int(wrong[t, p]),
            "share": float(wrong[t, p] / totals[t]),
        }
        for t, p in zip(true[order], predicted[order], strict=True)
    ]


def _matrix(table: NDArray[np.int64]) -> list[list[tuple[int, int]]]:
    """Counts with their level of colour, by true class."""
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    levels = np.searchsorted(STEPS, shares, side="right")
    return [
        list(zip(counts, colours, strict=True))
        for counts, colours in zip(table.tolist(), levels.tolist(), strict=True)
    ]


def pictures(
    found: Predictions, rows: NDArray[np.intp], most: int, cells: set[tuple[int, int]] | None = None
) -> Chosen:
    """Choose the pictures of each cell: of errors the surest, of right answers the least sure.

    Parameters
    ----------
    rows : (n_test,)
        The manifest's rows of the predictions.
    most : int
        Of all cells together: each cell gets its first picture before any gets its second.
    cells : set of (true, predicted), optional
        The only ones to choose for.
    """
    predicted, n_classes = found.proba.argmax(axis=1), len(found.classes)
    confidence = found.proba[np.arange(len(predicted)), predicted]
    own = found.proba[np.arange(len(predicted)), found.label]
    right = predicted == found.label
    cell = found.label.astype(np.int64) * n_classes + predicted
    order = np.lexsort((np.where(right, confidence, -confidence), cell))
    ordered = cell[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    kept = rank < PER_CELL
    if cells is not None:
        kept &= np.isin(ordered, [true * n_classes + other for true, other in cells])
    order, rank = order[kept], rank[kept]
    first = np.lexsort((right[order], rank))[:most]  # errors before right answers
    chosen: Chosen = {}
    for place in order[np.sort(first)]:
        key = f"{found.label[place]}-{predicted[place]}"
        probabilities = round(float(confidence[place]), 3), round(float(own[place]), 3)
        chosen.setdefault(key, []).append((int(rows[place]), *probabilities))
    return chosen


def _shown(compared: Compared, chosen: list[Chosen], thumbnails: Thumbnails) -> Mapping[int, str]:
    """Ask for the pictures; returns their paths."""
    rows = sorted({row for cells in chosen for each in cells.values() for row, *_ in each})
    for row in rows:
        thumbnails.uri(row)
    return {row: compared.manifest.rows[row].path for row in rows}
