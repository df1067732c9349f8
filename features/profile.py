"""Where the time of an extraction goes: seconds by stage, counted by several threads.

watch = Stopwatch()
with watch("forward"):
    ...
watch.seconds["forward"]
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

SIDE = {"cpu": 2048}  # of the square matrices whose product is the peak; elsewhere:
WIDE = 8192
PEAK_SECONDS = 0.3


class Stopwatch:
    """Adds up wall seconds by stage.

    Stages nest: what an inner one takes is not counted in the outer one of the same thread.

    Attributes
    ----------
    seconds : dict of str to float
        0 for a stage that never was.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._open = threading.local()  # stages: those this thread is in, the innermost last

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the block's seconds."""
        stages: list[str] = self._open.__dict__.setdefault("stages", [])
        stages.append(stage)
        begun = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - begun
            stages.pop()
            with self._lock:
                self.seconds[stage] += taken
                if stages:
                    self.seconds[stages[-1]] -= taken

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Pass items on, counting the seconds until each of them is there."""
        iterator = iter(items)
        while True:
            with self(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item


def peak(device: str, precision: str) -> float:
    """Measure what the device does at best, in GFLOP/s: one large matrix product in this precision."""
    import torch  # noqa: PLC0415 - slow to import, and seldom needed

    from features.engines.pytorch import DTYPES  # noqa: PLC0415 - imports torch

    side = SIDE.get(device, WIDE)
    matrix = torch.ones((side, side), dtype=DTYPES[precision], device=device)
    products = 0
    (matrix @ matrix)[0, 0].item()  # loads the kernel; waits for the device
    begun = time.perf_counter()
    while time.perf_counter() - begun < PEAK_SECONDS:
        (matrix @ matrix)[0, 0].item()
        products += 1
    return products * 2 * side**3 / (time.perf_counter() - begun) / 1e9
