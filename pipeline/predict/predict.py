"""Predictions in print: a table, CSV, or a JSON object a line; and the command around them.

python cli.py predict photos --top 3
find . -name '*.jpg' | python cli.py predict - --format json
"""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from features.errors import BadInput
from features.weights import UNTRAINED, marked
from pipeline.datasets.names import shown
from pipeline.predict.paths import lines, listed
from pipeline.predict.predictor import Prediction, Predictor
from pipeline.project import Project, read_json
from pipeline.records.since import since

FORMATS = ("table", "csv", "json")
MANY = 64  # images from which on progress is shown


def predict(
    project: Project,
    arguments: Sequence[str],
    *,
    method: str | None,
    top: int,
    threshold: float,
    form: str | None,
    neighbours: int,
) -> None:
    """Predict images and print what comes of it; `-` reads paths from standard input.

    Raises
    ------
    BadInput
        Where nothing matches, no image could be read, or the method cannot be used.
    """
    live = "-" in arguments
    if live and len(arguments) > 1:
        raise BadInput("- reads all paths from standard input; leave the other arguments out")
    paths = [] if live else listed(arguments)
    predictor = Predictor(project, method, threshold=threshold, neighbours=neighbours)
    _announce(predictor)
    if method is None:
        say_how_chosen(project)
    found = predictor.stream(lines(sys.stdin.buffer)) if live else _shown(predictor, paths, form)
    counted = _Counted(found)
    # A table is as wide as its widest row: it cannot be printed as they come
    WRITERS[form or ("csv" if live else "table")](counted, top, neighbours)
    _say(counted)


class _Counted:
    """Passes predictions on and counts them."""

    def __init__(self, predictions: Iterable[Prediction]) -> None:
        self.predictions = predictions
        self.all = self.unread = self.abstained = 0
        self.first = ""  # reason why an image could not be read

    def __iter__(self) -> Iterator[Prediction]:
        for one in self.predictions:
            self.all += 1
            self.unread += one.proba is None
            self.abstained += one.proba is not None and one.label is None
            self.first = self.first or (one.problem if one.proba is None else "")
            yield one


def _shown(predictor: Predictor, paths: Sequence[Any], form: str | None) -> Iterator[Prediction]:
    """Show progress of many images, where it is not between the rows on a terminal."""
    from features.progress import Progress  # noqa: PLC0415 - rich, for many images only

    shown = len(paths) >= MANY and not (form in ("csv", "json") and sys.stdout.isatty())
    with Progress("predict", len(paths), "images") if shown else nullcontext() as progress:
        for one in predictor.answers(paths):
            if progress:
                progress.advance(1)
            yield one


def _announce(predictor: Predictor) -> None:
    """Say on standard error which method answers, how good it was on test images, and what it stands on."""
    method, project = predictor.method, predictor.project
    content = read_json(project.comparison) if project.comparison.exists() else {"lines": []}
    line = next((line for line in content["lines"] if line["method"] == method.name), None)
    words = "not compared yet"
    if line and content.get("identities", {}).get(method.name) != method.identity:
        words = "trained after the last compare: `python cli.py compare` says how good it is"
    elif line:
        words = (
            f"test top-1 {100 * line['top1']:.1f} % [{100 * line['low']:.1f}, {100 * line['high']:.1f}] "
            f"on {content['test_images']} images"
        )
    print(f"predict: {marked(method.name, method.weights)}, {words}", file=sys.stderr, flush=True)
    if method.weights in UNTRAINED:
        print(f"predict: its layer is computed with {method.weights} weights", file=sys.stderr, flush=True)
    if method.note:
        print(f"predict: {method.note}", file=sys.stderr, flush=True)


def say_how_chosen(project: Project) -> None:
    """Say on standard error where a method was chosen by a comparison of others than are trained now."""
    for sentence in since(project):
        print(f"predict: the method was chosen by the last compare. {sentence}", file=sys.stderr, flush=True)


def _say(counted: _Counted) -> None:
    """Count on standard error what has no label; BadInput where not one image could be read."""
    if counted.unread and counted.unread == counted.all:
        raise BadInput(f"no image could be read: {counted.first}" + (", …" if counted.all > 1 else ""))
    notes = [(counted.unread, "could not be read"), (counted.abstained, "are below the threshold")]
    for number, words in notes:
        if number:
            print(f"predict: {number} of {counted.all} images {words}", file=sys.stderr)


def _columns(top: int, neighbours: int) -> list[str]:
    ranks = range(1, top + 1) if top > 1 else ()
    return [
        "image", "label", "probability", "problem",
        *(name for rank in ranks for name in (f"top_{rank}", f"top_{rank}_probability")),
        *(
            name
            for rank in range(1, neighbours + 1)
            for name in (f"neighbour_{rank}", f"neighbour_{rank}_label", f"neighbour_{rank}_similarity")
        ),
        "note",
    ]  # fmt: skip


def _write_csv(predictions: Iterable[Prediction], top: int, neighbours: int) -> None:
    columns = _columns(top, neighbours)
    plain = csv.writer(sys.stdout, lineterminator="\n")
    # Before Python 3.13 a carriage return in a name is not quoted, and ends the row for a reader
    quoted = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(columns)
    for one in predictions:
        row = [one.image, one.label or "", _number(one.probability), one.problem]
        if top > 1:
            row += [cell for name, p in one.top(top) for cell in (name, _number(p))]
            row += [""] * (4 + 2 * top - len(row))
        row += [cell for n in one.neighbours for cell in (n.path, n.label, _number(n.similarity))]
        row += [""] * (len(columns) - len(row) - 1) + [one.note]
        (quoted if any("\r" in cell for cell in row) else plain).writerow(row)
        sys.stdout.flush()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _write_json(predictions: Iterable[Prediction], top: int, neighbours: int) -> None:
    for one in predictions:
        content: dict[str, Any] = {
            "image": one.image,
            "label": one.label,
            "probability": one.probability,
            "problem": one.problem or None,
        }
        if top > 1:
            content["top"] = [{"label": name, "probability": p} for name, p in one.top(top)]
        if neighbours:
            content["neighbours"] = [vars(neighbour) for neighbour in one.neighbours]
        content["note"] = one.note or None
        print(json.dumps(content, ensure_ascii=False), flush=True)


def _write_table(predictions: Iterable[Prediction], top: int, neighbours: int) -> None:
    from rich import box  # noqa: PLC0415 - not for CSV and JSON
    from rich.table import Table  # noqa: PLC0415

    from pipeline.terminal import plain_console  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD)
    headings = ["image", "label", "probability"]
    headings += ["then"] if top > 1 else []
    headings += ["nearest train images"] if neighbours else []
    rows = list(predictions)
    said = [name for name in ("problem", "note") if any(getattr(one, name) for one in rows)]
    headings += said
    for heading in headings:
        table.add_column(heading, justify="right" if heading == "probability" else "left", overflow="fold")
    console = plain_console()
    for one in rows:
        cells = [one.image, one.label or "", "" if one.probability is None else f"{one.probability:.3f}"]
        if top > 1:
            cells.append(", ".join(f"{name} {p:.3f}" for name, p in one.top(top)[1:]))
        row = [*map(shown, cells)]
        if neighbours:
            row.append("\n".join(shown(f"{n.similarity:.3f} {n.label} {n.path}") for n in one.neighbours))
        table.add_row(*row, *(shown(getattr(one, name)) for name in said))
    console.print(table)


WRITERS = dict(zip(FORMATS, (_write_table, _write_csv, _write_json), strict=True))
