"""The picture of learning curves: a panel per layer, a line per head.

Both axes are logarithmic, the vertical one in the error (the ticks say the accuracy):
there a power law is a straight line, and 98 % and 99 % stay apart.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pipeline.heads import HEADS
from pipeline.plots import INK
from pipeline.studies.learning_curve import Curve, sizes
from pipeline.studies.outlook import Outlook

# Told apart with every kind of colour vision (Okabe and Ito), and readable on white and on black
COLOURS = dict(zip(HEADS, ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#7a7a7a"), strict=True))
MARKERS = dict(zip(HEADS, "os^Dvx", strict=True))
TICKS = (0, 20, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9)  # % right
MOST_TICKS = 9  # of images per class
ACROSS = 3  # panels side by side


def learning_curves(
    curves: Sequence[Curve], outlooks: Mapping[str, Outlook], n_classes: int, validation_images: int
) -> Figure:
    """Draw accuracies against train images per class, the mean where small classes give all they have.

    A band is the 95 % interval over draws, the bar at the end of a layer's best head the one
    over validation images, the dashed line from there its power law to twice the images.
    """
    layers: list[str | None] = list(dict.fromkeys(each.layer for each in curves if each.layer)) or [None]
    across = min(len(layers), ACROSS)
    down = -(-len(layers) // across)
    figure = Figure(figsize=(1.2 + 3.8 * across, 1.2 + 3.3 * down), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    floor = 0.5 / validation_images  # half an image, where there is no error
    for axes, layer in zip(panels.flat, layers, strict=False):
        shown = [each for each in curves if each.layer in (layer, None)]
        for each in shown:
            _draw(axes, each, n_classes, floor)
            if each.method in outlooks:
                _draw_end(axes, each, outlooks[each.method], n_classes, floor)
        axes.set_title(_title(layer, shown[0].weights), fontsize=10)
        axes.grid(alpha=0.3)
    for axes in panels.flat[len(layers) :]:
        axes.axis("off")
    _scale(panels[0, 0], curves[0].images, n_classes)
    for axes in panels[-1]:
        axes.set_xlabel("train images per class")
    for axes in panels[:, 0]:
        axes.set_ylabel("validation top-1 accuracy, %")
    lines = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    heads = [head for head in HEADS if head in lines]
    figure.legend(
        [lines[head] for head in heads], heads,
        loc="outside lower center", ncols=len(HEADS), frameon=False, labelcolor=INK,
    )  # fmt: skip
    return figure


def _title(layer: str | None, weights: str) -> str:
    if layer is None:
        return "no layer"
    marks = {"untrained": "untrained weights", "random": "random weights", "none": "no network"}
    return f"{layer} ({marks[weights]})" if weights in marks else layer


def _draw(axes: Axes, curve: Curve, n_classes: int, floor: float) -> None:
    colour = COLOURS[curve.head]
    x = np.array(curve.images) / n_classes
    mean, low, high = 1 - np.array(curve.intervals).T  # errors
    y = np.maximum(mean, floor)
    style = ":" if curve.layer is None else "-"
    axes.plot(x, y, style, color=colour, marker=MARKERS[curve.head], markersize=4, label=curve.head)
    axes.fill_between(x, np.maximum(high, floor), low, color=colour, alpha=0.15, linewidth=0)


def _draw_end(axes: Axes, curve: Curve, outlook: Outlook, n_classes: int, floor: float) -> None:
    colour, x = COLOURS[curve.head], curve.images[-1] / n_classes
    ends = np.maximum([1 - curve.sampled.low, 1 - curve.sampled.high], floor)
    axes.plot([x, x], ends, color=colour, linewidth=1.5)
    if outlook.doubled is not None:
        errors = np.maximum([outlook.error, outlook.doubled.value], floor)
        axes.plot([x, 2 * x], errors, "--", color=colour, linewidth=1)
        axes.plot([2 * x, 2 * x], [outlook.doubled.low, outlook.doubled.high], color=colour, linewidth=1.5)


def _scale(axes: Axes, images: Sequence[int], n_classes: int) -> None:
    """Logarithmic axes, shared by all panels: 1, 2, 5, 10, … images; errors as accuracies."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sizes(images[-1] // n_classes)
    ticks = ticks[:-1] or ticks  # the last may be close to the one before
    ticks = ticks if len(ticks) <= MOST_TICKS else tuple(tick for tick in ticks if str(tick)[0] == "1")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    errors = [1 - right / 100 for right in TICKS]
    axes.yaxis.set_major_locator(FixedLocator(errors))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 * (1 - error):g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    least, most = axes.get_ylim()
    # Upside down, so that better is higher; from a tick on, so that there always is one
    axes.set_ylim(min(error for error in errors if error >= min(most, 1)), least)
