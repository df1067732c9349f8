"""How good every method is: what the test images leave open, and apart from it what random starts do."""

from collections.abc import Sequence

from pipeline import plots
from pipeline.records.comparison import Line
from pipeline.report.compared import Compared
from pipeline.report.inline import inline
from pipeline.report.section import Cell, Column, Picture, Section, Table, between, decimals, number, percent
from pipeline.terminal import MARKS


def section(compared: Compared) -> Section:
    """Every method's metrics as a picture and a table."""
    content = {
        "picture": _picture(compared.drawn, compared.test_images),
        "table": _table(compared.lines),
        "test_images": compared.test_images,
        "converged": all(line.converged for line in compared.lines),
        "seeded": any(line.seeds for line in compared.lines),
        "majority": len(compared.drawn) < len(compared.lines),
    }
    return Section("accuracy", "Accuracy of all methods", content)


def _picture(lines: Sequence[Line], test_images: int) -> Picture:
    figure, (axes,) = plots.by_method(lines)
    hints = {}
    for place, line in enumerate(lines):
        axes.plot(
            [100 * line.low, 100 * line.high], [place, place], color=plots.colour_of(line), linewidth=1.8
        )
        plots.point(axes, 100 * line.top1, place, line, f"accuracy-{place}")
        hints[f"accuracy-{place}"] = (
            f"{line.label}: {percent(line.top1)} % {between([line.low, line.high], percent)}"
        )
        if line.seeds:
            starts = [100 * value for value in line.seed_top1]
            axes.plot(
                starts, [place + 0.3] * len(starts), "|", color=plots.INK, markersize=6, markeredgewidth=1.2
            )
    axes.set_xlabel("test top-1 accuracy, %")
    words = (
        f"Top-1 accuracy on {test_images:,} test images; the bar is the 95 % interval over test images. "
        + ("Each tick below it is one random start. " if any(line.seeds for line in lines) else "")
        + plots.COLOURS
    )
    return Picture(
        "Top-1 with 95 % intervals", words, inline(plots.svg(figure), "accuracy", words=words, hints=hints)
    )


def _table(lines: Sequence[Line]) -> Table:
    seeded = any(line.seeds for line in lines)
    columns = [
        Column("method", number=False),
        Column("weights", number=False, words="of the layer that the method reads"),
        Column("validation", words="top-1 on validation rows, which chose the hyper-parameters, in %"),
        Column("test top-1", words="in %, with the Wilson interval"),
        Column("bootstrap", words="interval of test top-1 by stratified bootstrap, as a cross-check, in %"),
        *([Column("over starts", words="mean of test top-1 over random starts, in %")] if seeded else []),
        Column(
            "macro F1",
            words="mean over classes; its interval, and those to its right, by stratified bootstrap",
        ),
        Column("log-loss", words="mean negative log-probability of the true class, in nats"),
        Column("Brier", words="mean squared distance of the probabilities from the truth"),
        Column(
            "ECE",
            words="expected calibration error; in brackets its spread over resamples, which is no interval",
        ),
        Column("chosen", number=False),
    ]
    return Table(
        caption="All methods on the test rows, 95 % intervals in brackets",
        columns=columns,
        rows=[_row(line, seeded=seeded) for line in lines],
        sorted_by=3,
        descending=True,
    )


def _row(line: Line, *, seeded: bool) -> list[Cell]:
    bootstrap = line.intervals.get("top1")
    return [
        Cell(line.method + ("" if line.converged else " *")),
        Cell(MARKS[line.weights], mark=line.weights in ("untrained", "random")),
        number(line.validation_top1, percent),
        Cell(percent(line.top1), line.top1, between([line.low, line.high], percent)),
        Cell(between(bootstrap, percent), bootstrap[0] if bootstrap else None),
        *([_starts(line)] if seeded else []),
        _metric(line, "macro_f1"),
        _metric(line, "log_loss"),
        _metric(line, "brier"),
        _metric(line, "calibration_error"),
        Cell(line.chosen),
    ]


def _starts(line: Line) -> Cell:
    if not line.seeds:
        return Cell("")
    mean, low, high = line.seeds
    return Cell(percent(mean), mean, f"{between([low, high], percent)}, {len(line.seed_top1)} starts")


def _metric(line: Line, name: str) -> Cell:
    value: float = getattr(line, name)
    return Cell(decimals(value), value, between(line.intervals.get(name), decimals))
