"""The comparison in words and as a table on the terminal.

python cli.py results
"""

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from features.progress import clock
from features.weights import UNTRAINED
from pipeline import budget
from pipeline.budget import EqualBudget
from pipeline.compare import BASELINES, Line, baseline_of, best_head, read_lines
from pipeline.project import Project

PLAIN_WIDTH = 120  # columns, where the output is not a terminal
MARKS = {"untrained": "UNTRAINED", "random": "RANDOM", "file": "file", "imagenet": "ImageNet", "none": "–"}


def results(project: Project) -> None:
    """Print the table of the last comparison, the verdict, and where the report is."""
    lines, test_images = read_lines(project)
    console = plain_console()
    console.print(table(lines, test_images))
    if not all(line.converged for line in lines):
        console.print("* the solver stopped before it converged")
    for sentence in verdict(lines, test_images):
        console.print(sentence)
    for sentence in at_equal_budget(budget.read(project)):
        console.print(sentence)
    if project.report.exists():
        console.print(f"Report: {project.report}", soft_wrap=True)


def plain_console() -> Console:
    """Standard output for data: no markup in it; for pipes its width is set, where rich would fold at 80."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


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
            texts += [f"{100 * line.difference:+.1f} {interval}", _p_value(line.p_value)]
    return [*texts, clock(line.seconds), _count(line.trainable_parameters)]


def _p_value(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


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


def verdict(lines: Sequence[Line], test_images: int) -> list[str]:
    """What the numbers say, in a few sentences."""
    head, control, baseline = best_head(lines), best_head(lines, control=True), baseline_of(lines)
    sentences = []
    if head:
        sentences.append(
            f"Best head on frozen features, chosen on validation rows: {head.method}, test top-1 "
            f"{100 * head.top1:.1f} % [{100 * head.low:.1f}, {100 * head.high:.1f}], tuned in "
            f"{clock(head.seconds)} after an extraction of {clock(head.extraction_seconds)}."
        )
    if head and head.weights in UNTRAINED:
        sentences.append(f"Its layer is computed with {head.weights} weights.")
    if baseline is None:
        others = any(line.method.startswith(BASELINES) for line in lines)
        what = "The baseline (compare.baseline) was not" if others else "No fine-tuned baseline was"
        sentences.append(f"{what} run (finetune.modes), so differences are left out.")
    elif head and head.difference is not None and head.p_value is not None:
        way = "above" if head.difference > 0 else "below"
        sure = "a difference" if head.p_value < 0.05 else "not distinguishable"
        sentences.append(
            f"It is {100 * abs(head.difference):.1f} points {way} {baseline.method} (test top-1 "
            f"{100 * baseline.top1:.1f} %, trained in {clock(baseline.seconds)}): {sure} on {test_images} "
            f"test images (p = {_p_value(head.p_value)}, corrected for {len(lines) - 1} comparisons)."
        )
    if head and control and (control.validation_top1 or 0) > (head.validation_top1 or 0):
        sentences.append(
            f"The control without a network, {control.method}, reaches {100 * control.top1:.1f} %: "
            "for these images frozen features are not the best there is."
        )
    return sentences
