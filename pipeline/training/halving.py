"""Try several recipes for one run, and give up early on those that fall behind.

References
----------
Jamieson and Talwalkar, Non-stochastic Best Arm Identification, arXiv:1502.07943 (successive
halving).
"""

import math
from collections.abc import Sequence

from pipeline.training.checkpoint import Checkpoint
from pipeline.training.trainer import Diverged, Task, train


def rungs(candidates: int, epochs: int, *, halve: bool) -> list[tuple[int, int]]:
    """After which epochs how many candidates go on: (epoch, candidates) pairs, the end last with one.

    Each time half of them, rounded up. The last rung but one is half-way, the one before at a
    quarter, and so on.
    """
    if not halve or candidates == 1:
        return [(epochs, 1)]
    count = math.ceil(math.log2(candidates))
    steps = [max(1, epochs // 2 ** (count - number)) for number in range(count)]
    return [
        *((epoch, math.ceil(candidates / 2 ** (number + 1))) for number, epoch in enumerate(steps)),
        (epochs, 1),
    ]


def epochs_in_all(candidates: int, epochs: int, *, halve: bool) -> int:
    """Count the epochs that all candidates are trained for together."""
    total, before, going_on = 0, 0, candidates
    for epoch, left in rungs(candidates, epochs, halve=halve):
        total += going_on * (epoch - before)
        before, going_on = epoch, left
    return total


def search(tasks: Sequence[Task], *, halve: bool) -> tuple[int, dict[int, Checkpoint]]:
    """Train tasks that differ in their recipe only.

    They are compared by their best epoch after the start, which is the same for all: by
    `tuning.score` of validation rows, ties by log-loss, then in the order given.

    Returns
    -------
    The best task's position, which was trained to its end, and how each stands, without tensors;
    one that diverged in its first epoch is missing.

    Raises
    ------
    Diverged
        Where every one does.
    """
    states: dict[int, Checkpoint] = {}
    left = list(range(len(tasks)))
    for epoch, going_on in rungs(len(tasks), tasks[0].epochs, halve=halve):
        for number in tuple(left):
            try:
                states[number] = train(tasks[number], epoch).without_tensors()
            except Diverged as error:
                left.remove(number)
                if not left:
                    raise
                print(f"{error}; {tasks[number].words} is left out", flush=True)
        left = sorted(sorted(left, key=lambda number: _rank(states[number]), reverse=True)[:going_on])
    return left[0], states


def _rank(state: Checkpoint) -> tuple[float, float]:
    return max(epoch.rank for epoch in state.history[1:])
