"""What the cached features show of the images, for the report; nothing is trained for it.

    found = inspection(project, lines, thumbnails)

One layer's features are reduced once (`reduction`), every image's nearest neighbours are found
(`search`), and all parts look at these: a map (`embedding`), test images with their neighbours
(`neighbours`), suspected wrong labels (`suspects`), near-duplicates across splits (`duplicates`).
All suspects and pairs, also those that the page has no room for, are written beside the page:
`report/suspects.csv` and `report/duplicates.csv`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.errors import BadInput
from features.manifest import Manifest
from features.network import parse_layer
from features.positions import Positions
from features.store import FeatureStore
from pipeline.inspection import embedding
from pipeline.inspection.duplicates import LEAST, TOGETHER, Duplicates, duplicates
from pipeline.inspection.heard import Heard, hear
from pipeline.inspection.neighbours import Example, Mixture, examples, mixture
from pipeline.inspection.reduction import reduce
from pipeline.inspection.search import neighbours
from pipeline.inspection.suspects import (
    AGAINST,
    FEWEST,
    FOR,
    NEIGHBOURS,
    SHOWN,
    Control,
    Suspect,
    suspects,
    trial,
    voters,
    votes,
)
from pipeline.inspection.tables import write_tables
from pipeline.inspection.thumbnails import Thumbnails
from pipeline.project import Project
from pipeline.records.comparison import Line, best_head


@dataclass(frozen=True)
class Inspection:
    """All that the page shows; images are rows of the manifest.

    Attributes
    ----------
    words : str
        Which features of which images it was computed from.
    method : str, or None
        The best head, where there is one.
    reduced : int
        How many images were looked at.
    voters : int
        Neighbours that vote on a label.
    suspects, duplicates
        All of them; the page shows the first `shown`.
    accuracy : (all, without near-duplicates) or None
        The best head's share of right answers among test images; None where that would be the same.
    """

    words: str
    reduced: int
    method: str | None
    map: embedding.Map
    mixture: Mixture
    examples: list[Example]
    voters: int
    suspects: list[Suspect]
    trial: Control | None
    duplicates: Duplicates | None
    accuracy: tuple[float, float] | None
    heard: Heard | None
    manifest: Manifest
    thumbnails: Thumbnails
    shown: int = SHOWN

    @property
    def rules(self) -> dict[str, float]:
        """The constants that the page explains."""
        return {"against": AGAINST, "for": FOR, "fewest": FEWEST + 1, "least": LEAST, "together": TOGETHER}

    @property
    def wrong(self) -> int:
        """How many of the examples the best head gets wrong: they stand first."""
        if self.heard is None:
            return 0
        says, labels = self.heard.says, self.manifest.labels
        return sum(says[one.row] not in (-1, labels[one.row]) for one in self.examples)

    @property
    def points(self) -> dict[str, Any]:
        """The map, for the page's script."""
        images = [self.manifest.rows[row] for row in self.map.rows]
        names, colours = self.map.legend(self.manifest)
        return {
            "classes": names,
            "others": len(names) in colours,
            "colour": colours,
            "label": [image.label for image in images],
            "split": [image.split for image in images],
            "path": [image.path for image in images],
            "row": self.map.rows.tolist(),
            "layouts": [
                {"name": one.name, "words": one.words, "places": one.places.tolist()}
                for one in self.map.layouts
            ],
        }


def inspection(project: Project, lines: Sequence[Line], thumbnails: Thumbnails) -> Inspection | None:
    """Look at the images through the layer of the best head; None where there is no store to look at.

    Raises
    ------
    BadInput
        Where the store is damaged.
    """
    manifest = thumbnails.manifest
    serving = store_for(project, lines, manifest)
    if serving is None:
        return None
    reduced = reduce(serving[1], manifest, serving[0])
    if reduced.coordinates.shape[1] < 2 or len(reduced.rows) <= NEIGHBOURS:
        return None  # all images are alike, or there is next to nothing to compare
    labels = manifest.labels[reduced.rows]
    found, similarity = neighbours(reduced.unit, _groups(manifest, reduced.rows), NEIGHBOURS)
    k = voters(labels)
    near = (found[:, :k], similarity[:, :k])
    heard = hear(project, lines, manifest)
    pairs = duplicates(reduced, found, similarity, thumbnails)
    copied = [pair.row for pair in pairs.pairs] if pairs else []
    made = Inspection(
        words=reduced.words,
        reduced=len(reduced.rows),
        method=heard.method if heard else None,
        map=embedding.draw(reduced),
        mixture=mixture(*near, labels, manifest.classes),
        examples=examples(reduced, manifest, heard),
        voters=k,
        suspects=suspects(votes(*near, labels), reduced.rows, manifest, heard),
        trial=trial(*near, labels),
        duplicates=pairs,
        accuracy=heard.accuracy_without(manifest, copied) if heard else None,
        heard=heard,
        manifest=manifest,
        thumbnails=thumbnails,
    )
    write_tables(project.report.parent, manifest, made.suspects, pairs)
    _ask(made)
    return made


def store_for(project: Project, lines: Sequence[Line], manifest: Manifest) -> tuple[str, FeatureStore] | None:
    """Open the store of the best head's layer, else of the next best; `pixels` where there is no other."""
    ranked: list[str] = []
    left = [line for line in lines if "." in line.method]  # neither an ensemble nor `majority`
    while line := best_head(left):
        ranked.append(line.method.rpartition(".")[0])
        left.remove(line)
    others = [layer.name for layer in project.layers]  # `pixels` last
    for name in dict.fromkeys([*ranked, *others]):
        try:
            return name, project.store(parse_layer(name, project.settings.weights.network), manifest)
        except BadInput:
            continue
    return None


def _groups(manifest: Manifest, rows: Positions) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Numbers of what counts as one image: copies of a file, images of a group."""
    images = [manifest.rows[row] for row in rows]
    # A prefix that no digest has, so that no name of a group is taken for one
    names = [f"group {image.group}" if image.group else image.sha256 for image in images]
    return np.unique(names, return_inverse=True)[1]


def _ask(made: Inspection) -> None:
    """Ask for the pictures, the most important ones first: there is room for so many."""
    rows = [suspect.row for suspect in made.suspects[:SHOWN]]
    pairs = made.duplicates.pairs[:SHOWN] if made.duplicates else ()
    rows += [row for pair in pairs for row in (pair.row, pair.train)]
    for example in made.examples:
        rows += [example.row, *(row for row, _ in example.nearest)]
    for row in [*rows, *made.map.rows.tolist()]:
        made.thumbnails.uri(row)
