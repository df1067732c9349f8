"""Whether probabilities mean what they say: confidence against accuracy, best head and baseline.

References
----------
Niculescu-Mizil and Caruana, Predicting good probabilities, ICML 2005; Guo et al., arXiv:1706.04599.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline import plots
from pipeline.records.comparison import Line
from pipeline.records.predictions import Predictions
from pipeline.report.compared import Compared
from pipeline.report.inline import inline
from pipeline.report.section import Picture, Section, between, decimals, percent
from pipeline.statistics import metrics


class Bin(NamedTuple):
    """Test images of similar confidence."""

    images: int
    confidence: float
    accuracy: metrics.Interval


def section(compared: Compared) -> Section:
    """A diagram for each method that is looked into."""
    lines = compared.looked_into
    each = [bins(compared.predictions(line.method)) for line in lines]
    figure = Figure(figsize=(plots.WIDTH * (1 if len(lines) > 1 else 0.55), 3.9), layout="constrained")
    panels = figure.subplots(1, len(lines), sharex=True, sharey=True, squeeze=False)
    for axes, line, found in zip(panels.flat, lines, each, strict=True):
        _draw(axes, line, found)
    lowest = min(min(b.confidence, b.accuracy.low) for found in each for b in found)
    panels[0, 0].set_xlim(left=10 * np.floor(10 * lowest) - 3)  # shared by all panels
    panels[0, 0].set_ylim(bottom=10 * np.floor(10 * lowest) - 3)
    panels[0, 0].set_ylabel("accuracy, %")
    words = (
        f"The test images in {metrics.BINS} bins of equally many, by the probability of the answer: how "
        "many of each bin were right, with 95 % intervals. On the line probabilities mean what they say; "
        "below it the method is too sure."
    )
    picture = Picture(
        "Confidence against accuracy", words, inline(plots.svg(figure), "reliability", words=words)
    )
    content = {
        "picture": picture,
        "methods": [
            {
                "label": line.label,
                "error": decimals(line.calibration_error),
                "interval": between(line.intervals.get("calibration_error"), decimals),
                "bins": [
                    (
                        f"{b.images:,}",
                        percent(b.confidence),
                        percent(b.accuracy.value),
                        between(b.accuracy[1:], percent),
                    )
                    for b in found
                ],
            }
            for line, found in zip(lines, each, strict=True)
        ],
    }
    return Section("reliability", "Reliability of the probabilities", content)


def bins(found: Predictions) -> list[Bin]:
    """The test images in bins of equally many, by the probability of the answer, least sure first."""
    confidence, right = found.proba.max(axis=1), found.correct
    numbers = metrics.equal_mass_bins(confidence)
    groups = [np.flatnonzero(numbers == number) for number in range(numbers.max() + 1)]
    return [
        Bin(len(group), float(confidence[group].mean(dtype=np.float64)), metrics.accuracy(right[group]))
        for group in groups
    ]


def _draw(axes: Axes, line: Line, found: list[Bin]) -> None:
    colour = plots.colour_of(line)
    axes.plot([0, 100], [0, 100], color=plots.INK, linewidth=1, linestyle="--")
    for each in found:
        x = 100 * each.confidence
        axes.plot([x, x], [100 * each.accuracy.low, 100 * each.accuracy.high], color=colour, linewidth=1.2)
        axes.plot(x, 100 * each.accuracy.value, "o", color=colour, markersize=4.5)
    counts = [each.images for each in found]
    among = f"{counts[0]:,}" if min(counts) == max(counts) else f"{min(counts):,} or {max(counts):,}"
    axes.set_title(f"{line.label}\n{among} images a bin", fontsize=10)
    axes.set_xlabel("probability of the answer, %")
    axes.grid(alpha=0.3)
