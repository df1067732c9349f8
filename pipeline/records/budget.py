"""What the baselines reach at the price of the best head, as the last comparison has it."""

from dataclasses import dataclass

from pipeline.project import Project, read_json


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


def read_budget(project: Project) -> list[EqualBudget]:
    """Read them from the last comparison."""
    return [EqualBudget(**row) for row in read_json(project.comparison)["equal_budget"]]
