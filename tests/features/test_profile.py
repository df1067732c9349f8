"""Seconds by stage: nested stages, several threads, waiting."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from features.profile import Stopwatch, peak


def test_an_inner_stage_is_not_counted_in_the_outer_one() -> None:
    watch = Stopwatch()
    begun = time.perf_counter()
    with watch("outer"):
        time.sleep(0.05)
        with contextlib.suppress(KeyError), watch("inner"):
            time.sleep(0.1)
            raise KeyError
        with watch("outer"):
            time.sleep(0.05)
    passed = time.perf_counter() - begun
    assert watch.seconds["inner"] >= 0.1
    assert watch.seconds["outer"] >= 0.1
    assert sum(watch.seconds.values()) == pytest.approx(passed, abs=0.05)
    assert watch.seconds["never"] == 0


def test_threads_add_up() -> None:
    watch = Stopwatch()

    def work(_: int) -> None:
        with watch("work"):
            time.sleep(0.05)

    with ThreadPoolExecutor(4) as pool, watch("all"):
        list(pool.map(work, range(8)))
    assert watch.seconds["work"] >= 8 * 0.05
    assert watch.seconds["all"] >= 2 * 0.05  # another thread's stages are not inner ones


def test_waiting_for_each() -> None:
    watch = Stopwatch()

    def slow():  # type: ignore[no-untyped-def]
        for number in range(3):
            time.sleep(0.02)
            yield number

    begun, got = time.perf_counter(), []
    for number in watch.each("waiting", slow()):
        time.sleep(0.05)  # is not waiting
        got.append(number)
    assert got == [0, 1, 2]
    assert 0.06 <= watch.seconds["waiting"] <= time.perf_counter() - begun - 3 * 0.05


def test_peak_is_of_a_plausible_size() -> None:
    assert 1 < peak("cpu", "fp32") < 1e5
