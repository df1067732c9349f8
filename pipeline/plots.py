"""Pictures of a comparison, as SVG text that stands in a page without any other file."""

import io
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from features.weights import UNTRAINED
from pipeline.compare import BASELINES, Line

HEAD, BASELINE, CONTROL = "#2f6fab", "#c2571a", "#7a7a7a"
INK = "#808080"  # readable on white and on black
NUMBERS_UP_TO = 20  # classes: above, a confusion matrix's cells are too small for numbers
LABELS_UP_TO = 40
LEAST_ERROR = 1e-3  # that has a colour of its own: 99.9 %
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
        hollow = line.weights in UNTRAINED
        axes.plot([100 * line.low, 100 * line.high], [height, height], color=colour, linewidth=2)
        axes.plot(100 * line.top1, height, "o", color=colour, markerfacecolor="none" if hollow else colour)
    axes.set_yticks(range(len(ordered)), [line.label for line in ordered])
    axes.set_xlabel("test top-1 accuracy, %, with 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    return svg(figure)


def regularisation(tried: Sequence[Mapping[str, str]]) -> str:
    """Draw validation accuracy against C, a panel for each layer; rows of `plot_tables.TUNING`.

    Blue and orange are heads, full and dashed lines normalisations.
    """
    layers = list(dict.fromkeys(row["method"].rpartition(".")[0] for row in tried))
    heads = list(dict.fromkeys(row["method"].rpartition(".")[2] for row in tried))
    kinds = list(dict.fromkeys(row["normalisation"] for row in tried))
    figure = Figure(figsize=(11, 3.2 * -(-len(layers) // 3)), layout="constrained")
    panels = figure.subplots(-(-len(layers) // 3), min(len(layers), 3), sharey=True, squeeze=False)
    for axes, layer in zip(panels.flat, layers, strict=False):
        for head, kind in product(heads, kinds):
            points = sorted(
                (float(row["C"]), 100 * float(row["validation_top1"]))
                for row in tried
                if row["method"] == f"{layer}.{head}" and row["normalisation"] == kind
            )
            if points:
                colour, style = (HEAD, BASELINE)[heads.index(head) % 2], ("-", "--", ":")[kinds.index(kind)]
                axes.plot(
                    *zip(*points, strict=True), style, color=colour, linewidth=1.5, label=f"{head}, {kind}"
                )
        axes.set_title(layer)
        axes.set_xscale("log")
        axes.set_xlabel("C")
        axes.grid(alpha=0.3)
    for axes in list(panels.flat)[len(layers) :]:
        axes.remove()
    panels[0, 0].set_ylabel("validation top-1 accuracy, %")
    legend = panels[0, 0].legend(frameon=False, fontsize=8, labelcolor=INK)
    legend.set_zorder(0)
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


def heat_map(
    top1: NDArray[Any], winners: Sequence[int], layers: Sequence[str], columns: Sequence[tuple[str, str]]
) -> Figure:
    """Draw accuracies (layer, column) as coloured numbers; columns are pairs (head, normalisation).

    Coloured by the logarithm of the error, so that 98 % and 99 % differ where one cell has 10 %;
    `winners` are the columns that are framed, one per layer.
    """
    n, m = top1.shape
    figure = Figure(figsize=(2.2 + 0.62 * m, 1.7 + 0.45 * n), layout="constrained")
    axes = figure.add_subplot()
    errors = np.log(np.maximum(1 - top1, LEAST_ERROR))
    axes.imshow(errors, cmap="Blues_r", aspect="auto")
    for row, column in np.ndindex(n, m):
        dark = errors[row, column] <= (errors.min() + errors.max()) / 2
        axes.text(column, row, f"{100 * top1[row, column]:.1f}", ha="center", va="center",
                  color="white" if dark else "black", fontsize=9)  # fmt: skip
    for row, column in enumerate(winners):
        frame = Rectangle(
            (column - 0.46, row - 0.44), 0.92, 0.88, fill=False, edgecolor=BASELINE, linewidth=2
        )
        axes.add_patch(frame)
    heads = [head for head, _ in columns]
    for head in dict.fromkeys(heads):
        first, count = heads.index(head), heads.count(head)
        axes.text(first + (count - 1) / 2, -0.6, head, ha="center", va="bottom", color=INK)
        axes.axvline(first - 0.5, color=INK, linewidth=1)
    axes.set_xticks(range(m), [kind for _, kind in columns], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(n), layers)
    axes.set_xlabel("normalisation")
    return figure


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
