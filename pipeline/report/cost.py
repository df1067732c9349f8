"""What accuracy costs: which methods are not beaten in both, and when the extraction has paid for itself."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from pipeline import plots
from pipeline.records.comparison import Line
from pipeline.report.compared import Compared
from pipeline.report.inline import inline
from pipeline.report.section import Cell, Column, Picture, Section, Table, duration, number, percent, whole

LEAST_SECONDS = 0.01  # drawn: a logarithmic axis has no zero
PAYS_OFF = Column(
    "pays off after", words="trials, after which extraction and heads cost less than fine-tuning"
)
SecondsOf = Callable[[Line], float]


def _gigabytes(value: float) -> str:
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


GPU_MEMORY = Column("GPU memory", words="that torch held at most")


def section(compared: Compared) -> Section:
    """Accuracy against time, and everything that was paid."""
    lines = compared.drawn
    ways: list[tuple[str, SecondsOf]] = [
        ("from the images, with all that was tried", lambda line: line.seconds + line.extraction_seconds),
        ("one more trial, features cached", lambda line: line.price["seconds_per_trial"]),
    ]
    fronts = [(title, [(lines[place], price) for place in front(lines, price)]) for title, price in ways]
    content = {
        "picture": _picture(lines, ways),
        "fronts": [
            (title, [(line.method, duration(price(line)), percent(line.top1)) for line, price in found])
            for title, found in fronts
        ],
        "table": _table(compared.lines, with_break_even=compared.baseline is not None),
        "baseline": compared.baseline,
    }
    return Section("cost", "Accuracy against cost", content)


def front(lines: Sequence[Line], price: SecondsOf) -> list[int]:
    """Places of the lines that no other beats in price and accuracy both, the cheapest first."""
    found: list[int] = []
    for place in sorted(range(len(lines)), key=lambda place: (price(lines[place]), -lines[place].top1)):
        if not found or lines[place].top1 > lines[found[-1]].top1:
            found.append(place)
    return found


def _picture(lines: Sequence[Line], ways: Sequence[tuple[str, SecondsOf]]) -> Picture:
    figure = Figure(figsize=(plots.WIDTH, 3.6), layout="constrained")
    panels = figure.subplots(1, len(ways), sharey=True)
    hints: dict[str, str] = {}
    for panel, (axes, (title, price)) in enumerate(zip(panels, ways, strict=True)):
        hints |= _draw(axes, lines, price, f"cost-{panel}")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("seconds")
    panels[0].set_ylabel("test top-1 accuracy, %")
    words = (
        "Test accuracy against time, on a logarithmic axis. The line joins the front: methods that no other "
        f"beats in both; its numbers are those of the lists below. {plots.COLOURS}"
    )
    return Picture("What time buys", words, inline(plots.svg(figure), "cost", words=words, hints=hints))


def _draw(axes: Axes, lines: Sequence[Line], price: SecondsOf, name: str) -> dict[str, str]:
    """One panel; returns what is said of each point."""
    x = [max(price(line), LEAST_SECONDS) for line in lines]
    y = [100 * line.top1 for line in lines]
    best = front(lines, price)
    axes.step(
        [x[place] for place in best], [y[place] for place in best],
        where="post", color=plots.INK, linewidth=1, zorder=1,
    )  # fmt: skip
    for place, line in enumerate(lines):
        plots.point(axes, x[place], y[place], line, f"{name}-{place}")
    for rank, place in enumerate(best, start=1):
        axes.annotate(
            str(rank), (x[place], y[place]), xytext=(-3, 5), textcoords="offset points",
            ha="right", color=plots.INK, fontsize=10,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.margins(0.09)
    axes.grid(alpha=0.3)
    return {
        f"{name}-{place}": f"{line.label}: {percent(line.top1)} %, {duration(price(line))}"
        for place, line in enumerate(lines)
    }


def _table(lines: Sequence[Line], *, with_break_even: bool) -> Table:
    on_gpu = any(line.price["gpu_memory"] is not None for line in lines)
    columns = [
        Column("method", number=False),
        Column("extraction", words="of the features that it reads; fine-tuning: of its frozen part"),
        Column("training", words="of all that was tried"),
        Column("device time", words="processor time of all cores together; on a GPU, how long it was held"),
        Column("peak memory", words="resident"),
        *([GPU_MEMORY] if on_gpu else []),
        Column("tried", words="points of the grid, or runs"),
        Column("one more trial"),
        Column("images seen", words="by a network in training, all runs together"),
        Column("trained", words="parameters"),
        *([PAYS_OFF] if with_break_even else []),
        Column("device", number=False),
    ]
    rows = [_row(line, on_gpu=on_gpu, with_break_even=with_break_even) for line in lines]
    return Table("The price of every method", columns, rows, sorted_by=-1)


def _row(line: Line, *, on_gpu: bool, with_break_even: bool) -> list[Cell]:
    price = line.price
    return [
        Cell(line.method),
        number(line.extraction_seconds, duration),
        number(line.seconds, duration),
        number(price["device_seconds"], duration),
        number(price["peak_memory"], _gigabytes),
        *([number(price["gpu_memory"], _gigabytes)] if on_gpu else []),
        number(line.trials, whole),
        number(price["seconds_per_trial"], duration),
        number(line.images_seen or None, whole),
        number(line.trainable_parameters, whole),
        *([number(price["break_even"], whole)] if with_break_even else []),
        Cell(price["device"]),
    ]
