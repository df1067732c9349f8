"""Learning curves as a table on the terminal, and what they say in words."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from features.weights import UNTRAINED
from pipeline.studies.learning_curve import Curve, Design
from pipeline.studies.outlook import Outlook
from pipeline.terminal import MARKS, plain_console

QUESTION = (
    "What would twice the images buy? The best head of each layer, extrapolated by a power law: "
    "a guess, no promise."
)


def show(curves: Sequence[Curve], outlooks: Mapping[str, Outlook], design: Design) -> None:
    """Print the table, then a sentence or two for each method that was extrapolated."""
    console = plain_console()
    console.print(table(curves, design))
    if outlooks:
        console.print(QUESTION)
    named = {each.method: each for each in curves}
    for method, outlook in outlooks.items():
        each = named[method]
        mark = f" ({each.weights} weights)" if each.weights in UNTRAINED else ""
        sampled, images = each.sampled, design.validation_images
        console.print(f"  {outlook.words(method + mark, each.images[-1], sampled, images)}")


def table(curves: Sequence[Curve], design: Design) -> Table:
    """One row per method, the best with all images first; a column per size."""
    shown = Table(
        box=box.SIMPLE_HEAD,
        title=(
            f"Validation top-1 % by train images per class: mean of {design.draws} draws, ± 95 % "
            f"over draws; all: [95 % over {design.validation_images} validation images]"
        ),
        title_justify="left",
    )
    shown.add_column("method", no_wrap=True)
    shown.add_column("weights", no_wrap=True)
    for heading in (*map(str, design.sizes[:-1]), f"all ({design.images[-1]:,})"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for each in sorted(curves, key=lambda each: -each.sampled.value):
        cells = [
            f"{100 * mean:.1f}\n±{100 * (high - low) / 2:.1f}" for mean, low, high in each.intervals[:-1]
        ]
        value, low, high = each.sampled
        last = f"{100 * value:.1f}\n[{100 * low:.1f}, {100 * high:.1f}]"
        shown.add_row(each.method, MARKS[each.weights], *cells, last)
    return shown
