"""Every class in every split, where that can be had: which drawn units change their split for it.

A unit is what must not be parted: an image with its copies, or a group. Each stands at a place in
[0, 1), by which its split was drawn. For a class that a split lacks, the unit with images of it that is
nearest to that split's interval moves (of groups with several classes, one that fills most gaps), from a
split that can spare it: no class of the unit becomes missing there. So as many units move as there are
gaps, or fewer, and nothing moves where there are none.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from features.manifest import SPLITS

DEPTH = 3  # moves that may follow from one, where groups of several classes are short
BRANCHES = 8  # nearest units that are tried in each


@dataclass(slots=True)  # there may be as many as images
class Unit:
    """What must not be parted.

    Attributes
    ----------
    name : str
        That it was drawn by.
    place : float
        In [0, 1).
    classes : frozenset of str
        Of its images.
    split : str
        Where it is now.
    drawn : bool
        Whether that was drawn; a given split stays.
    """

    name: str
    place: float
    classes: frozenset[str]
    split: str
    drawn: bool


def cover(units: Sequence[Unit], intervals: Mapping[str, tuple[float, float]]) -> None:
    """Move drawn units so that every class has one in each drawn split, as far as that was found.

    Parameters
    ----------
    intervals : dict of split to (low, high)
        The places of each split that is drawn; of the others, none is moved there.
    """
    moves = _Moves(units, intervals)
    missing = [
        (label, split)
        for label in sorted(moves.by_class, key=lambda label: (len(moves.by_class[label]), label))
        for split in SPLITS
        if split in intervals
    ]
    for depth in range(DEPTH + 1):  # what needs a single move, first
        for label, split in missing:
            if not moves.counts[label, split]:
                moves.supply(label, split, depth)


class _Moves:
    """Where units are, how many each class has in each split, and moves that can be taken back."""

    def __init__(self, units: Sequence[Unit], intervals: Mapping[str, tuple[float, float]]) -> None:
        self.intervals = intervals
        self.counts: Counter[tuple[str, str]] = Counter()
        self.by_class: dict[str, list[Unit]] = defaultdict(list)
        self.moved: list[tuple[Unit, str]] = []  # with the split that it left
        for unit in units:
            for label in unit.classes:
                self.counts[label, unit.split] += 1
                self.by_class[label].append(unit)

    def supply(self, label: str, split: str, depth: int, held: frozenset[str] = frozenset()) -> bool:
        """Bring a class into a split; what that tears elsewhere is mended by at most `depth` moves in a row.

        Nothing has moved where it returns False.
        """
        if self.counts[label, split]:
            return True
        free = [u for u in self.by_class[label] if u.drawn and u.split != split and u.name not in held]
        free.sort(key=lambda unit: (-self._mended(unit, split), self._distance(unit, split), unit.name))
        for unit in free[:BRANCHES] if depth else free:
            source, mark = unit.split, len(self.moved)
            self.moved.append((unit, source))
            self._put(unit, split)
            torn = sorted(each for each in unit.classes if not self.counts[each, source])
            held_too = held | {unit.name}
            if not torn or (depth and all(self.supply(each, source, depth - 1, held_too) for each in torn)):
                return True
            while len(self.moved) > mark:
                self._put(*self.moved.pop())
        return False

    def _put(self, unit: Unit, split: str) -> None:
        for label in unit.classes:
            self.counts[label, unit.split] -= 1
            self.counts[label, split] += 1
        unit.split = split

    def _mended(self, unit: Unit, split: str) -> int:
        return sum(not self.counts[label, split] for label in unit.classes)

    def _distance(self, unit: Unit, split: str) -> float:
        """How far a unit's place is from a split's interval."""
        low, high = self.intervals[split]
        return max(low - unit.place, unit.place - high, 0.0)
