"""Which layer suits which head: the cells of the map, read from what training tried."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from features.errors import BadInput
from features.manifest import Manifest
from features.network import Layer
from pipeline.project import Project
from pipeline.records.heads import MAJORITY, SCORES, TrainedHeads, method_folder, read_trials
from pipeline.statistics.ranking import rank, rank_of_methods


@dataclass(frozen=True)
class MapCell:
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


def cells_of(project: Project, manifest: Manifest) -> list[MapCell]:
    """Read the map's cells from what training tried (see `layer_map`)."""
    heads = [head for head in project.settings.heads.named() if head != MAJORITY]
    if not heads:
        raise BadInput(
            "heads: names none that uses a layer; add one to params.yaml, such as logreg: {C: [1]}"
        )
    layers = sorted(project.layers, key=depth)
    trained = TrainedHeads(project, manifest)
    return [cell for layer in layers for cell in _of_layer(trained, heads, layer)]


def depth(layer: Layer) -> tuple[int, bool, str]:
    """Sorts layers as an image meets them: pixels, then step by step, before the ReLU and after."""
    return layer.depth, not layer.pre, layer.pooling


def _of_layer(trained: TrainedHeads, heads: Sequence[str], layer: Layer) -> list[MapCell]:
    cells = []
    for head in heads:
        card = trained.card(head, layer)
        trials = read_trials(method_folder(trained.project, head, layer))
        tried = [_cell(layer, card["weights"], head, row) for row in trials]
        for kind in dict.fromkeys(cell.normalisation for cell in tried):
            cells.append(max((cell for cell in tried if cell.normalisation == kind), key=_rank))
    best = max(cells, key=lambda cell: rank_of_methods(cell.score, cell.log_loss))  # the simplest come first
    return [replace(cell, winner=cell is best) for cell in cells]


def _cell(layer: Layer, weights: str, head: str, row: Mapping[str, str]) -> MapCell:
    chosen = {name: value for name, value in row.items() if name not in (*SCORES, "normalisation")}
    return MapCell(
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


def _rank(cell: MapCell) -> tuple[float, float]:
    """Higher is better."""
    return rank(cell.score, cell.log_loss)
