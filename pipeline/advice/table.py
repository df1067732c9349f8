"""Advice on the terminal: the scores, the scenario, what each way brings and costs, and who was right."""

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table

from features.progress import clock
from features.weights import UNTRAINED
from pipeline.advice.advice import Advice
from pipeline.advice.hindsight import KINDS, OTHERS, Hindsight
from pipeline.advice.scenario import FULL, LARGE, SCRATCH
from pipeline.records.comparison import Line
from pipeline.terminal import MARKS, plain_console

CAVEAT = (
    "A heuristic with declared thresholds. Its scores are validated for choosing among networks, not between "
    "a head and fine-tuning on one network: train both where it matters (docs/advice.md)."
)
WAYS = (
    "What to expect; ◂ advised. Accuracy: measured on validation images, by the probe, or the head's with "
    "what was published for other backbones on top. Time: on this machine"
)
VERDICTS = {"right": "it was right", "wrong": "it was WRONG", "undecided": "it is too close to tell"}


def show(advice: Advice) -> None:
    """Print everything."""
    console = plain_console()
    console.print(scores(advice))
    for part in (_size(advice), *_similarity(advice), *_advised(advice)):
        console.print(part)
    console.print(prices(advice))
    console.print(f"Training is reckoned at {advice.rates.training:.0f} GFLOP/s ({advice.rates.source}).")
    console.print(CAVEAT)
    _print_hindsight(console, advice.hindsight)


def scores(advice: Advice) -> Table:
    """A row per layer, in the order of extract.layers."""
    drawn, (train, held) = advice.drawn, advice.images
    shown = Table(
        box=box.SIMPLE_HEAD,
        title=(
            f"Scores on {len(drawn.train):,} of {train:,} train images; probe: on {len(drawn.held):,} of "
            f"{held:,} validation images (guessing: {_percent(advice.chance)}); higher is better"
        ),
        title_justify="left",
    )
    shown.add_column("layer", no_wrap=True)
    shown.add_column("weights", no_wrap=True)
    for heading in ("width", "5-NN %", "linear probe % [95 %]", "LogME"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for each in advice.layers:
        value, low, high = each.probe
        shown.add_row(
            each.layer + (" ◂" if each is advice.best else ""),
            MARKS[each.weights],
            f"{each.width:,}",
            _percent(each.five, unit=""),
            f"{_percent(value, unit='')} [{_percent(low, unit='')}, {_percent(high, unit='')}]",
            f"{each.logme:.3f}",
        )
    return shown


def _size(advice: Advice) -> str:
    mean, least = advice.per_class
    word = "many" if advice.scenario.large else "few"
    return f"Size: {word}: {mean:.0f} train images per class (least: {least:,}); many from {LARGE}."


def _similarity(advice: Advice) -> Iterator[str]:
    word = "similar" if advice.scenario.similar else "different"
    yield f"Similarity to the pretraining data, by {advice.best.layer} ◂: {word}; all of these have to hold:"
    for check in advice.checks:
        sign, mark = ("≤", "≥")[check.at_least], "yes" if check.passed else "NO"
        yield f"  {mark:<3s}  {check.name}: {check.value:.2f} ({sign} {check.threshold:.2f})"
    if len(advice.checks) == 1:
        yield "  (without the control, extract.pixels, there is nothing to set the features against)"


def _advised(advice: Advice) -> Iterator[str]:
    found = advice.scenario
    yield f"\nScenario: {found.name}."
    yield f"  The classic rule says: {found.says}: {advice.method(found.classic)}."
    yield f"  We advise: {advice.method(found.advised)}."
    for reason in found.reasons:
        yield f"  – {reason[0].upper()}{reason[1:]}."
    for way, words in ((FULL, "fine-tuning all layers"), (SCRATCH, "training from scratch")):
        if gain := found.published(way):
            low, high = gain.points
            yield (
                f"  – Published, other backbones ({', '.join(gain.data)}): {words} moved accuracy by "
                f"{low:+.1f} to {high:+.1f} points from a frozen head's."
            )
    pixels = next((each for each in advice.layers if each.weights == "none"), None)
    if pixels and pixels.best >= advice.best.best:
        yield (
            "  – The images themselves, without a network, do as well or better "
            f"({_percent(pixels.best)} against {_percent(advice.best.best)}): try heads on pixels first."
        )


def prices(advice: Advice) -> Table:
    """A row per way: expected accuracy, and seconds."""
    shown = Table(
        box=box.SIMPLE_HEAD,
        title=WAYS,
        title_justify="left",
    )
    for heading in ("way", "weights"):
        shown.add_column(heading, no_wrap=True)
    shown.add_column("top-1 %", justify="right", no_wrap=True)
    shown.add_column("known", no_wrap=True)
    for heading in ("once", "an epoch", "all"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("time is", no_wrap=True)
    advised = advice.method(advice.scenario.advised)
    for way in advice.ways:
        cost = way.price
        value = "" if way.value is None else f"{_percent(way.value, unit='')} "
        if way.low is None or way.high is None:
            text = "?"
        else:
            text = f"{value}[{_percent(way.low, unit='')}, {_percent(way.high, unit='')}]"
        times = [_time(seconds) for seconds in (cost.once, cost.epoch, cost.total)]
        mark = " ◂" if way.method == advised else ""
        shown.add_row(way.method + mark, MARKS[way.weights], text, way.source, *times, cost.source)
    return shown


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else clock(seconds)


def _percent(share: float, unit: str = " %") -> str:
    return f"{100 * share:.1f}{unit}"


def _print_hindsight(console: Console, hindsight: Hindsight | str) -> None:
    if isinstance(hindsight, str):
        console.print(f"\nWhether this is right cannot be said yet: {hindsight}.")
        return
    for sentence in judgement(hindsight):
        console.print(sentence)


def judgement(hindsight: Hindsight) -> Iterator[str]:
    """What the last comparison says of the advice, in sentences."""
    kind, first = KINDS[hindsight.kind], hindsight.advised
    if first is None or OTHERS not in hindsight.rivals:
        missing = kind if first is None else "method of another kind"
        yield f"\nWhether this is right cannot be said: the last comparison has no {missing}."
        return
    yield (
        f"\nWas it right? By the last comparison {VERDICTS[hindsight.verdict]}. What was advised stands as "
        f"{_line(first)}, on {hindsight.test_images} test images (the best are chosen on validation images):"
    )
    for name, rival in hindsight.rivals.items():
        if rival.difference is None:
            yield f"  the same choice as {name}"
            continue
        value, low, high = (100 * number for number in rival.difference)
        yield f"  {value:+.1f} points [{low:+.1f}, {high:+.1f}] against {name}: {_line(rival.line)}"


def _line(line: Line) -> str:
    mark = f", {line.weights} weights" if line.weights in UNTRAINED else ""
    return f"{line.method} ({_percent(line.top1)}{mark})"
