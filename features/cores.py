"""How many cores there are for this process: fewer than the machine's in a container or under `taskset`."""

import os


def cores() -> int:
    """Cores that this process may run on."""
    # What os.process_cpu_count gives from Python 3.13 on
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
