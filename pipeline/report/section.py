"""What sections are made of: tables that can be sorted, and pictures with words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup


@dataclass(frozen=True)
class Section:
    """A section of the page; `name` is its anchor, and its template's name."""

    name: str
    title: str
    content: Any


@dataclass(frozen=True)
class Picture:
    """An SVG, its title, and what it shows in words."""

    title: str
    words: str
    svg: Markup


@dataclass(frozen=True)
class Cell:
    """A table's cell.

    Attributes
    ----------
    key : float or None
        What a column of numbers is sorted by; None stands last.
    note : str
        In small print below the text.
    mark : bool
        Whether it is set off as a warning.
    """

    text: str
    key: float | None = None
    note: str = ""
    mark: bool = False


@dataclass(frozen=True)
class Column:
    """A column's heading; `words` say what it is, where the heading is short."""

    heading: str
    number: bool = True
    words: str = ""


@dataclass(frozen=True)
class Table:
    """A table that a reader can sort.

    Attributes
    ----------
    rows : sequence of sequence of Cell
        The first cell of a row is its heading.
    sorted_by : int
        The column by which the rows are sorted already.
    long : bool
        Whether it scrolls in a box of limited height.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]] = field(repr=False)
    sorted_by: int = 0
    descending: bool = False
    long: bool = False


def number(value: float | None, format: Callable[[float], str], note: str = "") -> Cell:
    """Make a cell of a number; an empty one of None."""
    return Cell("", None) if value is None else Cell(format(value), value, note)


def percent(value: float) -> str:
    """Write a share as a percentage with one decimal, without the sign."""
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    """Write a difference of shares in percentage points, with its sign."""
    return signed(100 * value, 1)


def signed(value: float, places: int = 3) -> str:
    """Write a number with its sign, in typographic form."""
    return f"{value:+.{places}f}".replace("-", "−")


def decimals(value: float) -> str:
    """Write a number with three decimals."""
    return f"{value:.3f}"


def whole(value: float) -> str:
    """Write a whole number, thousands apart."""
    return f"{value:,.0f}"


def between(interval: Sequence[float] | None, format: Callable[[float], str]) -> str:
    """Write an interval in brackets; nothing for None."""
    return f"[{format(interval[0])}, {format(interval[1])}]" if interval else ""


def duration(seconds: float) -> str:
    """Write seconds in the unit that reads best: 0.05 s, 12 s, 3:07 min, 1:03:07 h."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
