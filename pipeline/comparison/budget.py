"""The baselines at the price of the best head: what they reach in the time that it took.

    for row in equal_budget(project, head):
        row.mode, row.epoch, row.validation_top1

From the history of each baseline's first pair of hyper-parameters, which is what a single run would take. By
validation rows alone: no test row is looked at for it.
"""

from pipeline.project import Project
from pipeline.records.budget import EqualBudget
from pipeline.records.comparison import Line
from pipeline.records.runs import read_history, read_run
from pipeline.statistics.ranking import rank


def equal_budget(project: Project, head: Line | None) -> list[EqualBudget]:
    """Every baseline at the price of the best head; none where there is no head."""
    if head is None or head.validation_top1 is None:
        return []
    allowed = head.seconds + head.extraction_seconds
    found = []
    for mode in project.settings.finetune.modes:
        card, history = read_run(project, mode), read_history(project, mode)
        epochs = sum(float(row["seconds"]) for row in history)
        elapsed = card["prefix"]["seconds"] + card["seconds"] - epochs  # everything besides the epochs
        best: tuple[tuple[float, float], int, float] | None = None  # rank, epoch, accuracy
        for row in history:
            if row["run"] != "0":
                continue
            elapsed += float(row["seconds"])
            if elapsed <= allowed:
                found_rank = rank(float(row["validation_score"]), float(row["validation_log_loss"]))
                reached = found_rank, int(row["epoch"]), float(row["validation_top1"])
                best = max(best or reached, reached)
        found.append(
            EqualBudget(
                mode, head.method, head.validation_top1, allowed, best and best[1], best and best[2],
                card["validation"]["top1"], card["prefix"]["seconds"] + card["seconds"],
            )
        )  # fmt: skip
    return found
