"""Successive halving: who goes on, for how long; real runs on a tiny tail."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from features.errors import Diverged
from pipeline.finetuning.plan import Hyperparameters, epochs_in_all, rungs
from pipeline.finetuning.search import search
from pipeline.finetuning.trainer import Task


@pytest.mark.parametrize(
    ("candidates", "epochs", "want"),
    [
        (1, 4, [(4, 1)]),
        (2, 4, [(2, 1), (4, 1)]),
        (4, 4, [(1, 2), (2, 1), (4, 1)]),
        (3, 4, [(1, 2), (2, 1), (4, 1)]),
        (8, 80, [(10, 4), (20, 2), (40, 1), (80, 1)]),
        (8, 2, [(1, 4), (1, 2), (1, 1), (2, 1)]),  # few epochs: at once
    ],
)
def test_rungs(candidates: int, epochs: int, want: list[tuple[int, int]]) -> None:
    assert rungs(candidates, epochs, halve=True) == want
    assert rungs(candidates, epochs, halve=False) == [(epochs, 1)]


def test_epochs_in_all() -> None:
    assert epochs_in_all(1, 4, halve=True) == 4
    assert epochs_in_all(2, 4, halve=True) == 2 * 2 + 2
    assert epochs_in_all(4, 4, halve=True) == 4 * 1 + 2 * 1 + 2
    assert epochs_in_all(4, 4, halve=False) == 16


def at_rates(task: Callable[..., Task], tmp_path: Path, *rates: float) -> list[Task]:
    one = task("freeze:conv5_2", warmup=0)
    return [
        replace(one, hyperparameters=Hyperparameters(rate, 0.0), file=tmp_path / f"{number}.safetensors")
        for number, rate in enumerate(rates)
    ]


def test_the_better_half_goes_on(task: Callable[..., Task], tmp_path: Path) -> None:
    tasks = [replace(one, epochs=4) for one in at_rates(task, tmp_path, 0.01, 1e-12, 0.02)]
    best, states = search(tasks, halve=True)
    assert best == 1  # the others unlearn
    assert sorted(state.epochs for state in states.values()) == [1, 2, 4]
    assert states[1].epochs == 4
    everyone = search([replace(one, file=one.file.with_suffix(".all")) for one in tasks], halve=False)
    assert everyone[0] == 1
    assert {state.epochs for state in everyone[1].values()} == {4}
    assert [epoch.rank for epoch in everyone[1][1].history] == [epoch.rank for epoch in states[1].history]


def test_what_diverges_is_left_out_and_said(
    task: Callable[..., Task], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = at_rates(task, tmp_path, 1e36, 0.01)
    best, states = search(wild, halve=True)
    assert (best, set(states)) == (1, {1})
    assert "diverged at learning rate 1e+36" in capsys.readouterr().out
    with pytest.raises(Diverged):
        search(wild[:1], halve=True)
