"""Was the advice right? It meets the last comparison, and the rules that it has to beat.

    lines, test_images = current_lines(project, manifest)
    found = judge(project, lines, advised="finetune.full", large=False)

Methods are of four kinds: heads on frozen features, fine-tuned ones, from scratch, and those that use
no network. The best of each kind is chosen on validation rows; test rows say who was right.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from features.errors import BadInput
from features.manifest import Manifest
from pipeline.advice.prices import finished
from pipeline.advice.scenario import SCRATCH
from pipeline.comparison.bootstrap import bootstrap
from pipeline.project import Project
from pipeline.records.cards import BASELINES, command_of
from pipeline.records.comparison import ENSEMBLE, Line, read_lines, read_predictions
from pipeline.records.heads import TrainedHeads, layers_of, method_name
from pipeline.records.since import outdated
from pipeline.statistics.metrics import Interval
from pipeline.statistics.ranking import rank_of_methods

KINDS = {
    "head": "head on frozen features",
    "fine-tuned": "fine-tuned network",
    "scratch": "network trained from scratch",
    "no network": "head without a network",
}


OTHERS, HEADS, SIZE = "the best of all others", "always a head", "size alone"  # what has to be beaten


class Rival(NamedTuple):
    """What another rule would have taken, and the advised method's lead on test images; None: the same."""

    line: Line
    difference: Interval | None


@dataclass(frozen=True)
class Hindsight:
    """What a comparison says of the advice.

    Attributes
    ----------
    advised : Line or None
        What was advised, or the best of its kind; None where none was compared.
    rivals : dict of str to Rival
        The best of all other methods (or kinds), and what the trivial rules would have taken, where these
        were compared: a head whatever the images are; fine-tuning for many images and a head for few.
    """

    kind: str
    advised: Line | None
    rivals: dict[str, Rival]
    test_images: int

    @property
    def verdict(self) -> str:
        """`right`, `wrong`, or `undecided`: the interval has 0 in it, or one side was not compared."""
        difference = self.rivals[OTHERS].difference if OTHERS in self.rivals else None
        if difference is None or difference.low <= 0 <= difference.high:
            return "undecided"
        return "right" if difference.low > 0 else "wrong"


def kind_of(method: str, weights: str = "") -> str:
    """Which of `KINDS` a method is, by its name and its weights' label."""
    if method.startswith(BASELINES):
        return "scratch" if method == SCRATCH else "fine-tuned"
    return "no network" if weights == "none" else "head"


def judge(
    project: Project, lines: Sequence[Line], test_images: int, *, advised: str, large: bool
) -> Hindsight:
    """Compare what was advised with the best of the others, and with what trivial rules would take.

    What was advised is the very method, where that is a fine-tuned one that was compared, and
    otherwise the best of its kind.
    """
    best: dict[str, Line] = {}
    for line in lines:
        kind = kind_of(line.method, line.weights)
        if line.validation_score is not None and (kind not in best or _rank(line) > _rank(best[kind])):
            best[kind] = line
    kind = kind_of(advised)
    # The very method where it was compared, which then has to beat its own kind, too
    named = next((line for line in lines if line.method == advised and kind != "head"), None)
    first = named or best.get(kind)
    others = [
        line
        for line in lines
        if line.validation_score is not None
        and line is not first
        and (named is not None or kind_of(line.method, line.weights) != kind)
    ]
    taken = {
        OTHERS: max(others, key=_rank, default=None),
        HEADS: best.get("head"),
        SIZE: best.get("fine-tuned" if large else "head"),
    }
    found = {name: line for name, line in taken.items() if line} if first else {}
    differences = _differences(project, first, list(found.values())) if first else []
    rivals = {
        name: Rival(line, None if line is first else difference)
        for (name, line), difference in zip(found.items(), differences, strict=True)
    }
    return Hindsight(kind, first, rivals, test_images)


def _rank(line: Line) -> tuple[float, float]:
    return rank_of_methods(line.validation_score or 0.0, line.validation_log_loss or 0.0)


def _differences(project: Project, first: Line, others: Sequence[Line]) -> list[Interval]:
    """Of top-1 accuracy, from each of the others, on the same test rows."""
    settings = project.settings.compare
    read = [read_predictions(project, line.method) for line in (first, *others)]
    one, *rest = bootstrap(read, resamples=settings.resamples, seed=settings.seed, only=("top1",))
    return [(one["top1"] - other["top1"]).interval for other in rest]


def current_lines(project: Project, manifest: Manifest) -> tuple[list[Line], int]:
    """Read the last comparison.

    Raises
    ------
    BadInput
        Where there is none, or it is not of what is trained now.
    """
    lines, test_images = read_lines(project)
    named = set(_methods(project, manifest))
    compared = {line.method for line in lines} - {ENSEMBLE}
    if differ := sorted((named ^ compared) | set(outdated(project))):
        raise BadInput(
            f"the last comparison is not of what is trained now ({', '.join(differ)}); "
            "run `python cli.py compare` first"
        )
    return lines, test_images


def _methods(project: Project, manifest: Manifest) -> Iterator[str]:
    """Every method that the settings name; BadInput where one is not current."""
    trained = TrainedHeads(project, manifest)
    for head in project.settings.heads.named():
        for layer in layers_of(project, head):
            trained.card(head, layer)
            yield method_name(head, layer)
    for mode in project.settings.finetune.modes:
        if finished(project, manifest, mode) is None:
            raise BadInput(f"{BASELINES}{mode} is not trained; run `{command_of(BASELINES + mode)}` first")
        yield f"{BASELINES}{mode}"
