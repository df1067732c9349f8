"""Which split each image goes into: what belongs together is never parted.

Copies of an image belong together, and images of a group; a copy that stands in
two groups joins them. Each of these units is drawn as one, by a threshold on a
hash of its name and the seed, so that adding others does not move it; but where
a class would be missing in a split, its nearest unit moves there (`coverage`).
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from features.manifest import SPLITS, Row
from pipeline.datasets.base import Problem
from pipeline.datasets.coverage import Unit, cover
from pipeline.params import Dataset

GROUP_ELSEWHERE = "of a group in another split"  # a kind of problem


def settle(rows: Sequence[Row], dataset: Dataset, given: frozenset[str]) -> tuple[list[Row], list[Problem]]:
    """Give every row its split, and set aside what would stand in two splits or under two labels.

    Of a unit that stands in several given splits, the rows in test stay, else
    those in validation; rows without a given split follow. Rows of a given train
    part are drawn from, too, for a split that is not given. Copies within one
    split and class are kept, and noted.

    Returns
    -------
    The rows that stay, with their splits, and the problems
    """
    names = unit_names(rows)
    rows, problems = _without_doubtful_labels(rows)
    by_unit = defaultdict(list)
    for row in rows:
        by_unit[names.get(row.sha256, row.sha256)].append(row)
    drawn: list[Unit] = []
    stay: list[list[Row]] = []
    for name, unit in by_unit.items():
        split = SPLITS[max((SPLITS.index(row.split) for row in unit if row.split), default=0)]
        problems += _noted(unit, split)
        stay.append([row for row in unit if row.split in ("", split)])
        classes = frozenset(row.label for row in stay[-1])
        if split == "train":
            drawn.append(
                Unit(name, place(name, dataset.seed), classes, draw(name, dataset, given), drawn=True)
            )
        else:
            drawn.append(Unit(name, 0.0, classes, split, drawn=False))
    cover(drawn, intervals(dataset, given))
    settled = [replace(row, split=unit.split) for unit, own in zip(drawn, stay, strict=True) for row in own]
    return settled, problems


def place(name: str, seed: int) -> float:
    """Where a unit stands in [0, 1), uniformly: by a hash of the seed and its name."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def intervals(dataset: Dataset, given: frozenset[str]) -> dict[str, tuple[float, float]]:
    """Places of the splits that are drawn: test first, then validation, then train, which always is."""
    found, low = {}, 0.0
    for split, share in (("test", dataset.test_fraction), ("validation", dataset.validation_fraction)):
        if split not in given:
            found[split] = (low, low + share)
            low += share
    return {**found, "train": (low, 1.0)}


def draw(name: str, dataset: Dataset, given: frozenset[str]) -> str:
    """Draw a split from the seed and a name: an image's sha256, or that of its group.

    Only splits that are not given are drawn.
    """
    rest = place(name, dataset.seed)
    for split, share in (("test", dataset.test_fraction), ("validation", dataset.validation_fraction)):
        if split in given:
            continue
        if rest < share:
            return split
        rest -= share
    return "train"


def at_most(rows: Sequence[Row], most: Sequence[int], seed: int) -> list[Row]:
    """Keep at most so many images of each split, drawn from the seed and each image's content.

    One of each class comes first. A smaller number keeps a part of what a larger one does.

    Parameters
    ----------
    most : numbers for train, validation and test
    """

    def drawn(row: Row) -> str:
        return hashlib.sha256(f"at most:{seed}:{row.sha256}".encode()).hexdigest()

    kept: list[Row] = []
    for split, number in zip(SPLITS, most, strict=True):
        ordered = sorted((row for row in rows if row.split == split), key=drawn)
        first = {row.label: k for k, row in reversed([*enumerate(ordered)])}  # class → its first row
        firsts = set(first.values())
        order = sorted(range(len(ordered)), key=lambda k: (k not in firsts, k))[:number]
        kept += [ordered[k] for k in sorted(order)]
    return kept


def units(rows: Sequence[Row]) -> NDArray[np.intp]:
    """Number what must not be parted, (n_rows,): copies of an image, and images of one group."""
    names = unit_names(rows)
    return np.unique([names.get(row.sha256, row.sha256) for row in rows], return_inverse=True)[1]


def unit_names(rows: Sequence[Row]) -> dict[str, str]:
    """Return, for the sha256 of each image that stands in a group: the smallest name of all joined groups."""
    groups = defaultdict(set)
    for row in rows:
        if row.group:
            groups[row.sha256].add(row.group)
    above: dict[str, str] = {}  # a group → a smaller one that it is joined to, or itself

    def smallest(group: str) -> str:
        while above.setdefault(group, group) != group:
            group = above[group]
        return group

    for joined in groups.values():
        tops = {smallest(group) for group in joined}
        for top in tops:
            above[top] = min(tops)
    return {sha256: smallest(min(joined)) for sha256, joined in groups.items()}


def _without_doubtful_labels(rows: Sequence[Row]) -> tuple[list[Row], list[Problem]]:
    """Set aside an image that stands under two labels, of which none is known to be right."""
    labels = defaultdict(set)
    for row in rows:
        labels[row.sha256].add(row.label)
    problems = [
        Problem(
            row.path,
            f"the same image stands under the labels {' and '.join(sorted(labels[row.sha256]))}",
            "set aside",
            "under two labels",
        )
        for row in rows
        if len(labels[row.sha256]) > 1
    ]
    return [row for row in rows if len(labels[row.sha256]) == 1], problems


def _noted(unit: Sequence[Row], split: str) -> list[Problem]:
    """Say of each row of a unit in `split` that it is a copy, or why it is set aside."""
    originals: dict[str, str] = {}  # sha256 → path of the first that stays
    for row in unit:
        if row.split in ("", split):
            originals.setdefault(row.sha256, row.path)
    named = next((row.path for row in unit if row.split == split), "")
    problems = []
    for row in unit:
        original = originals.get(row.sha256)
        if original == row.path:
            continue
        if original:
            action = "kept" if row.split in ("", split) else "set aside"
            problems.append(
                Problem(row.path, f"the same image as {original}", action, "copied across splits")
            )
        else:
            reason = f"of one group with {named}, which is in {split}"
            problems.append(Problem(row.path, reason, "set aside", GROUP_ELSEWHERE))
    return problems
