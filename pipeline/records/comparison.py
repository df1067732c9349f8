"""What was compared, a line for each method, as `artifacts/comparison.json` has it.

lines, test_images = read_lines(project)
best_head(lines), baseline_of(lines)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from features.errors import BadInput
from features.files import sha256_file
from features.weights import marked
from pipeline.project import Project, read_json
from pipeline.records.cards import BASELINES
from pipeline.records.predictions import Predictions
from pipeline.records.prices import Price
from pipeline.statistics.ranking import rank_of_methods, simplicity

if TYPE_CHECKING:
    from pipeline.statistics.metrics import Interval

ENSEMBLE = "ensemble"
# Labels of weights: an ensemble is as good as its worst
TRUST = ("none", "imagenet", "file", "untrained", "random")
DIFFERENCES = (
    "difference", "difference_low", "difference_high", "p_value", "better", "worse",
    "log_loss_difference", "log_loss_difference_low", "log_loss_difference_high", "log_loss_p_value",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One line of the comparison; differences are from the baseline, None where there is none.

    Attributes
    ----------
    low, high : float
        Of top-1: Wilson's interval.
    validation_score : float or None
        What chooses, higher is better; None where all rows were fitted on. Its name is `chosen_by`.
    intervals : dict of [low, high]
        By stratified bootstrap, of `top1` (a cross-check), `macro_f1`, `log_loss`, `brier` and
        `calibration_error` (whose spread is no interval that covers: see `pipeline.comparison.bootstrap`).
    p_value : float or None
        McNemar's, of top-1; `log_loss_p_value` by permutation. Both corrected by Holm.
    majority : str
        The most frequent class of the train rows; `majority_top1` is its share of the test images, and
        `majority_p_value` McNemar's of "right as often as who always answers it", not corrected.
    missed : list of str
        Classes that have test images, none of which the method is right about.
    better, worse : int or None
        Test images that only this method, only the baseline, is right about.
    seed_top1 : list of float
        Test top-1 from each random start, the method's own first; empty where there is a single one.
    seconds : float
        What the method cost beyond extraction: tuning, or fine-tuning.
    extraction_seconds : float
        What computing its features cost, when they were computed.
    images_seen : int
        By a network in training, all runs together; 0 for a head.
    epoch : int or None
        Of a network's training, the one that was kept; 0 is its start. None for a head.
    """

    method: str
    weights: str
    validation_top1: float | None
    validation_log_loss: float | None
    validation_score: float | None
    chosen_by: str
    top1: float
    low: float
    high: float
    macro_f1: float
    log_loss: float
    brier: float
    calibration_error: float
    intervals: dict[str, list[float]]
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p_value: float | None
    majority: str
    majority_top1: float
    majority_p_value: float
    missed: list[str]
    better: int | None
    worse: int | None
    log_loss_difference: float | None
    log_loss_difference_low: float | None
    log_loss_difference_high: float | None
    log_loss_p_value: float | None
    seed_top1: list[float]
    seconds: float
    extraction_seconds: float
    trials: int
    images_seen: int
    trainable_parameters: int
    price: Price
    converged: bool
    chosen: str
    epoch: int | None

    @property
    def label(self) -> str:
        """The method's name in pictures, marked where its layer is computed with untrained weights."""
        return marked(self.method, self.weights)

    @property
    def seeds(self) -> "Interval | None":
        """Mean test top-1 over random starts and its interval; None where there is a single one."""
        from pipeline.statistics.metrics import mean_of_runs  # noqa: PLC0415 - scipy, for which predictions need not wait

        return mean_of_runs(self.seed_top1) if self.seed_top1 else None


def best_head(lines: Sequence[Line], *, control: bool = False) -> Line | None:
    """The head on frozen features that validation rows choose: choosing by test rows would flatter it.

    Of equals the simplest: by its head, then by how many numbers were trained. With `control`, the
    best of those that use no network instead.
    """
    heads = [line for line in lines if not line.method.startswith(BASELINES)]
    heads = [line for line in heads if (line.weights == "none") == control]
    scored = [line for line in heads if line.validation_score is not None]
    # Not in the order given, which may be that of test accuracies
    scored.sort(key=lambda line: (simplicity(line.method), line.trainable_parameters, line.method))
    return max(
        scored,
        key=lambda line: rank_of_methods(line.validation_score or 0.0, line.validation_log_loss or 0.0),
        default=None,
    )


def baseline_of(lines: Sequence[Line]) -> Line | None:
    """The method that differences are taken from: the one that has none itself."""
    with_baseline = any(line.difference is not None for line in lines)
    alone = [line for line in lines if line.method.startswith(BASELINES) and line.difference is None]
    return alone[0] if alone and (with_baseline or len(lines) == len(alone)) else None


def read_lines(project: Project) -> tuple[list[Line], int]:
    """Read the last comparison: its lines, and the number of test images.

    Raises
    ------
    BadInput
        Where there is none, or another version wrote it.
    """
    if not project.comparison.exists():
        raise BadInput(f"there is no {project.comparison}; run `python cli.py compare` first")
    content = read_json(project.comparison)
    try:
        return [Line(**line) for line in content["lines"]], int(content["test_images"])
    except (KeyError, TypeError) as error:
        raise BadInput(
            f"{project.comparison} is of another version ({error}); run `python cli.py compare` again"
        ) from error


def read_predictions(project: Project, method: str) -> Predictions:
    """Read a method's predictions of the test rows, as the last comparison has them.

    Raises
    ------
    BadInput
        Where they are others than were compared: a `compare` that is under way, or was cut off.
    """
    file = project.predictions_file(method)
    if sha256_file(file) != read_json(project.comparison).get("predictions", {}).get(method):
        raise BadInput(
            f"{file} is not of the comparison in {project.comparison}; run `python cli.py compare` again"
        )
    return Predictions.read(file)
