"""The columns of a table of images: path, label, split, group, in any case and order.

A column that is nearly one of these, where that one is missing, is refused: were `groups` ignored, the
images of one patient would stand in two splits, and nothing would say so.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from features.errors import BadInput
from pipeline.datasets.names import split_of, words

COLUMNS = ("path", "label", "split", "group")
REQUIRED = COLUMNS[:2]
SEPARATORS = ",;\t"
NEARLY = 0.8  # of difflib: labels, grup, spilt
# Other tools' names for them; single words, of which a name such as image_path or patient_group is made
CALLED = {
    "path": ("path", "paths", "file", "filename", "filepath", "image", "img", "picture", "photo"),
    "label": ("label", "class", "classname", "category", "target"),
    "split": ("split", "subset", "partition"),
    "group": ("group", "groupid"),
}


@dataclass(frozen=True)
class TableHeader:
    """The first line of a table.

    Attributes
    ----------
    names : list of str
        As they stand there, without space around.
    place : dict of str to int
        Where each of `COLUMNS` stands that is there.
    """

    names: list[str]
    place: dict[str, int]

    @property
    def unknown(self) -> dict[int, str]:
        """Columns of other names, which are not read, by their place."""
        known = set(self.place.values())
        return {k: name for k, name in enumerate(self.names) if k not in known}


def separator(line: str) -> str:
    """Choose what stands between cells, from a table's first line; a comma where nothing tells."""
    found = {each: {cell.strip(' "').casefold() for cell in line.strip().split(each)} for each in SEPARATORS}
    return next((each for each, cells in found.items() if set(REQUIRED) <= cells), ",")


def header(file: Path, cells: Sequence[str]) -> TableHeader:
    """Find the columns.

    Raises
    ------
    BadInput
        One is missing that has to be there, one stands there twice, or one is nearly `split` or `group`.
    """
    names = [cell.strip() for cell in cells]
    folded = [name.casefold() for name in names]
    twice = [name for name in COLUMNS if folded.count(name) > 1]
    missing = [name for name in REQUIRED if name not in folded]
    if missing or twice:
        fault = f"has no column {missing[0]!r}" if missing else f"has the column {twice[0]!r} twice"
        near = _nearest(missing[0], names) if missing else ""
        raise BadInput(
            f"{file} {fault}{f', and {near!r} is nearly that' if near else ''}; line 1 should name path, "
            f"label and, where wanted, split and group, with commas, semicolons or tabs between, and is "
            f"{','.join(cells)[:80]!r}"
        )
    found = TableHeader(names, {name: folded.index(name) for name in COLUMNS if name in folded})
    for name in COLUMNS:
        if name not in folded and (near := _nearest(name, list(found.unknown.values()))):
            raise BadInput(_ambiguous(file, near, name))
    return found


def check_unread(file: Path, found: TableHeader, rows: Sequence[Sequence[str]]) -> None:
    """Refuse a column of another name that has nothing but names of splits, where there is no `split`."""
    if "split" in found.place:
        return
    for place, name in found.unknown.items():
        values = {row[place].strip() for row in rows} - {""}
        if values and all(split_of(value) for value in values):
            raise BadInput(_ambiguous(file, name, "split"))


def _ambiguous(file: Path, name: str, meant: str) -> str:
    return (
        f"{file} has a column {name!r}, which may be meant as {meant!r}, and none of that name; rename it to "
        f"{meant}, or to something else where it is not meant so"
    )


def _nearest(wanted: str, names: Sequence[str]) -> str:
    """The first of some names that may be meant as one of `COLUMNS`, or nothing."""
    for name in names:
        said = words(name)
        singular = {word.removesuffix("s") for word in said} | {*said}
        ratio = difflib.SequenceMatcher(None, name.casefold(), wanted).ratio()
        if singular & set(CALLED[wanted]) or ratio >= NEARLY:
            return name
    return ""
