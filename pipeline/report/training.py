"""What was tried: validation accuracy of the linear heads against C, and of the baselines against epochs."""

from collections.abc import Mapping, Sequence
from itertools import product

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline import plots
from pipeline.comparison.plot_tables import read_training, read_tuning
from pipeline.report.compared import Compared
from pipeline.report.inline import inline
from pipeline.report.section import Picture, Section

ACROSS = 3  # panels side by side
STYLES = ("-", "--", ":", "-.")
History = Sequence[Mapping[str, str]]


def section(compared: Compared) -> Section | None:
    """Both pictures; None where neither a linear head nor a baseline was trained."""
    pictures = []
    if tried := read_tuning(compared.project):
        words = (
            "What was tried of the linear heads, on validation rows: C is the inverse strength of the "
            "penalty. A best value at the edge of its grid has extended the grid."
        )
        drawn = inline(plots.svg(_regularisation(tried)), "regularisation", words=words)
        pictures.append(Picture("Accuracy against C", words, drawn))
    if epochs := read_training(compared.project):
        words = (
            "Each baseline after every epoch, a line for each recipe that was tried; epoch 0 is its start. "
            "The best epoch of any on validation rows was kept."
        )
        pictures.append(
            Picture("Fine-tuning", words, inline(plots.svg(_training(epochs)), "training", words=words))
        )
    return Section("training", "What was tried", {"pictures": pictures}) if pictures else None


def _regularisation(tried: History) -> Figure:
    """Draw validation accuracy against C, a panel for each layer; rows of `plot_tables.TUNING`.

    Blue and orange are heads, full and dashed lines normalisations.
    """
    layers = list(dict.fromkeys(row["method"].rpartition(".")[0] for row in tried))
    heads = list(dict.fromkeys(row["method"].rpartition(".")[2] for row in tried))
    kinds = list(dict.fromkeys(row["normalisation"] for row in tried))
    figure = Figure(figsize=(plots.WIDTH, 0.4 + 2.4 * -(-len(layers) // ACROSS)), layout="constrained")
    panels = figure.subplots(-(-len(layers) // ACROSS), min(len(layers), ACROSS), sharey=True, squeeze=False)
    for axes, layer in zip(panels.flat, layers, strict=False):
        for head, kind in product(heads, kinds):
            points = sorted(
                (float(row["C"]), 100 * float(row["validation_top1"]))
                for row in tried
                if row["method"] == f"{layer}.{head}" and row["normalisation"] == kind
            )
            if points:
                colour = (plots.HEAD, plots.BASELINE)[heads.index(head) % 2]
                style = STYLES[kinds.index(kind) % len(STYLES)]
                axes.plot(
                    *zip(*points, strict=True), style, color=colour, linewidth=1.5, label=f"{head}, {kind}"
                )
        axes.set_title(layer, fontsize=10)
        axes.set_xscale("log")
        axes.set_xlabel("C")
        axes.grid(alpha=0.3)
    for axes in list(panels.flat)[len(layers) :]:
        axes.remove()
    panels[0, 0].set_ylabel("validation top-1, %")
    _legend(figure)
    return figure


def _training(epochs: History) -> Figure:
    """Draw training loss and validation accuracy against epochs, a row of panels for each baseline."""
    methods = list(dict.fromkeys(row["method"] for row in epochs))
    recipes = list(dict.fromkeys(row["recipe"] for row in epochs))
    figure = Figure(figsize=(plots.WIDTH, 0.4 + 2.2 * len(methods)), layout="constrained")
    panels = figure.subplots(len(methods), 2, squeeze=False)
    for (loss, accuracy), method in zip(panels, methods, strict=True):
        for place, recipe in enumerate(recipes):
            rows = [row for row in epochs if row["method"] == method and row["recipe"] == recipe]
            x = [int(row["epoch"]) for row in rows]
            colour = (plots.BASELINE, plots.HEAD, plots.CONTROL)[place % 3]
            style = STYLES[place // 3 % len(STYLES)]
            for axes, column, scale in ((loss, "train_loss", 1), (accuracy, "validation_top1", 100)):
                y = [scale * float(row[column]) for row in rows]
                axes.plot(x, y, style, color=colour, marker=".", linewidth=1.5, label=recipe)
        for axes, title in ((loss, "train loss"), (accuracy, "validation top-1, %")):
            axes.set_title(f"{method}: {title}", fontsize=10)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.3)
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    _legend(figure)
    return figure


def _legend(figure: Figure) -> None:
    """One legend of all panels, below them."""
    lines = {str(line.get_label()): line for axes in figure.axes for line in axes.get_lines()}
    figure.legend(
        list(lines.values()), list(lines), loc="outside lower center",
        ncols=2 if len(lines) in (2, 4) else 3, frameon=False, fontsize=8, labelcolor=plots.INK,
    )  # fmt: skip
