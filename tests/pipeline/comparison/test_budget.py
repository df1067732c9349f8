"""Baselines at the price of the best head: from a hand-written history."""

from types import SimpleNamespace

import pytest

from features.immutable import sealed
from pipeline.comparison.budget import equal_budget
from pipeline.project import Project
from pipeline.records.budget import EqualBudget

HISTORY = (
    "run,learning_rate,weight_decay,epoch,train_loss,"
    "validation_top1,validation_log_loss,validation_score,seconds"
    """
0,0.001,0,0,nan,0.80,1,0.80,1
0,0.001,0,1,1,0.70,1,0.70,10
0,0.001,0,2,1,0.90,1,0.90,10
1,0.0003,0,0,nan,0.80,1,0.80,1
1,0.0003,0,1,1,0.95,1,0.95,10
"""
)  # 32 s in all


@pytest.mark.parametrize(
    ("allowed", "epoch", "top1"),
    [
        (10.0, None, None),  # 4 s for the frozen part, 8 for the rest of a start, 1 for epoch 0
        (13.0, 0, 0.80),
        (32.9, 0, 0.80),  # epoch 1 is there, and worse
        (33.0, 2, 0.90),
        (1000.0, 2, 0.90),  # the second recipe is no part of a single run
    ],
)
def test_what_one_run_reaches_in_that_time(
    prepared: Project, allowed: float, epoch: int | None, top1: float | None
) -> None:
    folder = prepared.finetune_folder("full")
    folder.mkdir(parents=True)
    (folder / "history.csv").write_text(HISTORY)
    card = {"seconds": 40.0, "prefix": {"seconds": 4.0}, "validation": {"top1": 0.95}}
    (folder / "card.json").write_bytes(sealed(card))
    head = SimpleNamespace(
        method="pool5.logreg", validation_top1=0.9, seconds=allowed - 5, extraction_seconds=5.0
    )
    [row] = equal_budget(prepared, head)  # type: ignore[arg-type]
    assert row == EqualBudget("full", "pool5.logreg", 0.9, allowed, epoch, top1, 0.95, 44.0)
    assert not equal_budget(prepared, None)
