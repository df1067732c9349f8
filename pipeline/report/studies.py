"""What commands beside the pipeline found, where they found it of these images and settings.

`curve`, `layer-map` and `sweep-cut` each leave a picture and a record of what it came from.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from features.errors import BadInput
from features.files import naming, read_text
from pipeline.finetuning.plan import plans
from pipeline.project import read_json
from pipeline.report.compared import Compared
from pipeline.report.inline import inline
from pipeline.report.section import Picture, Section
from pipeline.studies.layer_cells import cells_of

Belongs = Callable[[Compared, Path], bool]


@dataclass(frozen=True)
class Study:
    """A command that leaves a picture; `record` and `picture` lie in `artifacts/studies`."""

    command: str
    record: str
    picture: str
    title: str
    words: str
    belongs: Belongs


def section(compared: Compared) -> Section | None:
    """Pictures of what was run, a sentence on what has to be run again; None where nothing was run."""
    pictures, outdated = [], []
    for study in STUDIES:
        record = compared.project.studies / study.record
        drawn = compared.project.studies / study.picture
        if not record.exists() or not drawn.exists():
            continue
        if study.belongs(compared, record):
            svg = inline(read_text(drawn), study.command, words=study.words)
            pictures.append(Picture(study.title, study.words, svg))
        else:
            outdated.append(study)
    if not pictures and not outdated:
        return None
    return Section("studies", "More images, other layers", {"pictures": pictures, "outdated": outdated})


def _curve(compared: Compared, record: Path) -> bool:
    """Whether learning curves are of these images, features, grids and this tuning."""
    found, settings = read_json(record), compared.project.settings
    heads = settings.heads.named()
    return (
        found["manifest"] == compared.manifest.digest
        and found["tuning"] == settings.tuning.model_dump(mode="json")
        and all(
            name in heads and grid == heads[name].model_dump(mode="json")
            for name, grid in found["grids"].items()
        )
        and compared.is_of_now(found["features"])
    )


def _map(compared: Compared, record: Path) -> bool:
    """Whether the map says what the trained heads say now."""
    with naming(record), record.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    try:
        cells = cells_of(compared.project, compared.manifest)
    except BadInput:  # a head was not trained, or with other settings
        return False
    return rows == [[str(value) for value in vars(cell).values()] for cell in cells]


def _cut(compared: Compared, record: Path) -> bool:
    """Whether the sweep's runs are those that these images and settings would have."""
    found = read_json(record)
    try:
        return all(
            cut["runs"] == [
                plan.folder.name
                for plan in plans(compared.project, compared.manifest, cut["mode"], len(cut["runs"]))
            ]
            for cut in found["cuts"]
        )  # fmt: skip
    except BadInput:  # a mode that this network does not have, weights that are not there
        return False


STUDIES = (
    Study(
        "curve", "curve.json", "curve.svg", "Accuracy against the number of train images",
        "Validation accuracy by train images per class; both axes are logarithmic, the vertical one in the "
        "error. A band is the 95 % interval over draws, the bar at the end the one over validation images, "
        "the dashed line an extrapolation to twice the images.",
        _curve,
    ),
    Study(
        "layer-map", "layer-map.csv", "layer-map.svg", "Which layer suits which head",
        "Best validation accuracy of each head on each layer, in %, with each normalisation; the best of "
        "a layer is framed. The same rows chose and scored.",
        _map,
    ),
    Study(
        "sweep-cut", "cut.json", "cut.svg", "Where to cut",
        "Accuracy, seconds and trained parameters where the network is frozen up to a layer and the rest is "
        "trained; each faint point is one seed, the bar the 95 % interval over seeds.",
        _cut,
    ),
)  # fmt: skip
