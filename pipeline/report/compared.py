"""The last comparison, as all sections of the report read it.

compared = Compared.read(project)
compared.best, compared.baseline        # Lines, or None
compared.predictions("pool5.logreg")
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput
from features.manifest import Manifest
from pipeline.project import Project, read_json
from pipeline.records.comparison import Line, baseline_of, best_head, read_lines, read_predictions
from pipeline.records.heads import MAJORITY
from pipeline.records.predictions import Predictions


@dataclass(frozen=True)
class Compared:
    """A comparison and the images it is about.

    Attributes
    ----------
    lines : sequence of Line
        Highest test accuracy first.
    record : mapping
        The content of `artifacts/comparison.json`.
    """

    project: Project
    manifest: Manifest
    lines: Sequence[Line]
    test_images: int
    record: Mapping[str, Any]

    @classmethod
    def read(cls, project: Project) -> "Compared":
        """Read it; BadInput where `compare`, `prepare` or `extract` has to run first."""
        lines, test_images = read_lines(project)
        for needed, command in ((project.dataset_record, "prepare"), (project.extract_record, "extract")):
            if not needed.exists():
                raise BadInput(f"there is no {needed}; run `python cli.py {command}` first")
        ordered = sorted(lines, key=lambda line: -line.top1)
        return cls(project, project.read_manifest(), ordered, test_images, read_json(project.comparison))

    @cached_property
    def baseline(self) -> Line | None:
        """What differences are taken from."""
        return baseline_of(self.lines)

    @cached_property
    def best(self) -> Line | None:
        """The head that validation rows choose."""
        return best_head(self.lines)

    @cached_property
    def drawn(self) -> Sequence[Line]:
        """All but the majority class, whose accuracy would press all others together in a picture."""
        return [line for line in self.lines if line.method != MAJORITY] or self.lines

    @cached_property
    def looked_into(self) -> list[Line]:
        """The methods whose single answers are shown: best head and baseline, or what there is."""
        found = [line for line in (self.best, self.baseline) if line]
        return found or [best_head(self.lines, control=True) or self.lines[0]]

    @cached_property
    def test_rows(self) -> NDArray[np.intp]:
        """The manifest's rows that predictions are about, (n_test,)."""
        return self.manifest.where("test")

    def predictions(self, method: str) -> Predictions:
        """Read a method's predictions of the test rows; BadInput where they are of other images."""
        if method not in self._read:
            found = read_predictions(self.project, method)
            if found.id.tolist() != [self.manifest.rows[row].id for row in self.test_rows]:
                raise BadInput(
                    f"the predictions of {method} are of other images; run `python cli.py compare` first"
                )
            self._read[method] = found
        return self._read[method]

    def is_of_now(self, features: Mapping[str, str]) -> bool:
        """Whether these are the published stores' fingerprints, by layer."""
        return all(print_ == self._fingerprint(layer) for layer, print_ in features.items())

    def _fingerprint(self, layer: str) -> str | None:
        path = self.project.features / f"{layer.replace(':', '-')}.zarr" / "zarr.json"
        return str(read_json(path)["attributes"]["fingerprint"]) if path.exists() else None

    @cached_property
    def _read(self) -> dict[str, Predictions]:
        return {}
