"""What a piece of work costs besides seconds: processor time and memory.

with Meter("cuda:0") as meter:
    ...
meter.cost["peak_memory"]
"""

import threading
import time
from types import TracebackType
from typing import Self

import psutil

from pipeline.records.prices import Cost

PERIOD = 0.05  # seconds between two looks at the memory


class Meter:
    """Measures what happens inside `with`; `cost` is there afterwards.

    Parameters
    ----------
    device : str
        Where torch works: "cpu", "cuda:0", "mps".
    """

    cost: Cost

    def __init__(self, device: str = "cpu") -> None:
        self._gpu = device if device.startswith("cuda") else None

    def __enter__(self) -> Self:
        """Begin."""
        self._process, self._peak, self._over = psutil.Process(), 0, threading.Event()
        if self._gpu:
            import torch  # noqa: PLC0415 - slow, and not needed without a GPU

            torch.cuda.reset_peak_memory_stats(self._gpu)
        self._cpu = time.process_time()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, and say what it was."""
        self._over.set()
        self._watch.join()
        self.cost = Cost(
            cpu_seconds=round(time.process_time() - self._cpu, 3),
            peak_memory=self._peak,
            gpu_memory=self._gpu_memory(),
        )

    def _gpu_memory(self) -> int | None:
        if self._gpu is None:
            return None
        import torch  # noqa: PLC0415 - as above

        return torch.cuda.max_memory_allocated(self._gpu)

    def _look(self) -> None:
        while True:
            self._peak = max(self._peak, self._process.memory_info().rss)
            if self._over.wait(PERIOD):
                return
