"""What a piece of work costs besides seconds: processor time, memory, energy.

with Meter("cuda:0") as meter:
    ...
meter.cost["peak_memory"]
"""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict

import psutil

POWERCAP = Path("/sys/class/powercap")
PERIOD = 0.05  # seconds between two looks at the memory


class Cost(TypedDict):
    """What was spent; None where it was not measured, or the machine does not tell.

    `cpu_seconds` of all cores together; `peak_memory` resident bytes, of the whole process;
    `joules` of the whole machine's processors. `gpu_memory` bytes that torch held at most on the CUDA
    device; `gpu_joules` of that device, whoever used it.
    """

    cpu_seconds: float | None
    peak_memory: int | None
    joules: float | None
    gpu_memory: int | None
    gpu_joules: float | None


UNKNOWN = Cost(cpu_seconds=None, peak_memory=None, joules=None, gpu_memory=None, gpu_joules=None)


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
            _forget_gpu_memory(self._gpu)
        self._gpu_energy = _gpu_energy(self._gpu)
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
        gpu_energy = _gpu_energy(self._gpu)
        self.cost = Cost(
            cpu_seconds=round(time.process_time() - self._cpu, 3),
            peak_memory=self._peak,
            joules=round(sum(joules.values()) / 1e6, 1) if joules else None,
            gpu_memory=_gpu_memory(self._gpu) if self._gpu else None,
            gpu_joules=(
                None
                if gpu_energy is None or self._gpu_energy is None
                else round((gpu_energy - self._gpu_energy) / 1e3, 1)
            ),
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


# torch and NVML are slow to import, and a comparison needs neither
def _forget_gpu_memory(device: str) -> None:
    import torch  # noqa: PLC0415

    torch.cuda.reset_peak_memory_stats(device)


def _gpu_memory(device: str) -> int:
    import torch  # noqa: PLC0415

    return torch.cuda.max_memory_allocated(device)


def _gpu_energy(device: str | None) -> int | None:
    """Millijoules that a CUDA device has used since its driver was loaded; None where NVML cannot say."""
    if device is None:
        return None
    import pynvml  # noqa: PLC0415
    import torch  # noqa: PLC0415

    try:
        pynvml.nvmlInit()
        # By identity, as NVML does not heed CUDA_VISIBLE_DEVICES: its numbers are not torch's
        identity = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(identity)))
    except pynvml.NVMLError:
        return None


def together(costs: Sequence[Cost]) -> Cost:
    """Join the costs of works done one after the other; what is unknown of one is unknown of all."""

    def whole(key: str, join: Callable[[list[Any]], Any]) -> Any:
        parts = [cost.get(key) for cost in costs]
        return None if None in parts else join(parts)

    def total(parts: list[float]) -> float:
        return round(sum(parts), 3)

    return Cost(
        cpu_seconds=whole("cpu_seconds", total),
        peak_memory=whole("peak_memory", max),
        joules=whole("joules", total),
        gpu_memory=whole("gpu_memory", max),
        gpu_joules=whole("gpu_joules", total),
    )
