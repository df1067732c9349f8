"""How every class fares with the best head and the baseline, from `artifacts/per_class.csv`."""

import csv
import math

from features.files import naming
from pipeline.records.natural import natural
from pipeline.report.compared import Compared
from pipeline.report.section import Cell, Column, Section, Table, decimals, number

CLASSES_SHOWN = 1000
SCROLLS_FROM = 30  # rows
SCORES = {"recall": "recall", "precision": "precision", "f1": "F1"}


def section(compared: Compared) -> Section | None:
    """A table with a row per class; None where `compare` wrote no such table."""
    path = compared.project.per_class
    if not path.exists():
        return None
    methods = [line.method for line in compared.looked_into]
    found: dict[str, dict[str, dict[str, str]]] = {}  # by class, then method
    with naming(path), path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["method"] in methods:
                found.setdefault(row["class"], {})[row["method"]] = row
    ordered = sorted(found, key=lambda name: (_value(found[name], methods[0], "f1") or 0.0, natural(name)))
    columns = [Column("class", number=False), Column("test images")]
    columns += [Column(f"{words} {method}") for method in methods for words in SCORES.values()]
    rows = [_row(name, found[name], methods) for name in ordered[:CLASSES_SHOWN]]
    caption = f"Classes by F1 of {methods[0]}, the hardest first"
    table = Table(caption, columns, rows, sorted_by=len(SCORES) + 1, long=len(rows) > SCROLLS_FROM)
    return Section("classes", "Class by class", {"table": table, "classes": len(ordered)})


def _row(name: str, scores: dict[str, dict[str, str]], methods: list[str]) -> list[Cell]:
    images = float(next(iter(scores.values()))["images"])
    cells = [number(_value(scores, method, score), decimals) for method in methods for score in SCORES]
    return [Cell(name), Cell(f"{images:,.0f}", images), *cells]


def _value(scores: dict[str, dict[str, str]], method: str, score: str) -> float | None:
    """A score of a class; None where it has none, such as precision where nothing was predicted."""
    text = scores.get(method, {}).get(score, "")
    return None if not text or math.isnan(float(text)) else float(text)
