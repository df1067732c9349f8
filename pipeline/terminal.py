"""Tables and sentences on standard output: plain for pipes, never folded or cut where it matters."""

import sys

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

PLAIN_WIDTH = 120  # columns, where the output is not a terminal
MARKS = {"untrained": "UNTRAINED", "random": "RANDOM", "file": "file", "imagenet": "ImageNet", "none": "–"}


def plain_console() -> Console:
    """Standard output for data: no markup in it; for pipes its width is set, where rich would fold at 80."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def print_whole(console: Console, table: Table) -> None:
    """Print a table in its full width: rich would cut cells, "UNTRAINED" among them, to make it fit."""
    before = console.width
    wanted = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    console.width = max(wanted, before)
    console.print(table)
    console.width = before
