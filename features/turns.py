"""Who computes when, and what a fork leaves of it.

    with turn:                          # one forward at a time: each takes all cores
        side_by_side(work, threads)
    starts_threads("torch")             # BadInput in a process forked after torch had computed

A lock costs nothing here: several forwards at once would share the same cores, and each need memory
of its own. A fork waits for the forward under way; the new process has a free lock and threads of its
own. OpenMP's threads, which torch and scikit-learn compute with, cannot be had again after a
fork: the next product would wait for ever, and is refused instead.

References
----------
https://gcc.gnu.org/bugzilla/show_bug.cgi?id=58378 (libgomp hangs in a forked process)
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from features.errors import BadInput

turn = Lock()
_pools: dict[int, ThreadPoolExecutor] = {}  # by their number of threads
_computed: dict[str, int] = {}  # by library, the process in which its threads were started


def _forked() -> None:
    _pools.clear()  # their threads are the parent's
    turn.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=turn.acquire, after_in_parent=turn.release, after_in_child=_forked)


def side_by_side(work: Callable[[], None], threads: int) -> None:
    """Call `work` in so many threads at once, and wait for all of them; only within a `turn`."""
    if threads not in _pools:
        _pools[threads] = ThreadPoolExecutor(threads, "forward")
    futures = [_pools[threads].submit(work) for _ in range(threads)]
    failed = [error for future in futures if (error := future.exception())]
    if failed:
        raise failed[0]


def starts_threads(library: str) -> None:
    """Note that a library computes here, with threads that do not survive a fork.

    Raises
    ------
    BadInput
        In a process that was forked from one in which it had computed.
    """
    if _computed.setdefault(library, os.getpid()) != os.getpid():
        raise BadInput(
            f"{library} computed before this process was forked, and its threads do not survive that; "
            "start processes by spawn, or let each open its own after the fork, before any computes "
            "(docs/predict.md)"
        )
