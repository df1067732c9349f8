"""Natural order, in which people look for names: class 2 before class 10.

Wherever classes are shown. Their numbers, and what is stored, keep the plain order of `Manifest.classes`.

    sorted(names, key=natural)
    in_order(classes)           # numbers of classes, in natural order
"""

import re
from collections.abc import Sequence
from typing import Any


def natural(name: str) -> tuple[list[Any], str]:
    """Sort a name by this: whole numbers within it by their size, letters whatever their case."""
    parts = re.split(r"(\d+)", name)
    # Digits stand at every second place; more of them are larger, whatever zeros stand before
    keys = [(len(d := part.lstrip("0")), d) if k % 2 else part.casefold() for k, part in enumerate(parts)]
    return keys, name


def in_order(names: Sequence[str]) -> list[int]:
    """Return the positions of names in natural order."""
    return sorted(range(len(names)), key=lambda number: natural(names[number]))
