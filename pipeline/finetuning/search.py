"""Try several pairs of hyper-parameters for one run, and give up early on those that fall behind.

References
----------
Jamieson and Talwalkar, Non-stochastic Best Arm Identification, arXiv:1502.07943 (successive
halving).
"""

from collections.abc import Sequence

from features.errors import Diverged
from pipeline.finetuning.checkpoint import Checkpoint
from pipeline.finetuning.plan import rungs
from pipeline.finetuning.trainer import Task, train


def search(tasks: Sequence[Task], *, halve: bool) -> tuple[int, dict[int, Checkpoint]]:
    """Train tasks that differ in their hyper-parameters only.

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
