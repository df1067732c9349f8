"""The comparison as a table on the terminal, a row for each method."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from features.progress import clock
from pipeline.comparison.verdict import p_value
from pipeline.records.budget import EqualBudget
from pipeline.records.comparison import Line, baseline_of
from pipeline.terminal import MARKS


def table(lines: Sequence[Line], test_images: int) -> Table:
    """One row per method, best accuracy first."""
    baseline = baseline_of(lines)
    shown = Table(
        box=box.SIMPLE_HEAD,
        title=f"{test_images} test images, 95 % intervals; time: all that was tried",
        title_justify="left",
    )
    shown.add_column("method", no_wrap=True)
    shown.add_column("weights", no_wrap=True)
    headings = ["top-1 % [95 %]", "log-loss"]
    headings += [f"− {baseline.method}", "p (Holm)"] if baseline else []
    headings += ["time", "trained"]
    for heading in headings:
        shown.add_column(heading, justify="right", no_wrap=True)
    for line in sorted(lines, key=lambda line: -line.top1):
        shown.add_row(*cells(line, with_difference=baseline is not None))
    return shown


def cells(line: Line, *, with_difference: bool) -> list[str]:
    """A line's texts, in the order of the table's columns."""
    texts = [
        line.method + ("" if line.converged else " *"),
        MARKS[line.weights],
        f"{100 * line.top1:.1f} [{100 * line.low:.1f}, {100 * line.high:.1f}]",
        f"{line.log_loss:.3f}",
    ]
    if with_difference:
        if line.difference is None or line.difference_low is None or line.difference_high is None:
            texts += ["baseline", ""]
        else:
            interval = f"[{100 * line.difference_low:+.1f}, {100 * line.difference_high:+.1f}]"
            texts += [f"{100 * line.difference:+.1f} {interval}", p_value(line.p_value)]
    return [*texts, clock(line.seconds), _count(line.trainable_parameters)]


def _count(number: int) -> str:
    """A number of parameters in at most five characters: 10, 41.0k, 14.7M."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def at_equal_budget(rows: Sequence[EqualBudget]) -> list[str]:
    """What the baselines reach at the price of the best head."""
    if not rows:
        return []
    return [
        f"On validation rows {rows[0].head} reaches {100 * rows[0].head_top1:.1f} % in "
        f"{clock(rows[0].seconds)}, its features included. One run of a baseline in that time:",
        *(f"  {row.words}" for row in rows),
    ]
