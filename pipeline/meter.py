"""What a piece of work costs besides seconds: processor time, memory, energy.

with Meter() as meter:
    ...
meter.cost["peak_memory"]
"""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

import psutil

POWERCAP = Path("/sys/class/powercap")
PERIOD = 0.05  # seconds between two looks at the memory


class Cost(TypedDict):
    """What was spent; None where it was not measured, or the machine does not tell.

    `cpu_seconds` of all cores together; `peak_memory` resident bytes, of the whole process;
    `joules` of the whole machine's processors.
    """

    cpu_seconds: float | None
    peak_memory: int | None
    joules: float | None


UNKNOWN = Cost(cpu_seconds=None, peak_memory=None, joules=None)


class Meter:
    """Measures what happens inside `with`; `cost` is there afterwards."""

    cost: Cost

    def __enter__(self) -> Self:
        """Begin."""
        self._process, self._peak, self._over = psutil.Process(), 0, threading.Event()
        self._energy, self._cpu = _energy(), time.process_time()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, and say what it was."""
        self._over.set()
        self._watch.join()
        joules = {
            name: (after - self._energy[name][0]) % self._energy[name][1]  # counters begin again
            for name, (after, _) in _energy().items()
            if name in self._energy
        }
        self.cost = Cost(
            cpu_seconds=round(time.process_time() - self._cpu, 3),
            peak_memory=self._peak,
            joules=round(sum(joules.values()) / 1e6, 1) if joules else None,
        )

    def _look(self) -> None:
        while True:
            self._peak = max(self._peak, self._process.memory_info().rss)
            if self._over.wait(PERIOD):
                return


def _energy() -> dict[str, tuple[int, int]]:
    """Microjoules that each processor package has used, and where its counter begins again (Linux)."""
    found = {}
    for package in POWERCAP.glob("intel-rapl:*"):
        if package.name.count(":") == 1:  # parts of a package are counted in it
            try:
                used, limit = ((package / name).read_text() for name in ("energy_uj", "max_energy_range_uj"))
                found[package.name] = int(used), int(limit)
            except (OSError, ValueError):  # most systems let the superuser alone read it
                continue
    return found


def together(costs: Sequence[Cost]) -> Cost:
    """Join the costs of works done one after the other; what is unknown of one is unknown of all."""
    cpu = [cost["cpu_seconds"] for cost in costs]
    memory = [cost["peak_memory"] for cost in costs]
    joules = [cost["joules"] for cost in costs]
    return Cost(
        cpu_seconds=None if None in cpu else round(sum(filter(None, cpu)), 3),
        peak_memory=None if None in memory else max(filter(None, memory), default=0),
        joules=None if None in joules else round(sum(filter(None, joules)), 1),
    )
