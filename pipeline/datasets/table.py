"""A table of image files: UTF-8 CSV with the columns path and label, optionally split and group.

    path,label,split,group
    scans/17.png,benign,test,patient 4
    scans/18.png,malignant,,patient 5

Paths are relative to `dataset.root`. An empty split is drawn; images of one
group (a patient, a burst of shots) never stand in different splits.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from features.errors import BadInput
from features.images import ImageFolder
from pipeline.datasets.base import Found, Listing, Problem
from pipeline.datasets.columns import COLUMNS, TableHeader, check_unread, header, separator
from pipeline.datasets.names import SPLIT_NAMES, split_of
from pipeline.datasets.table_files import Files

Line = tuple[int, list[str]]
# What data frames, spreadsheets and databases write, in any case, where there is nothing
MISSING = ("nan", "<na>", "n/a", "#n/a", "nat", "null", r"\n")
# Theirs, too; but a class may be called so. As a group any of them would join all images that have none
PERHAPS_MISSING = ("na", "none", "nil")


def listing(root: Path, name: str) -> Listing:
    """List the images that the table `root/name` names; files it does not name are not looked at.

    Raises
    ------
    BadInput
        Names the table, the line and the remedy: no such table, not UTF-8, a
        column missing, twice or nearly right, an empty path or label, an unknown split, a path
        that is not below `root` or stands there twice, no rows, a disk that does not answer.
    """
    file = root / name
    if not file.is_file():
        raise BadInput(
            f"dataset.csv: there is no table {file}; put it there, or name another one below {root}"
        )
    lines = list(_cells(file))
    columns = header(file, lines[0][1] if lines else [])
    none = f"is none of {', '.join(COLUMNS)}"
    problems = [
        Problem(name, f"the column {column!r} {none}", "ignored", f"column {column!r}")
        for column in columns.unknown.values()
    ]
    images = _images(file, columns, lines[1:])
    if not images:
        raise BadInput(f"{file} has no rows; give each image one: {', '.join(COLUMNS)}")
    check_unread(file, columns, [cells for _, cells in lines[1:]])
    problems += [
        Problem(name, f"the label {label!r} is taken for a class, and may stand for none", "noted")
        for label in sorted({image.label for image in images})
        if label.casefold() in PERHAPS_MISSING
    ]
    found, missing, odd = Files(root).resolved(images)
    # A split whose files are all missing is given nevertheless: their return moves no other image
    given = frozenset(image.split for image in images) - {""}
    return Listing(ImageFolder(root), found, problems + odd, given, missing)


def _cells(file: Path) -> Iterator[Line]:
    """Line numbers and cells of all rows that are not empty, the header's included."""
    with file.open(newline="", encoding="utf-8-sig") as opened:  # Excel begins UTF-8 with a mark
        try:
            first = next((line for line in opened if line.strip()), "")
            opened.seek(0)
            reader = csv.reader(opened, delimiter=separator(first), strict=True)
            yield from ((reader.line_num, cells) for cells in reader if cells)
        except UnicodeDecodeError as error:
            raise BadInput(f"{file} is not UTF-8 ({error.reason}); save it as UTF-8") from error
        except csv.Error as error:
            raise BadInput(f"{file}, line {reader.line_num}: not valid CSV ({error})") from error


class _Faults:
    """Faults of rows by what mends them: the first of each, and how many there are."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.first: dict[str, tuple[int, str]] = {}  # remedy → line and fault
        self.count: dict[str, int] = {}

    def add(self, line: int, fault: str, remedy: str) -> None:
        self.first.setdefault(remedy, (line, fault))
        self.count[remedy] = self.count.get(remedy, 0) + 1

    def refuse(self) -> None:
        """Raise BadInput for the fault that comes first; counts all of its kind, and the rest."""
        if not self.first:
            return
        remedy, (line, fault) = next(iter(self.first.items()))
        count, rest = self.count[remedy], sum(self.count.values()) - self.count[remedy]
        more = f" (the first of {count:,} such lines)" if count > 1 else ""
        if rest:
            more += f" ({rest:,} more {'line has another fault' if rest == 1 else 'lines have other faults'})"
        raise BadInput(f"{self.file}, line {line}: {fault}{more}; {remedy}")


def _images(file: Path, columns: TableHeader, lines: list[Line]) -> list[Found]:
    """Check every row, and refuse with the number of those that are wrong."""
    faults = _Faults(file)
    images: dict[str, Found] = {}
    first: dict[str, int] = {}
    for line, cells in lines:
        if len(cells) != len(columns.names):
            fault = f"{len(cells)} cells where line 1 names {len(columns.names)} columns"
            faults.add(line, fault, "a separator within a cell needs quotes around the cell")
            continue
        image = _image(faults, line, {name: cells[place] for name, place in columns.place.items()})
        if image and image.path in images:
            fault = f"{image.path} stands in line {first[image.path]} already"
            faults.add(line, fault, "delete one")
        elif image:
            images[image.path], first[image.path] = image, line
    faults.refuse()
    return list(images.values())


def _missing(label: str, group: str) -> str:
    """The word for nothing that stands for a label or a group; empty where there is none."""
    if label.casefold() in MISSING:
        return label
    return group if group.casefold() in (*MISSING, *PERHAPS_MISSING) else ""


def _image(faults: _Faults, line: int, cells: dict[str, str]) -> Found | None:
    """Check one row; space around a name is no part of it, except around a path."""
    label, split, group = (cells.get(name, "").strip() for name in COLUMNS[1:])
    path = Path(cells["path"])
    if path.anchor or ".." in path.parts or path == Path() or "\0" in cells["path"]:
        fault = f"the path {cells['path']!r} should be that of a file below dataset.root, relative to it"
        faults.add(line, fault, "write it so, or delete the line")
        return None
    if not label:
        faults.add(line, f"{cells['path']} has no label", "give it one, or delete the line")
        return None
    if "\0" in label + group:
        faults.add(line, f"{cells['path']} has a NUL in its label or group", "take it out")
        return None
    if nothing := _missing(label, group):
        what = "label" if nothing == label else "group"
        fault = f"{cells['path']} has the {what} {nothing!r}, as data frames write what is missing"
        remedy = "give it one, or delete the line" if nothing == label else "leave it empty, or rename it"
        faults.add(line, fault, remedy)
        return None
    meant = split_of(split)
    if split and meant not in SPLIT_NAMES:
        known = ", ".join(word for words in SPLIT_NAMES.values() for word in words)
        fault = f"the split {split!r} should be one of {known}, or empty"
        faults.add(line, fault, "rename it, or leave it empty to be drawn")
        return None
    return Found(path.as_posix(), label, meant, group)
