"""Choose normalisation and hyper-parameters on rows that a head was not fitted on.

tuned = tune(LogReg, {"C": [0.1, 1.0]}, ["l2", "standard"], [Fold(train, validation)], classes)

Test rows are never seen here.

References
----------
One-standard-error rule: Breiman et al., Classification and Regression Trees, 1984, section 3.4.3.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from features.errors import BadInput
from pipeline.heads.base import Head, Point, is_axis
from pipeline.heads.classifier import Classifier
from pipeline.heads.normalisation import Normalisation
from pipeline.statistics.calibration import calibrated, log_loss, temperature
from pipeline.statistics.scores import score
from pipeline.tuning.folds import CrossValidation, Fold, Rows
from pipeline.tuning.trials import Trial, mean

EXTENSIONS = 2  # times that a grid grows beyond an edge where the best point stands
ADDED = 2  # values each time


@dataclass(frozen=True)
class Tuned:
    """The winner, ready to use, and everything that was tried, the simplest first."""

    classifier: Classifier
    chosen: Trial
    trials: tuple[Trial, ...]
    edges: tuple[str, ...]  # parameters whose chosen value is the first or last tried
    nested: tuple[float, ...] = ()  # accuracies of nested cross-validation (see `nested`)


def tune(
    head: type[Head],
    grid: Mapping[str, Any],
    normalisations: Sequence[str],
    folds: Iterable[Fold],
    classes: Sequence[str],
    *,
    by: str = "top1",
    rule: str = "best",
    refit: Rows | None = None,
) -> Tuned:
    """Fit every point on each fold's train rows; choose by its held rows, and fit its temperature there.

    Each of an image's k views weighs 1/k in fitting; scored are the images, by
    probabilities averaged over their views. Where the best value is the last of a grid, and
    ahead of all others by more than chance, the grid is extended.

    Parameters
    ----------
    folds : iterable
        The same folds every time.
    by : {"top1", "macro-f1", "log-loss"}
        The score that chooses.
    rule : {"best", "one-standard-error"}
        The latter takes the simplest head that is within a standard error of the best score.
    refit : Rows, optional
        Fit what was chosen on these once more: needed where there are several folds.

    Raises
    ------
    BadInput
        For train rows that lack a class.
    """
    search = _Search(head, grid, folds, classes, by)
    search.run(normalisations, grid)
    for _ in range(EXTENSIONS):
        further = search.beyond()
        if not further:
            break
        search.run([search.best.normalisation], further)
    chosen = search.simplest() if rule == "one-standard-error" else search.best
    if refit is None and chosen is search.best:
        classifier = search.winner
    else:
        classifier = search.fit(chosen, refit or next(iter(folds)).train)
    classifier = replace(classifier, temperature=chosen.temperature)
    edges = tuple(f"{name} = {chosen.point[name]:g}" for name in search.edges(chosen))
    simplest_first = sorted(search.trials.values(), key=lambda trial: head.complexity(trial.point))
    return Tuned(classifier, chosen, tuple(simplest_first), edges)


Key = tuple[Any, ...]  # a normalisation and a point's values


class _Search:
    """What was tried so far, best first found."""

    def __init__(
        self,
        head: type[Head],
        grid: Mapping[str, Any],
        folds: Iterable[Fold],
        classes: Sequence[str],
        by: str,
    ) -> None:
        self.head, self.grid, self.folds, self.classes, self.by = head, grid, folds, classes, by
        self.images = _images(folds)
        self.trials: dict[Key, Trial] = {}
        self.winner: Classifier  # the best one's, of the last fold
        self.kept: Trial | None = None

    @property
    def best(self) -> Trial:
        """The best one; of equals the simplest."""
        return self._best_of(self.trials.values())

    def _best_of(self, trials: Iterable[Trial]) -> Trial:
        """Of equals in score, log-loss and complexity, the first."""
        simple = sorted(trials, key=lambda trial: self.head.complexity(trial.point))
        return max(simple, key=lambda trial: trial.rank)

    def run(self, normalisations: Sequence[str], grid: Mapping[str, Any]) -> None:
        """Try a grid on every fold."""
        scores: dict[Key, list[Trial]] = {}
        for fold in self.folds:
            for kind in normalisations:
                for point, fitted in self._path(kind, grid, fold.train):
                    trial, classifier = self._scored(fitted, fold.held, point)
                    scores.setdefault((kind, *point.values()), []).append(trial)
                    if self.kept is None or self._best_of([self.kept, trial]) is trial:
                        self.kept, self.winner = trial, classifier
        self.trials |= {key: mean(trials) for key, trials in scores.items()}

    def fit(self, trial: Trial, rows: Rows) -> Classifier:
        """Fit one point."""
        others = {name: value for name, value in trial.point.items() if not is_axis(self.grid[name])}
        *_, (_, classifier) = self._path(trial.normalisation, {**self._only(trial), **others}, rows)
        return classifier

    def simplest(self) -> Trial:
        """Of the best one's normalisation, the simplest within a standard error of it."""
        best = self.best
        near = [
            trial
            for trial in self.trials.values()
            if trial.normalisation == best.normalisation and trial.score >= best.score - best.error
        ]
        return min(near, key=lambda trial: (self.head.complexity(trial.point), -trial.score))

    def edges(self, trial: Trial) -> dict[str, list[float]]:
        """Parameters of which a point has the first or last value tried: name → all values tried."""
        found = {}
        for name, value in trial.point.items():
            same = [
                other.point for other in self.trials.values() if other.normalisation == trial.normalisation
            ]
            tried = sorted({point[name] for point in same})
            if is_axis(self.grid[name]) and len(tried) > 2 and value in (tried[0], tried[-1]):
                found[name] = tried
        return found

    def beyond(self) -> dict[str, Any] | None:
        """The grid with values beyond the edges where the best point stands; None where there are none.

        An edge that is best by chance leads nowhere: it has to be ahead of every other value.
        """
        further, best = {}, self.best
        for name, tried in self.edges(best).items():
            others = [
                trial
                for trial in self.trials.values()
                if trial.normalisation == best.normalisation and trial.point[name] != best.point[name]
            ]
            if name in self.head.extends and best.is_ahead_of(self._best_of(others)):
                low = best.point[name] == tried[0]
                last, before = (tried[0], tried[1]) if low else (tried[-1], tried[-2])
                further[name] = tuple(last * (last / before) ** step for step in range(1, ADDED + 1))
        return {**self._only(best), **further} if further else None

    def _only(self, trial: Trial) -> dict[str, Any]:
        """The grid with one value on each axis."""
        axes = {name: (value,) for name, value in trial.point.items() if is_axis(self.grid[name])}
        return {**self.grid, **axes}

    def _path(self, kind: str, grid: Mapping[str, Any], rows: Rows) -> Iterator[tuple[Point, Classifier]]:
        missing = set(range(len(self.classes))) - set(rows.y.tolist())
        if missing:
            raise BadInput(
                f"class {self.classes[missing.pop()]!r} has no image in train; run `prepare` again"
            )
        flat = rows.flat()
        normalise = Normalisation(kind).fit(flat.X)
        for point, fitted in self.head.path(normalise(flat.X), flat.y, grid, rows.views):
            yield point, Classifier(normalise, fitted, 1.0, tuple(self.classes))

    def _scored(self, classifier: Classifier, held: Rows, point: Point) -> tuple[Trial, Classifier]:
        """Score one head on the rows held back, and fit its temperature there."""
        scores = classifier.scores(held.X)  # (n, n_classes) or (n, k, n_classes)
        T = temperature(scores, held.y, self.images)
        found = score(self.by, scores / T, held.y)
        trial = Trial(
            classifier.normalisation.kind,
            point,
            top1=float((calibrated(scores, T).argmax(axis=1) == held.y).mean()),
            score=found.value,
            error=found.error,
            log_loss=log_loss(scores / T, held.y),
            temperature=T,
            converged=classifier.head.converged_,
            rows=found.rows,
        )
        return trial, replace(classifier, temperature=T)


def _images(folds: Iterable[Fold]) -> int:
    """How many images are held back in all, each counted once."""
    if isinstance(folds, CrossValidation):
        return len(folds.rows.y)
    return sum(len(fold.held.y) for fold in folds)


def nested(
    head: type[Head],
    grid: Mapping[str, Any],
    normalisations: Sequence[str],
    outer: CrossValidation,
    classes: Sequence[str],
    *,
    by: str = "top1",
    rule: str = "best",
) -> list[float]:
    """Accuracy of the whole tuning, on rows that none of it saw: one for each outer fold.

    The accuracy by which a point was chosen flatters it; this does not.
    """
    accuracies = []
    for train, held in outer:
        inner = replace(outer, rows=train, repeats=1)
        tuned = tune(head, grid, normalisations, inner, classes, by=by, rule=rule, refit=train)
        answers = tuned.classifier.predict_proba(held.X).argmax(axis=1)
        accuracies.append(float((answers == held.y).mean()))
    return accuracies
