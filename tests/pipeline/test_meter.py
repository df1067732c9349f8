"""What work costs, measured on work whose cost is known."""

import time

import numpy as np

from pipeline.meter import Meter
from pipeline.records.prices import Cost, together


def test_processor_time_is_not_wall_time() -> None:
    with Meter() as asleep:
        time.sleep(0.3)
    with Meter() as busy:
        begun = time.process_time()
        while time.process_time() - begun < 0.3:
            pass
    assert (asleep.cost["cpu_seconds"] or 0) < 0.15
    assert (busy.cost["cpu_seconds"] or 0) >= 0.3


def test_peak_memory_holds_what_was_freed_again() -> None:
    with Meter() as before:
        pass
    with Meter() as meter:
        block = np.ones(30_000_000)  # 240 MB
        time.sleep(0.15)
        del block
    assert (meter.cost["peak_memory"] or 0) - (before.cost["peak_memory"] or 0) > 200e6


def test_an_error_ends_it_and_goes_on_up() -> None:
    meter = Meter()
    try:
        with meter:
            raise ValueError
    except ValueError:
        pass
    assert meter.cost["peak_memory"]


def test_costs_add_up_and_the_unknown_stays_unknown() -> None:
    one = Cost(cpu_seconds=1.5, peak_memory=10, gpu_memory=7)
    other = Cost(cpu_seconds=2.0, peak_memory=30, gpu_memory=None)
    both = Cost(cpu_seconds=3.5, peak_memory=30, gpu_memory=None)
    assert together([one, other]) == both
