"""The baselines at the price of the best head: what they reach in the time that it took.

    for row in equal_budget(project, head):
        row.mode, row.epoch, row.validation_top1

From the history of each baseline's first recipe, which is what a single run would take. By
validation rows alone: no test row is looked at for it.
"""

from dataclasses import dataclass

from pipeline import finetune
from pipeline.lines import Line
from pipeline.project import Project, read_json
from pipeline.ranking import rank


@dataclass(frozen=True)
class EqualBudget:
    """One baseline.

    Attributes
    ----------
    seconds : float
        Allowed: what the best head took, its features included.
    epoch : int or None
        The best that one run finished by then, 0 for its start; None where not even that was ready.
    validation_top1 : float or None
        There; `tuned_top1` is that of the whole sweep.
    """

    mode: str
    head: str
    head_top1: float
    seconds: float
    epoch: int | None
    validation_top1: float | None
    tuned_top1: float
    tuned_seconds: float

    @property
    def words(self) -> str:
        """In a sentence."""
        tuned = f"{100 * self.tuned_top1:.1f} % with all of its {self.tuned_seconds:.0f} s"
        if self.validation_top1 is None:
            return f"finetune.{self.mode}: not started yet; {tuned}"
        reached = "its start" if self.epoch == 0 else f"epoch {self.epoch}"
        return f"finetune.{self.mode}: {100 * self.validation_top1:.1f} % ({reached}); {tuned}"


def equal_budget(project: Project, head: Line | None) -> list[EqualBudget]:
    """Every baseline at the price of the best head; none where there is no head."""
    if head is None or head.validation_top1 is None:
        return []
    allowed = head.seconds + head.extraction_seconds
    found = []
    for mode in project.settings.finetune.modes:
        card, history = finetune.read_card(project, mode), finetune.read_history(project, mode)
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


def read(project: Project) -> list[EqualBudget]:
    """Read them from the last comparison."""
    return [EqualBudget(**row) for row in read_json(project.comparison)["equal_budget"]]
