"""Which layer suits which head: the best validation accuracy of each, with every normalisation.

    python cli.py layer-map

From what training tried (`tuning.csv` of every head); nothing is fitted. Writes
`artifacts/layer-map.csv` and `artifacts/layer-map.svg`, and prints the table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from features.errors import BadInput
from features.files import written_aside
from features.manifest import Manifest, write_csv
from features.network import Layer
from features.weights import marked
from pipeline.methods import trained_card
from pipeline.plots import heat_map, svg
from pipeline.project import Project
from pipeline.ranking import rank, rank_of_methods
from pipeline.terminal import MARKS, plain_console
from pipeline.train import SCORES, method_folder, read_trials

COLUMNS = ("layer", "weights", "head", "normalisation", *SCORES, "chosen", "best_of_layer")


@dataclass(frozen=True)
class Cell:
    """The best point of one head on one layer with one normalisation.

    Attributes
    ----------
    weights : str
        What the layer is computed with: `imagenet`, `untrained`, `random`, `file`, `none`.
    top1, log_loss, score : float
        Of the validation rows, which also chose the point: by the score (`tuning.score`).
    chosen : str
        The point's hyper-parameters.
    winner : bool
        Whether it is the best of its layer; of equals the simplest head's.
    """

    layer: str
    weights: str
    head: str
    normalisation: str
    top1: float
    log_loss: float
    score: float
    converged: bool
    chosen: str
    winner: bool = False


def layer_map(project: Project) -> list[Cell]:
    """Write and print the map; returns its cells, layers in network order.

    Raises
    ------
    BadInput
        Where a head has to be trained first, or no head uses a layer.
    """
    manifest = project.read_manifest()
    cells = cells_of(project, manifest)
    path = project.artifacts / "layer-map.csv"
    with project.writing(path) as scratch:
        with written_aside(path.with_suffix(".svg"), scratch=scratch) as aside:
            aside.write_text(svg(picture(cells)), "utf-8")
        write_csv(path, COLUMNS, [tuple(vars(cell).values()) for cell in cells])
    console = plain_console()
    console.print(table(cells, scored_on(project, manifest)))
    console.print(f"Picture: {path.with_suffix('.svg')}", soft_wrap=True)
    return cells


def cells_of(project: Project, manifest: Manifest) -> list[Cell]:
    """Read the map's cells from what training tried (see `layer_map`)."""
    heads = [head for head in project.settings.heads.named() if head != "majority"]
    if not heads:
        raise BadInput(
            "heads: names none that uses a layer; add one to params.yaml, such as logreg: {C: [1]}"
        )
    layers = sorted(project.layers, key=depth)
    return [cell for layer in layers for cell in _of_layer(project, heads, layer, manifest)]


def depth(layer: Layer) -> tuple[int, bool, str]:
    """Sorts layers as an image meets them: pixels, then step by step, before the ReLU and after."""
    return len(layer.steps), not layer.pre, layer.pooling


def _of_layer(project: Project, heads: Sequence[str], layer: Layer, manifest: Manifest) -> list[Cell]:
    cells = []
    for head in heads:
        card = trained_card(project, head, layer, manifest)
        trials = read_trials(method_folder(project, head, layer))
        tried = [_cell(layer, card["weights"], head, row) for row in trials]
        for kind in dict.fromkeys(cell.normalisation for cell in tried):
            cells.append(max((cell for cell in tried if cell.normalisation == kind), key=_rank))
    best = max(cells, key=lambda cell: rank_of_methods(cell.score, cell.log_loss))  # the simplest come first
    return [replace(cell, winner=cell is best) for cell in cells]


def _cell(layer: Layer, weights: str, head: str, row: Mapping[str, str]) -> Cell:
    chosen = {name: value for name, value in row.items() if name not in (*SCORES, "normalisation")}
    return Cell(
        layer.name,
        weights,
        head,
        row["normalisation"],
        float(row["validation_top1"]),
        float(row["validation_log_loss"]),
        float(row["validation_score"]),
        row["converged"] == "True",
        ", ".join(f"{name} {value}" for name, value in chosen.items()),
    )


def _rank(cell: Cell) -> tuple[float, float]:
    """Higher is better."""
    return rank(cell.score, cell.log_loss)


def scored_on(project: Project, manifest: Manifest) -> str:
    """What the accuracies are shares of, in words."""
    validation, train = len(manifest.where("validation")), len(manifest.where("train"))
    if project.settings.tuning.protocol == "validation":
        return f"{validation} validation images"
    return f"{train + validation} train and validation images by cross-validation"


def table(cells: Sequence[Cell], scored: str) -> Table:
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


def picture(cells: Sequence[Cell]) -> Figure:
    """The same as a heat map, layers downwards in network order; untrained weights are labelled."""
    columns = list(dict.fromkeys((cell.head, cell.normalisation) for cell in cells))
    weights = {cell.layer: cell.weights for cell in cells}
    top1 = np.array([cell.top1 for cell in cells]).reshape(len(weights), len(columns))
    winners = [number % len(columns) for number, cell in enumerate(cells) if cell.winner]
    rows = [marked(layer, label) for layer, label in weights.items()]
    return heat_map(top1, winners, rows, columns)
