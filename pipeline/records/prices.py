"""What a method costs, and when the cache has paid for itself."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict


class Cost(TypedDict):
    """What a piece of work took (see `pipeline.meter`); None where it was not measured.

    `cpu_seconds` of all cores together; `peak_memory` resident bytes, of the whole process;
    `gpu_memory` bytes that torch held at most on the CUDA device.
    """

    cpu_seconds: float | None
    peak_memory: int | None
    gpu_memory: int | None


UNKNOWN = Cost(cpu_seconds=None, peak_memory=None, gpu_memory=None)


def together(costs: Sequence[Cost]) -> Cost:
    """Join the costs of works done one after the other; what is unknown of one is unknown of all."""

    def whole(key: str, join: Callable[[list[Any]], Any]) -> Any:
        parts = [cost.get(key) for cost in costs]
        return None if None in parts else join(parts)

    return Cost(
        cpu_seconds=whole("cpu_seconds", lambda parts: round(sum(parts), 3)),
        peak_memory=whole("peak_memory", max),
        gpu_memory=whole("gpu_memory", max),
    )


class Price(TypedDict):
    """None where it is not known.

    `device_seconds`: processor seconds of all cores together; on a GPU, how long it was held.
    `peak_memory`, `gpu_memory`: as `Cost` has them.
    `break_even`: trials, of heads against fine-tuning runs, after which extraction has paid for
    itself; None also where it never does, where there is no baseline, and where nothing is extracted.
    """

    device: str
    device_seconds: float | None
    peak_memory: int | None
    gpu_memory: int | None
    seconds_per_trial: float
    break_even: int | None


def price_of(card: Mapping[str, Any], per_trial: float, extraction: float, baseline: float | None) -> Price:
    """Price a method by its card.

    Parameters
    ----------
    per_trial, baseline : float
        Seconds that one more trial costs: of this method, and of the fine-tuned baseline.
    extraction : float
        Seconds that its features cost.
    """
    cost, device = UNKNOWN | card.get("cost", {}), card.get("device", "cpu")
    is_head = "prefix" not in card
    return Price(
        device=device,
        device_seconds=cost["cpu_seconds"] if device == "cpu" else card["seconds"],
        peak_memory=cost["peak_memory"],
        gpu_memory=cost["gpu_memory"],
        seconds_per_trial=round(per_trial, 4),
        break_even=break_even(extraction, per_trial, baseline) if is_head and baseline else None,
    )


def break_even(extraction: float, per_trial: float, baseline: float) -> int | None:
    """Trials from which on extraction + trials · per_trial is below trials · baseline; None for never.

    None also where nothing has to be extracted.
    """
    if not extraction or per_trial >= baseline:
        return None
    return math.floor(extraction / (baseline - per_trial)) + 1
