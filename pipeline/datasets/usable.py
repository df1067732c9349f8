"""What no comparison can be made of: names that nobody can tell apart, classes without images in a split."""

from collections import Counter
from collections.abc import Sequence

from features.errors import BadInput
from features.manifest import SPLITS, Row
from pipeline.datasets.base import Found, Listing, Problem
from pipeline.datasets.names import UNICODE, twins
from pipeline.datasets.problems import counted, first, set_aside
from pipeline.datasets.splits import GROUP_ELSEWHERE, unit_names


def refuse_twins(found: Sequence[Found]) -> None:
    """Refuse classes and groups, and files of one Unicode form, whose names look the same and are not."""
    for what in ("label", "group", "path"):
        for one, other, words in twins(getattr(image, what) for image in found):
            if what != "path" or words == UNICODE:
                named = {"label": "classes", "group": "groups", "path": "files"}[what]
                raise BadInput(f"the {named} {one!r} and {other!r} differ {words}; rename one")


def file_twins(found: Sequence[Found]) -> list[Problem]:
    """Files whose names differ in case or spaces only: on other systems one would take the other's place."""
    return [
        Problem(other, f"this and {one} differ {words}", "kept")
        for one, other, words in twins(image.path for image in found)
    ]


def check_usable(listed: Listing, usable: Sequence[Row], problems: Sequence[Problem]) -> None:
    """Refuse a single class, and one of which no image is left."""
    aside = set_aside(problems)
    if not usable:
        raise BadInput(
            f"no usable image is left: {counted(aside)} ({first(aside)}); mend them, or add others"
        )
    labels = {row.label for row in usable}
    offered = {image.path: image.label for image in [*listed.found, *listed.missing]}
    if lost := sorted(set(offered.values()) - labels):
        of_first = [problem for problem in aside if offered.get(problem.path) == lost[0]]
        raise BadInput(
            f"{len(lost)} of {len(labels) + len(lost)} classes have no usable image, the first {lost[0]!r}: "
            f"{counted(of_first)} ({first(of_first)}); mend them, or take the class out of the data set"
        )
    if len(labels) < 2:
        raise BadInput(f"there is one class only, {labels.pop()!r}; a comparison needs at least two")


def check_splits(rows: Sequence[Row], given: frozenset[str], problems: Sequence[Problem] = ()) -> None:
    """Refuse classes that have no image in some split, all in one sentence; `problems` may be the cause."""
    there = Counter((row.label, row.split) for row in rows)
    labels = sorted({row.label for row in rows})
    missing = {label: [split for split in SPLITS if not there[label, split]] for label in labels}
    lacking = [label for label in labels if missing[label]]
    if not lacking:
        return
    label = lacking[0]
    total = sum(there[label, split] for split in SPLITS)
    out = ", or take such classes out of the data set" if len(labels) - len(lacking) > 1 else ""
    raise BadInput(
        f"{len(lacking)} of {len(labels)} classes have no image in some split, the first {label!r}, with "
        f"{total} {'image' if total == 1 else 'images'} and none in {' and '.join(missing[label])}; "
        f"{_torn(problems) or _remedy(rows, label, missing[label], given)}{out}"
    )


def _torn(problems: Sequence[Problem]) -> str:
    """What helps where groups that stand in several given splits took images away; empty without any."""
    count = sum(problem.kind == GROUP_ELSEWHERE for problem in problems)
    if not count:
        return ""
    return (
        f"{count} images were set aside since others of their group stand in another split: mend the column "
        "group, or let each group stand in one split"
    )


def _remedy(rows: Sequence[Row], label: str, missing: Sequence[str], given: frozenset[str]) -> str:
    """What helps a class that some splits lack."""
    if lacked := [split for split in missing if split in given]:
        empty = not {row.split for row in rows} & set(lacked)
        drawn = ", or give no such split, so that it is drawn from train" if empty else ""
        return f"put images of each such class into {' and '.join(lacked)}{drawn}"
    drawing = [split for split in SPLITS if split not in given or split == "train"]
    names = unit_names(rows)
    own = [row for row in rows if row.label == label and row.split in drawing]
    if len({names.get(row.sha256, row.sha256) for row in own}) < len(drawing):
        return f"add some, as {', '.join(drawing)} need one each, none a copy of another's or of its group"
    return "give a split of your own, since no way was found to part the groups so that each has some"


def check_at_most(kept: Sequence[Row], usable: Sequence[Row]) -> None:
    """Refuse a `dataset.at_most` that leaves out the whole of a class in a split."""
    for split in SPLITS:
        classes = {row.label for row in usable if row.split == split}
        lost = sorted(classes - {row.label for row in kept if row.split == split})
        if lost:
            raise BadInput(
                f"dataset.at_most leaves no image of class {lost[0]!r} in {split}; raise it to at least "
                f"{len(classes)} there, the number of classes"
            )
