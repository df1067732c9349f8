"""What a user should know about files: written as `artifacts/problems.csv`, and counted in one line each.

write(problems, project.problems)
for line in summary(problems, project.problems): print(line)
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from features.manifest import write_csv
from pipeline.datasets.base import Problem
from pipeline.datasets.names import shown

KINDS = 6  # that are named
COLUMNS = ("path", "problem", "action")


def write(problems: Sequence[Problem], path: Path) -> None:
    """Write the table, sorted by path."""
    ordered = sorted(problems, key=lambda problem: (problem.path, problem.problem))
    write_csv(path, COLUMNS, [(one.path, one.problem, one.action) for one in ordered])


def set_aside(problems: Sequence[Problem]) -> list[Problem]:
    """Images that are not used, the first by path first."""
    return sorted((one for one in problems if one.action == "set aside"), key=lambda one: one.path)


def summary(problems: Sequence[Problem], path: Path) -> list[str]:
    """Count what is not used, by kind: images on one line, what is none on another."""
    lines = []
    if aside := set_aside(problems):
        lines.append(f"{len(aside):,} images set aside: {counted(aside)} ({first(aside)})")
    if others := [one for one in problems if one.action == "ignored"]:
        lines.append(f"{len(others):,} other entries passed over: {counted(others)}")
    if lines:
        lines[-1] += f"; all are listed in {from_here(path)}"
    return [*lines, *(one.problem for one in problems if one.action == "noted")]


def counted(problems: Sequence[Problem]) -> str:
    """Numbers by kind, the most first: "10 .heic, 3 without a known extension"."""
    counts = Counter(one.kind or "for other reasons" for one in problems).most_common()
    named = [f"{number:,} {kind}" for kind, number in counts[:KINDS]]
    rest = sum(number for _, number in counts[KINDS:])
    return ", ".join([*named, *([f"{rest:,} of other kinds"] if rest else [])])


def first(problems: Sequence[Problem]) -> str:
    """Name one."""
    one = problems[0]
    return f"{'' if len(problems) == 1 else 'the first '}{shown(one.path)}: {one.problem}"


def from_here(path: Path) -> str:
    """A path that can be opened from the working directory: relative where that is shorter."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # the working directory is gone, or on another drive
        return str(path)
    return min(str(path), relative, key=len)
