"""Which layer suits which head: the best validation accuracy of each, with every normalisation.

    python cli.py layer-map

From what training tried (`tuning.csv` of every head); nothing is fitted. Writes
`artifacts/studies/layer-map.csv` and `artifacts/studies/layer-map.svg`, and prints the table.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from features.files import written_aside
from features.manifest import Manifest, write_csv
from features.weights import marked
from pipeline.plots import heat_map, svg
from pipeline.project import Project
from pipeline.records.heads import SCORES
from pipeline.studies.layer_cells import MapCell, cells_of
from pipeline.terminal import MARKS, plain_console

COLUMNS = ("layer", "weights", "head", "normalisation", *SCORES, "chosen", "best_of_layer")


def layer_map(project: Project) -> list[MapCell]:
    """Write and print the map; returns its cells, layers in network order.

    Raises
    ------
    BadInput
        Where a head has to be trained first, or no head uses a layer.
    """
    manifest = project.read_manifest()
    cells = cells_of(project, manifest)
    path = project.studies / "layer-map.csv"
    with project.writing(path) as scratch:
        with written_aside(path.with_suffix(".svg"), scratch=scratch) as aside:
            aside.write_text(svg(picture(cells)), "utf-8")
        write_csv(path, COLUMNS, [tuple(vars(cell).values()) for cell in cells])
    console = plain_console()
    console.print(table(cells, scored_on(project, manifest)))
    console.print(f"Picture: {path.with_suffix('.svg')}", soft_wrap=True)
    return cells


def scored_on(project: Project, manifest: Manifest) -> str:
    """What the accuracies are shares of, in words."""
    validation, train = len(manifest.where("validation")), len(manifest.where("train"))
    if project.settings.tuning.protocol == "validation":
        return f"{validation} validation images"
    return f"{train + validation} train and validation images by cross-validation"


def table(cells: Sequence[MapCell], scored: str) -> Table:
    """A row per layer and normalisation, a column per head; `scored` says on what."""
    heads = list(dict.fromkeys(cell.head for cell in cells))
    shown = Table(
        box=box.SIMPLE_HEAD,
        title=(f"Best top-1 % of all tried, on {scored}, which also chose it; ◂ best of its layer"),
        title_justify="left",
    )
    for heading in ("layer", "weights", "normalisation"):
        shown.add_column(heading, no_wrap=True)
    for head in heads:
        shown.add_column(f"{head}  ", justify="right", no_wrap=True)
    for layer in dict.fromkeys(cell.layer for cell in cells):
        of_layer = [cell for cell in cells if cell.layer == layer]
        for kind in dict.fromkeys(cell.normalisation for cell in of_layer):
            found = {cell.head: cell for cell in of_layer if cell.normalisation == kind}
            texts = [f"{100 * found[head].top1:.1f} {'◂' if found[head].winner else ' '}" for head in heads]
            shown.add_row(layer, MARKS[of_layer[0].weights], kind, *texts)
        shown.add_section()
    return shown


def picture(cells: Sequence[MapCell]) -> Figure:
    """The same as a heat map, layers downwards in network order; untrained weights are labelled."""
    columns = list(dict.fromkeys((cell.head, cell.normalisation) for cell in cells))
    weights = {cell.layer: cell.weights for cell in cells}
    top1 = np.array([cell.top1 for cell in cells]).reshape(len(weights), len(columns))
    winners = [number % len(columns) for number, cell in enumerate(cells) if cell.winner]
    rows = [marked(layer, label) for layer, label in weights.items()]
    return heat_map(top1, winners, rows, columns)
