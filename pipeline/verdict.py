"""The comparison in a few sentences: which method, by how much, how sure, at what price.

    for sentence in verdict(lines, test_images):
        ...

It speaks of the head that validation rows choose and of the baseline; test rows choose nothing.
"""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from features.progress import clock
from features.weights import UNTRAINED
from pipeline.lines import BASELINES, Line, baseline_of, best_head
from pipeline.statistics import images_needed

LEVEL = 0.05  # of the tests, all comparisons together
LEAST = 0.001  # p-value that is written in figures
POWER = 0.8  # chance to find a difference with as many images as are said to be needed


def verdict(lines: Sequence[Line], test_images: int) -> list[str]:
    """Say what the numbers say, most important first."""
    head, baseline = best_head(lines), baseline_of(lines)
    sentences = []
    if head and baseline and head.difference is not None:
        comparisons = sum(line.p_value is not None for line in lines)
        sentences += [_difference(head, baseline, test_images, comparisons), *_price(head, baseline)]
    elif head:
        sentences += [f"{_chosen(head)}, tuned in {clock(head.seconds)} after an extraction of "
                      f"{clock(head.extraction_seconds)}."]  # fmt: skip
    if baseline is None:
        others = any(line.method.startswith(BASELINES) for line in lines)
        what = "The baseline (compare.baseline) was not" if others else "No fine-tuned baseline was"
        sentences.append(f"{what} run (finetune.modes), so differences are left out.")
    if baseline and baseline.epoch == 0:
        sentences.append(
            f"No epoch of {baseline.method} was better on validation rows than its start, which was kept: "
            "training the network gained nothing with the recipes that were tried. Others may: lower values "
            "of finetune.learning_rate first."
        )
    for line in (head, baseline):
        if line and line.weights in UNTRAINED:
            sentences.append(f"{line.method} is computed with {line.weights} weights.")
    sentences += [_spread(line, line is not baseline) for line in (head, baseline) if line and line.seed_top1]
    return [*sentences, *_control(head, best_head(lines, control=True))]


def p_value(value: float | None) -> str:
    """A p-value in figures; nothing for none."""
    if value is None:
        return ""
    return f"< {LEAST}" if value < LEAST else f"{value:.3f}"


def _top1(line: Line) -> str:
    return f"test top-1 {100 * line.top1:.1f} % [{100 * line.low:.1f}, {100 * line.high:.1f}]"


def _chosen(head: Line) -> str:
    return f"Best head on frozen features, chosen on validation rows: {head.method}, {_top1(head)}"


def _difference(head: Line, baseline: Line, test_images: int, comparisons: int) -> str:
    """The head against the baseline, and how sure that is."""
    difference, p = head.difference or 0.0, 1.0 if head.p_value is None else head.p_value
    points = f"{100 * abs(difference):.1f} points {'above' if difference > 0 else 'below'}"
    interval = f"[{100 * (head.difference_low or 0):+.1f}, {100 * (head.difference_high or 0):+.1f}]"
    said = f"{_chosen(head)}. It is {points} {baseline.method} ({_top1(baseline)}), {interval}: "
    tested = f"p {'' if p < LEAST else '= '}{p_value(p)}"
    tested += f", corrected for {comparisons} comparisons" if comparisons > 1 else ""
    if p < LEVEL:
        return f"{said}a difference on {test_images:,} test images ({tested})."
    needed = images_needed(
        head.better or 0, head.worse or 0, test_images, alpha=LEVEL / comparisons, power=POWER
    )
    would = (
        "the two are right equally often"
        if needed is None
        else f"about {_rounded(needed):,} would be needed to tell a difference of this size"
    )
    return f"{said}not distinguishable on {test_images:,} test images ({tested}); {would}."


def _price(head: Line, baseline: Line) -> list[str]:
    """What the two cost, and from when on the features are worth their extraction."""
    spent, trained = head.seconds + head.extraction_seconds, baseline.seconds + baseline.extraction_seconds
    times = f", {trained / spent:.1f} times as long" if trained > spent > 0 else ""
    said = (
        f"All of the head's tuning took {clock(head.seconds)} after an extraction of "
        f"{clock(head.extraction_seconds)}; {baseline.method} took {clock(trained)}{times}. One more trial: "
        f"{head.price['seconds_per_trial']:.2g} s against {baseline.price['seconds_per_trial']:.0f} s"
    )
    trials = head.price["break_even"]
    if not head.extraction_seconds:
        return [f"{said}."]
    if trials is None:
        return [f"{said}: extraction never pays for itself."]
    plural = "the first trial" if trials == 1 else f"{trials} trials"
    return [f"{said}: extraction has paid for itself after {plural}."]


def _spread(line: Line, is_head: bool) -> str:
    """How much of an accuracy is the random start's: not in the intervals above, which are about images."""
    mean, deviation = 100 * fmean(line.seed_top1), 100 * stdev(line.seed_top1)
    return (
        f"Over {len(line.seed_top1)} random starts the {'head' if is_head else 'baseline'} {line.method} "
        f"reaches {mean:.1f} % on average and varies by {deviation:.1f} points (standard deviation), "
        "which the intervals do not contain."
    )


def _control(head: Line | None, control: Line | None) -> list[str]:
    if not head or not control or (control.validation_top1 or 0) <= (head.validation_top1 or 0):
        return []
    return [
        f"The control without a network, {control.method}, reaches {100 * control.top1:.1f} %: "
        "for these images frozen features are not the best there is."
    ]


def _rounded(images: int) -> int:
    """To two figures: the difference itself is not known better."""
    unit: int = 10 ** max(0, math.floor(math.log10(images)) - 1)
    return math.ceil(images / unit) * unit
