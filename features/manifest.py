"""The manifest: which images there are, in which order, under which label and split.

A CSV file, sorted by path: id, path (relative to `dataset.root`), label, split,
sha256, width, height, and group, where the data set has groups. Everything
downstream follows its order.
"""

import csv
import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput
from features.files import naming, written_aside

SPLITS = ("train", "validation", "test")
COLUMNS = ("id", "path", "label", "split", "sha256", "width", "height")


@dataclass(frozen=True, slots=True)  # slots: there are as many as images
class Row:
    """One image: `width` and `height` in pixels, upright; `sha256` of the file or array.

    Images of one `group` (a patient, a burst of shots) stand in one split; empty
    where an image has none.
    """

    id: str
    path: str
    label: str
    split: str
    sha256: str
    width: int
    height: int
    group: str = ""


@dataclass(frozen=True)
class Manifest:
    """All images of a project, in the order of every store and prediction."""

    rows: tuple[Row, ...]
    classes: tuple[str, ...] = field(init=False)  # sorted: class k is classes[k]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(sorted({row.label for row in self.rows})))

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """Class numbers, (n_images,) int32."""
        number = {name: k for k, name in enumerate(self.classes)}
        return np.array([number[row.label] for row in self.rows], np.int32)

    @cached_property
    def splits(self) -> NDArray[np.int8]:
        """Positions in `SPLITS`, (n_images,) int8."""
        return np.array([SPLITS.index(row.split) for row in self.rows], np.int8)

    def where(self, split: str) -> NDArray[np.intp]:
        """Row numbers of one split, ascending."""
        return np.flatnonzero(self.splits == SPLITS.index(split))

    @cached_property
    def keys(self) -> NDArray[np.uint8]:
        """The images' sha256, (n_images, 32) uint8."""
        return np.frombuffer(bytes.fromhex("".join(row.sha256 for row in self.rows)), np.uint8).reshape(
            -1, 32
        )

    @property
    def is_copy(self) -> NDArray[np.bool_]:
        """Which rows' image stands in an earlier row, too, (n_images,)."""
        first = np.unique(self.keys.view("S32"), return_index=True)[1]
        copies = np.ones(len(self), np.bool_)
        copies[first] = False
        return copies

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns: `group` only where some row has one."""
        return (*COLUMNS, "group") if any(row.group for row in self.rows) else COLUMNS

    @property
    def _table(self) -> Iterator[tuple[object, ...]]:
        return map(attrgetter(*self.columns), self.rows)

    @cached_property
    def digest(self) -> str:
        """Hexadecimal sha256 of all that the rows say."""
        digest, between = hashlib.sha256(), b""
        for row in self._table:
            digest.update(between + repr(row).encode())
            between = b"\n"
        return digest.hexdigest()

    def write(self, path: Path) -> None:
        """Write the CSV file."""
        write_csv(path, self.columns, self._table)

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read the CSV file; BadInput where it is not a manifest."""
        with naming(path), path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) not in (COLUMNS, (*COLUMNS, "group")):
                raise BadInput(
                    f"{path} is not a manifest: its columns should be {', '.join(COLUMNS)}[, group]; "
                    "run `prepare` again"
                )
            try:
                rows = tuple(_row(**line) for line in reader)
            except (TypeError, ValueError) as error:
                raise BadInput(f"{path} is damaged ({error}); run `prepare` again") from error
        return cls(rows)


def _row(
    id: str, path: str, label: str, split: str, sha256: str, width: str, height: str, group: str = ""
) -> Row:
    """One line of the file; what rows have in common is kept in memory once."""
    label, split, group = sys.intern(label), sys.intern(split), sys.intern(group)
    return Row(path if id == path else id, path, label, split, sha256, int(width), int(height), group)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as UTF-8 CSV, whole or not at all."""
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        plain = csv.writer(file, lineterminator="\n")
        # Before Python 3.13 a carriage return in a name is not quoted, and ends the row for a reader
        quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow(columns)
        for row in rows:
            (quoted if any("\r" in str(cell) for cell in row) else plain).writerow(row)
