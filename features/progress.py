"""Progress of long work: a bar on a terminal, a plain line every few seconds elsewhere.

with Progress("extract", total=1797, unit="images") as progress:
    progress.advance(64)
"""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

INTERVAL = 5.0  # seconds between plain lines: visible life in a log, not a flood
BRIEF = 1.0  # seconds; what took less needs no closing line


class Progress:
    """Count work done; show the rate and the time left."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0

    def __enter__(self) -> Self:
        self._start = self._shown = time.monotonic()
        self._bar: Bar | None = None
        if sys.stderr.isatty():
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.what, total=self.total, unit=self.unit, rate="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif kind is None and time.monotonic() - self._start >= BRIEF:
            self._line()

    def advance(self, count: int) -> None:
        """Count `count` more units as done."""
        self.done += count
        if self._bar:
            self._bar.update(self._task, advance=count, rate=f"{self._rate():.1f} {self.unit}/s")
        elif time.monotonic() - self._shown >= INTERVAL:
            self._line()

    def _rate(self) -> float:
        return self.done / max(time.monotonic() - self._start, 1e-9)

    def _line(self) -> None:
        self._shown = time.monotonic()
        left = (self.total - self.done) / max(self._rate(), 1e-9)
        print(
            f"{self.what}: {self.done}/{self.total} {self.unit}, {self._rate():.1f} {self.unit}/s, "
            f"{clock(left)} left",
            file=sys.stderr,
            flush=True,
        )


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, `3:07`, or hours, `1:03:07`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
