"""Forked processes in tests: what they answer, with a limit for those that hang."""

import os
import pickle
import signal
from collections.abc import Callable

import pytest

HANG = 60  # seconds until a process that does not answer is taken for one that hangs

fork_while_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def in_a_fork(function: Callable[[], object]) -> object:
    """What a forked process makes of it, or its exception; fails where it hangs."""
    here, there = os.pipe()
    child = os.fork()
    if not child:
        try:
            signal.alarm(HANG)  # nobody waits for it then
            try:
                found = function()
            except Exception as error:  # noqa: BLE001 - the parent looks at it
                found = error
            os.write(there, pickle.dumps(found))
        finally:
            os._exit(0)
    os.close(there)
    with os.fdopen(here, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    assert data, "the forked process hung"
    return pickle.loads(data)
