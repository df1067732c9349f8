"""Pictures of a comparison, as SVG text that stands in a page without any other file."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.compare import BASELINES, Line

HEAD, BASELINE, CONTROL = "#2f6fab", "#c2571a", "#7a7a7a"
INK = "#808080"  # readable on white and on black
NUMBERS_UP_TO = 20  # classes: above, a confusion matrix's cells are too small for numbers
LABELS_UP_TO = 40
mpl.rcParams["svg.hashsalt"] = "penultimate"  # the same picture is the same text
mpl.rcParams["svg.fonttype"] = "none"


def accuracies(lines: Sequence[Line]) -> str:
    """Draw every method's top-1 accuracy with its interval, best on top.

    The majority class stays out: its accuracy would press all others together.
    """
    ordered = sorted((line for line in lines if line.method != "majority"), key=lambda line: line.top1)
    figure = Figure(figsize=(11, 0.8 + 0.3 * len(ordered)), layout="constrained")
    axes = figure.add_subplot()
    for height, line in enumerate(ordered):
        control = line.weights == "none"
        colour = BASELINE if line.method.startswith(BASELINES) else CONTROL if control else HEAD
        hollow = line.weights in ("untrained", "random")
        axes.plot([100 * line.low, 100 * line.high], [height, height], color=colour, linewidth=2)
        axes.plot(100 * line.top1, height, "o", color=colour, markerfacecolor="none" if hollow else colour)
    axes.set_yticks(range(len(ordered)), [line.label for line in ordered])
    axes.set_xlabel("test top-1 accuracy, %, with 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    return svg(figure)


def confusion(table: NDArray[Any], classes: Sequence[str]) -> str:
    """Draw counts (true, predicted), coloured by the share of the true class."""
    n = len(classes)
    side = min(9.0, 2.5 + 0.45 * n)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if n <= NUMBERS_UP_TO:
        for row, column in zip(*np.nonzero(table), strict=True):
            dark = shares[row, column] > 0.5
            axes.text(column, row, str(table[row, column]), ha="center", va="center",
                      color="white" if dark else "black", fontsize=8)  # fmt: skip
    if n <= LABELS_UP_TO:
        axes.set_xticks(range(n), [_escaped(name) for name in classes], rotation=90)
        axes.set_yticks(range(n), [_escaped(name) for name in classes])
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return svg(figure)


def _escaped(name: str) -> str:
    """A class name as plain text: a dollar sign would start a formula."""
    return name.replace("$", r"\$")


def svg(figure: Figure) -> str:
    """A figure as SVG text, in an ink that can be read on white and on black."""
    for axes in figure.axes:
        axes.tick_params(colors=INK)
        for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
            label.set_color(INK)
        for spine in axes.spines.values():
            spine.set_color(INK)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]  # without the XML prologue, which HTML does not know
