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
from pipeline.datasets.base import SPLIT_NAMES, Found, Listing, Problem

COLUMNS = ("path", "label", "split", "group")
REQUIRED = COLUMNS[:2]


def listing(root: Path, name: str) -> Listing:
    """List the images that the table `root/name` names; files it does not name are not looked at.

    Raises
    ------
    BadInput
        Names the table, the line and the remedy: no such table, not UTF-8, a
        column missing or twice, an empty path or label, an unknown split, a path
        that is not below `root` or stands there twice, no rows.
    """
    file = root / name
    if not file.is_file():
        raise BadInput(
            f"dataset.csv: there is no table {file}; put it there, or name another one below {root}"
        )
    table = _cells(file)
    header = _header(file, next(table, (1, []))[1])
    problems = [
        Problem(name, f"the column {column!r} is none of {', '.join(COLUMNS)}", "ignored")
        for column in header
        if column not in COLUMNS
    ]
    images = _images(file, header, table)
    if not images:
        raise BadInput(f"{file} has no rows; give each image one: {', '.join(COLUMNS)}")
    reasons = {image.path: _unusable(root, image.path) for image in images}
    problems += [Problem(path, reason, "set aside") for path, reason in reasons.items() if reason]
    found = [image for image in images if not reasons[image.path]]
    # A split whose files are all missing is given nevertheless: their return moves no other image
    return Listing(ImageFolder(root), found, problems, frozenset(image.split for image in images) - {""})


def _cells(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells of all rows that are not empty, the header's included."""
    with file.open(newline="", encoding="utf-8-sig") as opened:  # Excel begins UTF-8 with a mark
        reader = csv.reader(opened, strict=True)
        try:
            yield from ((reader.line_num, cells) for cells in reader if cells)
        except UnicodeDecodeError as error:
            raise BadInput(f"{file} is not UTF-8 ({error.reason}); save it as UTF-8") from error
        except csv.Error as error:
            raise BadInput(f"{file}, line {reader.line_num}: not valid CSV ({error})") from error


def _header(file: Path, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    missing = [name for name in REQUIRED if name not in header]
    twice = [name for name in COLUMNS if header.count(name) > 1]
    if missing or twice:
        fault = f"has no column {missing[0]!r}" if missing else f"has the column {twice[0]!r} twice"
        raise BadInput(
            f"{file} {fault}; line 1 should name path, label and, where wanted, split and group, "
            f"with commas between, and is {','.join(cells)[:80]!r}"
        )
    return header


def _images(file: Path, header: list[str], table: Iterator[tuple[int, list[str]]]) -> list[Found]:
    images: dict[str, Found] = {}
    lines: dict[str, int] = {}
    for line, cells in table:
        where = f"{file}, line {line}"
        if len(cells) != len(header):
            raise BadInput(
                f"{where}: {len(cells)} cells where line 1 names {len(header)} columns; "
                "a comma within a cell needs quotes around the cell"
            )
        image = _image(where, dict(zip(header, cells, strict=True)))
        if image.path in images:
            raise BadInput(f"{where}: {image.path} stands in line {lines[image.path]} already; delete one")
        images[image.path], lines[image.path] = image, line
    return list(images.values())


def _image(where: str, cells: dict[str, str]) -> Found:
    """Check one row; space around a name is no part of it, except around a path."""
    label, split, group = (cells.get(name, "").strip() for name in COLUMNS[1:])
    path = Path(cells["path"])
    if path.anchor or ".." in path.parts or path == Path() or "\0" in cells["path"]:
        raise BadInput(
            f"{where}: the path {cells['path']!r} should be that of a file below dataset.root, relative to it"
        )
    if not label:
        raise BadInput(f"{where}: {cells['path']} has no label; give it one, or delete the line")
    if split and split not in SPLIT_NAMES:
        raise BadInput(
            f"{where}: the split {split!r} should be one of {', '.join(SPLIT_NAMES)}, or empty to be drawn"
        )
    return Found(path.as_posix(), label, SPLIT_NAMES.get(split, ""), group)


def _unusable(root: Path, path: str) -> str:
    """Why a file cannot be used, or nothing; what it holds is not looked at."""
    relative = Path(path)
    try:
        if any((root / part).is_symlink() for part in (relative, *relative.parents[:-1])):
            return "a symbolic link is not followed"
        if not (root / relative).is_file():
            hint = "; folders are separated by / here" if "\\" in path else ""
            return f"there is no such file{hint}"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return ""
