"""What pictures share: colours, and SVG text that stands in a page without any other file."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from features.weights import UNTRAINED
from pipeline.records.cards import BASELINES
from pipeline.records.comparison import Line

HEAD, BASELINE, CONTROL = "#2f6fab", "#c2571a", "#7a7a7a"
COLOURS = "Blue: heads. Orange: fine-tuned. Grey: controls without a network. Hollow: untrained weights."
INK = "#808080"  # readable on white and on black
LEAST_ERROR = 1e-3  # that has a colour of its own: 99.9 %
WIDTH = 6.8  # inches: a page's column of text
mpl.rcParams["svg.hashsalt"] = "penultimate"  # the same picture is the same text
mpl.rcParams["svg.fonttype"] = "none"


def colour_of(line: Line) -> str:
    """The colour of a method: fine-tuned, a head, or a control without a network."""
    if line.method.startswith(BASELINES):
        return BASELINE
    return CONTROL if line.weights == "none" else HEAD


def point(axes: Axes, x: float, y: float, line: Line, gid: str) -> None:
    """Draw a method as a point, hollow where its layer has untrained weights; `gid` names it in the SVG."""
    colour = colour_of(line)
    filling = "none" if line.weights in UNTRAINED else colour
    axes.plot(x, y, "o", color=colour, markerfacecolor=filling, markersize=5.5, gid=gid)


def by_method(lines: Sequence[Line], panels: int = 1) -> tuple[Figure, list[Axes]]:
    """Start a figure with a row per method, named on the left, the first on top."""
    figure = Figure(figsize=(WIDTH, 0.75 + 0.25 * len(lines)), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(1, panels, sharey=True)))
    axes[0].set_yticks(range(len(lines)), [line.label for line in lines])
    axes[0].set_ylim(len(lines) - 0.4, -0.6)
    for each in axes:
        each.grid(axis="x", alpha=0.3)
    return figure, axes


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


def svg(figure: Figure) -> str:
    """A figure as SVG text, in an ink that can be read on white and on black."""
    for axes in figure.axes:
        axes.tick_params(colors=INK, which="both")
        for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
            label.set_color(INK)
        for spine in axes.spines.values():
            spine.set_color(INK)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]  # without the XML prologue, which HTML does not know
