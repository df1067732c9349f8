"""How far every method is from the baseline on the same images, and which methods answer alike."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pipeline import plots
from pipeline.comparison.verdict import p_value
from pipeline.records.comparison import Line
from pipeline.report.compared import Compared
from pipeline.report.inline import inline
from pipeline.report.section import (
    Cell,
    Column,
    Picture,
    Section,
    Table,
    between,
    number,
    percent,
    points,
    signed,
    whole,
)  # fmt: skip

MOST_METHODS = 30  # in the map of agreement: more columns than that are no picture
LEVELS = 8  # of colour, `h0` (none) … `h7` in the page's style


def section(compared: Compared) -> Section | None:
    """Paired differences and agreement; None where neither is there."""
    lines = [line for line in compared.lines if line.difference is not None]
    lines.sort(key=lambda line: -(line.difference or 0.0))
    drawn = [line for line in lines if line in compared.drawn]
    agreement = _agreement(compared)
    if not lines and agreement is None:
        return None
    content = {
        "baseline": compared.baseline,
        "picture": _picture(drawn) if drawn else None,
        "table": _table(lines, compared.baseline.method) if lines and compared.baseline else None,
        "agreement": agreement,
    }
    return Section("differences", "Differences between methods", content)


def _picture(lines: Sequence[Line]) -> Picture:
    figure, panels = plots.by_method(lines, panels=2)
    hints: dict[str, str] = {}
    for axes, name, scale in zip(panels, ("difference", "log_loss_difference"), (100, 1), strict=True):
        axes.axvline(0, color=plots.INK, linewidth=1)
        for place, line in enumerate(lines):
            hints |= _draw(axes, line, name, scale, place)
    panels[0].set_xlabel("top-1, points (right: better)")
    panels[1].set_xlabel("log-loss, nats (left: better)")
    words = (
        "Paired differences from the baseline on the same test images, with 95 % intervals. "
        f"An interval that misses zero is no proof: see p, corrected, in the table. {plots.COLOURS}"
    )
    svg = inline(plots.svg(figure), "differences", words=words, hints=hints)
    return Picture("Differences from the baseline", words, svg)


def _draw(axes: Axes, line: Line, name: str, scale: int, place: int) -> dict[str, str]:
    value, low, high = (getattr(line, f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return {}
    gid = f"{name}-{place}"
    axes.plot([scale * low, scale * high], [place, place], color=plots.colour_of(line), linewidth=1.8)
    plots.point(axes, scale * value, place, line, gid)
    interval = between([scale * low, scale * high], signed)
    return {gid: f"{line.label}: {signed(scale * value)} {interval}"}


def _table(lines: Sequence[Line], baseline: str) -> Table:
    columns = [
        Column("method", number=False),
        Column("top-1, points", words="with its interval by paired bootstrap"),
        Column("p", words="exact McNemar test of top-1, corrected by Holm over all methods"),
        Column("only this", words="test images that only this method is right about"),
        Column("only baseline", words=f"test images that only {baseline} is right about"),
        Column("log-loss, nats", words="with its interval by paired bootstrap; below zero is better"),
        Column("p of log-loss", words="permutation test, corrected by Holm"),
    ]
    rows = [
        [
            Cell(line.method),
            number(line.difference, points, _interval(line, "difference")),
            number(line.p_value, p_value),
            number(line.better, whole),
            number(line.worse, whole),
            number(line.log_loss_difference, signed, _interval(line, "log_loss_difference")),
            number(line.log_loss_p_value, p_value),
        ]
        for line in lines
    ]
    caption = f"Differences from {baseline}, 95 % intervals in brackets"
    return Table(caption, columns, rows, sorted_by=1, descending=True)


def _interval(line: Line, name: str) -> str:
    low, high = getattr(line, f"{name}_low"), getattr(line, f"{name}_high")
    if low is None or high is None:
        return ""
    return between([low, high], points if name == "difference" else signed)


def _agreement(compared: Compared) -> dict[str, Any] | None:
    """The share of test images on which two methods give the same answer, best methods first."""
    record = compared.record.get("agreement")
    if not record:
        return None
    places = {name: place for place, name in enumerate(record["methods"])}
    names = [line.method for line in compared.drawn if line.method in places]
    if len(names) < 2:
        return None
    shown = names[:MOST_METHODS]
    order = [places[name] for name in shown]
    share = np.array(record["share"])[np.ix_(order, order)]
    return {
        "names": shown,
        "cells": [
            [
                ("–", 0) if here == there else (percent(value), level)
                for there, (value, level) in enumerate(zip(row, levels, strict=True))
            ]
            for here, (row, levels) in enumerate(zip(share, evenly(share), strict=True))
        ],
        "left_out": len(names) - len(shown),
    }


def evenly(values: NDArray[Any]) -> list[list[int]]:
    """Levels of colour of a square table, evenly from its least to its largest value off the diagonal."""
    others = values[~np.eye(len(values), dtype=bool)]
    spread = max(float(others.max() - others.min()), 1e-9)
    steps = (values - others.min()) / spread * (LEVELS - 1)
    levels: list[list[int]] = (1 + np.clip(steps, 0, LEVELS - 2).astype(int)).tolist()
    return levels
