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
from pipeline.records.cards import BASELINES
from pipeline.records.comparison import Line, baseline_of, best_head
from pipeline.statistics.metrics import images_needed

LEVEL = 0.05  # of the tests, all comparisons together
LEAST = 0.001  # p-value that is written in figures
NAMED = 3  # classes, of more only their number is said
POWER = 0.8  # chance to find a difference with as many images as are said to be needed


def verdict(lines: Sequence[Line], test_images: int) -> list[str]:
    """Say what the numbers say, most important first."""
    head, baseline = best_head(lines), baseline_of(lines)
    both = [line for line in (head, baseline) if line]
    sentences = []
    if head and baseline and head.difference is not None:
        comparisons = sum(line.p_value is not None for line in lines)
        sentences += [_difference(head, baseline, test_images, comparisons), *_price(head, baseline)]
    elif head:
        sentences += [f"{_chosen(head)}, tuned in {_spent(head)}."]
    else:
        sentences += ["No head on frozen features was compared (heads, extract.layers)."]
    if baseline is None:
        others = any(line.method.startswith(BASELINES) for line in lines)
        what = "The baseline (compare.baseline) was not" if others else "No fine-tuned baseline was"
        sentences.append(f"{what} run (finetune.modes), so differences are left out.")
    sentences += [*_always(both, test_images), *_missed(both)]
    if baseline and baseline.epoch == 0:
        sentences.append(
            f"No epoch of {baseline.method} was better on validation rows than its start, which was kept: "
            "training the network gained nothing with the recipes that were tried. Others may: lower values "
            "of finetune.learning_rate first."
        )
    untrained = [line for line in both if line.weights in UNTRAINED]
    sentences += [f"{line.method} is computed with {line.weights} weights." for line in untrained]
    sentences += [_spread(line, line is not baseline) for line in both if line.seed_top1]
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
    better, worse = head.better or 0, head.worse or 0
    if not difference:
        return f"{_chosen(head)}. It is {_as_often(baseline, better)}."
    points = f"{_points(difference)} {'above' if difference > 0 else 'below'}"
    interval = f"[{100 * (head.difference_low or 0):+.1f}, {100 * (head.difference_high or 0):+.1f}]"
    said = f"{_chosen(head)}. It is {points} {baseline.method} ({_top1(baseline)}), {interval}: "
    tested = _tested(p) + (f", corrected for {comparisons} comparisons" if comparisons > 1 else "")
    if p < LEVEL:
        return f"{said}a difference on {_images(test_images)} ({tested})."
    needed = images_needed(better, worse, test_images, alpha=LEVEL / comparisons, power=POWER) or 0
    # Of a handful of images the formula, which is for many, may say that they had been enough
    count = f"about {_rounded(needed):,}" if needed > test_images else "more"
    would = f"{count} would be needed to tell a difference of this size"
    return f"{said}not distinguishable on {_images(test_images)} ({tested}); {would}."


def _as_often(baseline: Line, only: int) -> str:
    """As good as the baseline, where each is right about so many images that the other is not."""
    if not only:
        return f"right about the very same test images as {baseline.method}"
    differ = f"each is right about {_images(only)} that the other is wrong about"
    return f"right as often as {baseline.method} ({_top1(baseline)}); {differ}"


def _price(head: Line, baseline: Line) -> list[str]:
    """What the two cost, and from when on the features are worth their extraction."""
    spent, trained = head.seconds + head.extraction_seconds, baseline.seconds + baseline.extraction_seconds
    times = f", {trained / spent:.1f} times as long" if trained >= 1.1 * spent > 0 else ""
    said = (
        f"All of the head's tuning took {_spent(head)}; {baseline.method} took {_took(trained)}{times}. "
        f"One more trial: {_trial(head)} against {_trial(baseline)}"
    )
    trials = head.price["break_even"]
    if not head.extraction_seconds:
        return [f"{said}."]
    if trials is None:
        return [f"{said}: extraction never pays for itself."]
    plural = "the first trial" if trials == 1 else f"{trials} trials"
    return [f"{said}: extraction has paid for itself after {plural}."]


def _always(lines: Sequence[Line], test_images: int) -> list[str]:
    """Of each method that does not beat the most frequent class: by how much not."""
    sentences = []
    for line in lines:
        always = (
            f"always answering {line.majority!r}, the most frequent class ({100 * line.majority_top1:.1f} %)"
        )
        if line.top1 <= line.majority_top1:
            worse = "right as often as" if line.top1 == line.majority_top1 else "right less often than"
            sentences.append(f"{line.method} is no better than a constant: it is {worse} {always}.")
        elif line.majority_p_value >= LEVEL:
            sentences.append(
                f"On {_images(test_images)} {line.method} is not distinguishable from {always}: "
                f"{_tested(line.majority_p_value)}."
            )
    return sentences


def _missed(lines: Sequence[Line]) -> list[str]:
    """Classes that a method never gets right, and what gives them more weight."""
    sentences = []
    for line in lines:
        names = [repr(name) for name in line.missed]
        if len(names) > NAMED:
            which = f"{len(names)} classes, {', '.join(names[:NAMED])} among them"
        else:
            which = " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
        if names:
            sentences.append(f"{line.method} recognises no test image of {which}.")
    if sentences and lines[0].chosen_by == "top1":
        sentences.append(
            "Where every class matters alike, tuning.score = macro-f1 lets rare ones count as much in what "
            "is chosen, and a head's class_weight = balanced in what is learned."
        )
    return sentences


def _spread(line: Line, is_head: bool) -> str:
    """How much of an accuracy is the random start's: not in the intervals above, which are about images."""
    mean, deviation = 100 * fmean(line.seed_top1), stdev(line.seed_top1)
    said = f"Over {len(line.seed_top1)} random starts the {'head' if is_head else 'baseline'} {line.method} "
    if not deviation:
        return f"{said}reaches {mean:.1f} % every time."
    return (
        f"{said}reaches {mean:.1f} % on average and varies by {_points(deviation)} (standard deviation), "
        "which the intervals do not contain."
    )


def _control(head: Line | None, control: Line | None) -> list[str]:
    """Whether what uses no network is ahead, by the rows that choose."""
    if not head or not control or (control.validation_score or 0) <= (head.validation_score or 0):
        return []
    said = f"The control without a network, {control.method}, "
    if control.top1 <= head.top1:
        return [f"{said}is ahead on validation rows, though not on test rows ({100 * control.top1:.1f} %)."]
    surely = "are not" if control.low > head.top1 else "may not be"
    best = f"for these images frozen features {surely} the best there is"
    return [f"{said}reaches {100 * control.top1:.1f} %: {best}."]


def _points(difference: float) -> str:
    """A difference of shares, without its sign, in percentage points."""
    points = f"{100 * abs(difference):.1f}"
    return "less than 0.1 points" if points == "0.0" else f"{points} points"


def _images(count: int) -> str:
    return f"{count:,} test image{'' if count == 1 else 's'}"


def _tested(p: float) -> str:
    return f"p {'' if p < LEAST else '= '}{p_value(p)}"


def _spent(head: Line) -> str:
    """How long tuning took, after what."""
    extraction = (
        f" after an extraction of {_took(head.extraction_seconds)}" if head.extraction_seconds else ""
    )
    return f"{_took(head.seconds)}{extraction}"


def _took(seconds: float) -> str:
    return clock(seconds) if seconds >= 1 else "less than a second"


def _trial(line: Line) -> str:
    """How long one more trial takes."""
    seconds = line.price["seconds_per_trial"]
    return (
        "less than 0.01 s" if seconds < 0.01 else f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    )


def _rounded(images: int) -> int:
    """To two figures: the difference itself is not known better."""
    unit: int = 10 ** max(0, math.floor(math.log10(images)) - 1)
    return math.ceil(images / unit) * unit
