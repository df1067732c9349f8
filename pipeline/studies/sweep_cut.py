"""Where to cut: every way to freeze the first layers and train the rest, side by side.

    python cli.py sweep-cut
    python cli.py sweep-cut --cut full --cut freeze:conv4_1 --seeds 5

Shorthand for `finetune` with all cuts and several seeds; runs are kept where it keeps them.
Writes `artifacts/studies/cut.json` (everything) and `artifacts/studies/cut.svg` (the picture), and prints a
table. Validation rows choose the cut. Accuracy may dip in the middle, where layers that
learned together are parted (Yosinski et al., arXiv:1411.1792): nothing is interpolated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from features.cuts import CUTS, FREEZE, IMAGE, cuts_below, parse_mode, top_layer
from features.errors import BadInput
from features.files import write_json, written_aside
from features.manifest import Manifest
from features.weights import marked
from pipeline.finetuning.plan import plans
from pipeline.finetuning.run import obtained
from pipeline.plots import BASELINE, HEAD, INK, svg
from pipeline.project import Project
from pipeline.records.cards import read_card
from pipeline.records.runs import reached
from pipeline.statistics.metrics import mean_of_runs
from pipeline.studies.learning_curve import over_draws
from pipeline.terminal import plain_console


@dataclass(frozen=True)
class Cut:
    """One cut, trained with several seeds.

    Attributes
    ----------
    mode : str
        `full`, `freeze:conv1_1`, ….
    runs : str per seed
        Fingerprints: each run's folder in the cache, whose card says what it depends on.
    trainable : int
        Numbers that are trained.
    validation, test : float per seed
        Top-1 accuracy.
    scores : float per seed
        What chooses, of validation rows (`tuning.score`).
    seconds : float per seed
        Of training.
    prefix_seconds : float
        That the frozen part's activations cost once, where they come from the cache.
    """

    mode: str
    runs: tuple[str, ...]
    weights: str
    trainable: int
    validation: tuple[float, ...]
    test: tuple[float, ...]
    scores: tuple[float, ...]
    seconds: tuple[float, ...]
    prefix_seconds: float
    cached: bool

    @property
    def label(self) -> str:
        """The last frozen layer, or the mode's name."""
        return self.mode.removeprefix(FREEZE)

    @property
    def frozen(self) -> str:
        """Where the frozen part's activations come from."""
        if CUTS.get(self.mode) == IMAGE:
            return "–"
        return f"cached, {self.prefix_seconds:.0f} s once" if self.cached else "computed"


def sweep_cut(project: Project, names: Sequence[str] = (), *, seeds: int = 3) -> list[Cut]:
    """Train the tail for every cut and seed; write, draw and print what came of it.

    Parameters
    ----------
    names : modes; none for `full` and every layer with parameters below the output layer
    seeds : int
        Runs of each cut: `finetune.seed` and the numbers after it.

    Raises
    ------
    BadInput
        As `finetune`.
    """
    if seeds < 1:
        raise BadInput(f"--seeds should be at least 1 (received {seeds})")
    manifest, network = project.read_manifest(), project.settings.weights.network
    for name in names:
        parse_mode(name, network)
    if not names:
        top = top_layer(project.settings.finetune.top, parse_mode("full", network), project.read_weights())
        names = cuts_below(top)
    path = project.studies / "cut.json"
    with project.writing(project.finetune_folder()):
        cuts = [_trained(project, manifest, name, seeds) for name in dict.fromkeys(names)]
    with project.writing(path) as scratch:
        with written_aside(path.with_suffix(".svg"), scratch=scratch) as aside:
            aside.write_text(svg(picture(cuts)), "utf-8")
        write_json(path, _record(project, manifest, cuts, seeds), scratch=scratch)
    console = plain_console()
    console.print(table(cuts, len(manifest.where("validation")), len(manifest.where("test"))))
    console.print(words(cuts))
    console.print(f"Picture: {path.with_suffix('.svg')}", soft_wrap=True)
    return cuts


def _trained(project: Project, manifest: Manifest, name: str, seeds: int) -> Cut:
    asked = plans(project, manifest, name, seeds)
    folders = [obtained(plan) for plan in asked]
    cards = [read_card(folder, "python cli.py sweep-cut") for folder in folders]
    found = [reached(folder, plan.settings.seed) for folder, plan in zip(folders, asked, strict=True)]
    return Cut(
        name,
        tuple(folder.name for folder in folders),
        cards[0]["weights"],
        cards[0]["trainable_parameters"],
        tuple(seed.validation_top1 for seed in found),
        tuple(seed.test_top1 for seed in found),
        tuple(seed.validation_score for seed in found),
        tuple(card["seconds"] for card in cards),
        cards[0]["prefix"]["seconds"],
        cards[0]["prefix"]["cached"],
    )


def best(cuts: Sequence[Cut]) -> Cut:
    """The cut with the highest mean validation score; of equals the one that trains least."""
    return max(cuts, key=lambda cut: (round(float(np.mean(cut.scores)), 9), -cut.trainable))


def words(cuts: Sequence[Cut]) -> str:
    """What the sweep says in a sentence."""
    chosen = best(cuts)
    close = [
        cut.label for cut in cuts
        if cut is not chosen and mean_of_runs(cut.scores).high >= np.mean(chosen.scores)
    ]  # fmt: skip
    test = over_draws(chosen.test)
    also = f"; within its spread over seeds: {', '.join(close)}" if close else ""
    return (
        f"Best on validation rows: {chosen.label} "
        f"({100 * np.mean(chosen.validation):.1f} %, test {100 * test.value:.1f} %){also}."
    )


def table(cuts: Sequence[Cut], validation_images: int, test_images: int) -> Table:
    """One row per cut, the least frozen first."""
    seeds = len(cuts[0].seconds)
    shown = Table(
        box=box.SIMPLE_HEAD,
        title=f"Top-1 % by cut: mean of {seeds} seed{'s' if seeds > 1 else ''}, [95 % over seeds]",
        title_justify="left",
    )
    for heading in ("cut", f"validation ({validation_images:,})", f"test ({test_images:,})",
                    "trained parameters", "seconds a run", "frozen part"):  # fmt: skip
        shown.add_column(
            heading, justify="left" if heading.startswith(("cut", "frozen")) else "right", no_wrap=True
        )
    chosen = best(cuts)
    for cut in cuts:
        accuracy = [
            f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]" if seeds > 1 else f"{100 * value:.1f}"
            for value, low, high in (over_draws(cut.validation), over_draws(cut.test))
        ]
        name = marked(cut.label, cut.weights)
        shown.add_row(
            f"{name} *" if cut is chosen else name,
            *accuracy,
            f"{cut.trainable:,}",
            f"{np.mean(cut.seconds):.0f}",
            cut.frozen,
        )
    return shown


def picture(cuts: Sequence[Cut]) -> Figure:
    """Draw accuracy, seconds and trained parameters against the cut, each seed a point."""
    figure = Figure(figsize=(2.5 + 0.55 * len(cuts), 8), layout="constrained")
    accuracy, seconds, parameters = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1, 1))
    for values, colour, name in (("validation", HEAD, "validation"), ("test", BASELINE, "test")):
        _draw(accuracy, [tuple(100 * v for v in getattr(cut, values)) for cut in cuts], colour, name)
    accuracy.set_ylabel("top-1 accuracy, %")
    accuracy.set_ylim(top=min(accuracy.get_ylim()[1], 100.5))
    accuracy.legend(frameon=False, labelcolor=INK)
    _draw(seconds, [cut.seconds for cut in cuts], HEAD, "")
    seconds.set_ylabel("seconds a run")
    seconds.set_ylim(bottom=0)
    parameters.plot(range(len(cuts)), [cut.trainable / 1e6 for cut in cuts], "o", color=HEAD, markersize=4)
    parameters.set_ylabel("trained parameters, 10⁶")
    parameters.set_ylim(bottom=0)
    parameters.set_xticks(range(len(cuts)), [cut.label for cut in cuts], rotation=45, ha="right")
    parameters.set_xlabel("cut: the last frozen layer")
    for axes in (accuracy, seconds, parameters):
        axes.grid(alpha=0.3)
    return figure


def _draw(axes: Axes, values: Sequence[Sequence[float]], colour: str, name: str) -> None:
    """A point for each mean, a bar for its 95 % interval over seeds, a faint point for each seed."""
    shift = 0.12 if name == "test" else -0.12 if name else 0.0
    x = np.arange(len(values)) + shift
    intervals = [mean_of_runs(own) for own in values]
    axes.plot(x, [interval.value for interval in intervals], "o", color=colour, markersize=4, label=name)
    for position, interval, own in zip(x, intervals, values, strict=True):
        axes.plot([position, position], [interval.low, interval.high], color=colour, linewidth=1.5)
        axes.plot([position] * len(own), own, ".", color=colour, alpha=0.4, markersize=4)


def _record(project: Project, manifest: Manifest, cuts: Sequence[Cut], seeds: int) -> Mapping[str, Any]:
    return {
        "manifest": manifest.digest,
        "finetune": project.settings.finetune.model_dump(mode="json"),
        "score": project.settings.tuning.score,
        "seeds": seeds,
        "validation_images": len(manifest.where("validation")),
        "test_images": len(manifest.where("test")),
        "best": best(cuts).mode,
        "cuts": [
            {
                "mode": cut.mode,
                "runs": cut.runs,
                "weights": cut.weights,
                "trainable_parameters": cut.trainable,
                "validation_top1": cut.validation,
                "test_top1": cut.test,
                "seconds": cut.seconds,
                "prefix": {"cached": cut.cached, "seconds": cut.prefix_seconds},
            }
            for cut in cuts
        ],
    }
