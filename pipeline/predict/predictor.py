"""Use a trained method on new images.

    python cli.py predict photos/*.jpg --top 3
    predictor = Predictor("."); predictor.predict(["cat.jpg"])[0].label

Images get the same preprocessing and engine as in training. One that cannot be read is a
prediction with a reason in place of a label, as is one below `threshold`: none is dropped.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from features.batches import Decoder
from features.errors import BadInput
from pipeline.datasets.names import in_utf8
from pipeline.predict.images import Asked, Given, Images, arriving, taken
from pipeline.predict.opening import open_method
from pipeline.project import Project
from pipeline.records.comparison import best_head, read_lines

if TYPE_CHECKING:
    from pipeline.predict.neighbours import Neighbour, Neighbours

GROUP = 128  # images that came meanwhile and are answered together


@dataclass(frozen=True, eq=False)  # of arrays there is no single answer to whether they are equal
class Prediction:
    """What a method says of one image.

    Attributes
    ----------
    image : str
        Its path, or its number where it was given as an image or array.
    classes : tuple of str
    proba : (n_classes,) float64 or None
        Calibrated probabilities; None where the image has no answer.
    label : str or None
        The most probable class; None below the threshold and where the image has no answer.
    problem : str
        Why there is no label, or empty.
    neighbours : tuple of Neighbour
        The nearest train images, where they were asked for.
    note : str
        What should be known of its file although it is used (`the first of 3 frames is used`), or empty.
    """

    image: str
    classes: tuple[str, ...]
    proba: NDArray[np.float64] | None
    label: str | None
    problem: str = ""
    neighbours: "tuple[Neighbour, ...]" = ()
    note: str = ""

    @property
    def probability(self) -> float | None:
        """Of the most probable class, also where that is below the threshold."""
        return None if self.proba is None else float(self.proba.max())

    def top(self, k: int) -> list[tuple[str, float]]:
        """Return the k most probable classes with their probabilities; of equals, the first in order."""
        _whole("k", k, 1)
        if self.proba is None:
            return []
        return [
            (self.classes[number], float(self.proba[number]))
            for number in np.argsort(-self.proba, kind="stable")[:k]
        ]


class Predictor:
    """A trained method of a project, ready for images.

    Parameters
    ----------
    project : Project, str or Path
        A project, or its folder.
    method : str, optional
        `pool5.logreg`, `ensemble`, `finetune.full`, …; by default the head that validation rows choose.
    threshold : float
        An image whose most probable class has less than this gets no label.
    neighbours : int
        How many nearest train images to find for each image; of methods on one layer.

    Attributes
    ----------
    classes : tuple of str
        In the order of the probabilities' columns.

    Raises
    ------
    BadInput
        Where the method is not trained, or was trained on features that the settings do not give.
    """

    def __init__(
        self,
        project: Project | str | os.PathLike[str],
        method: str | None = None,
        *,
        threshold: float = 0.0,
        neighbours: int = 0,
    ) -> None:
        _share("threshold", threshold)
        _whole("neighbours", neighbours, 0)
        if not isinstance(project, Project | str | os.PathLike):
            raise BadInput(f"project should be a project's folder, not {project!r}")
        if not isinstance(method, str | None):
            raise BadInput(f"method should be a method's name, not {method!r}")
        self.project = project if isinstance(project, Project) else Project.open(Path(project))
        self.method = open_method(self.project, method or chosen(self.project))
        self.classes = self.method.classes
        self.threshold = threshold
        self.neighbours = self._neighbours(neighbours) if neighbours else None

    def _neighbours(self, k: int) -> "Neighbours":
        from pipeline.predict.neighbours import Neighbours  # noqa: PLC0415 - zarr, for who asks only

        return Neighbours(self.project, self.method, k)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what to open: the other process reads the files, and checks that they are these."""
        k = self.neighbours.k if self.neighbours else 0
        return _reopened, (self.project, self.method.name, self.threshold, k, self.method.identity)

    @overload
    def predict(self, images: Asked) -> Prediction: ...  # type: ignore[overload-overlap] # a str is iterable
    @overload
    def predict(self, images: Iterable[Asked]) -> list[Prediction]: ...
    def predict(self, images: Images) -> Prediction | list[Prediction]:
        """Predict one image, or a list of all that are given.

        Parameters
        ----------
        images : one image, or any iterable of images
            An image is a path, the bytes of an image file or an open one, a Pillow image, or an array:
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8, grey, RGB or RGBA; (n, H, W, …) is a batch.

        Raises
        ------
        BadInput
            For what is neither an image nor a collection; an image that cannot be used is an
            answer with a reason.
        """
        one, items = taken(images)
        found = list(self.answers(list(items)))
        return found[0] if one else found

    def predict_proba(self, images: Images) -> NDArray[np.float64]:
        """Probabilities (n, n_classes), as in scikit-learn, (n_classes,) of one image (see `predict`).

        Raises
        ------
        BadInput
            For an image that has no answer, too: a row of probabilities cannot say why.
        """
        one, items = taken(images)
        found = list(self.answers(list(items)))
        if bad := next((one for one in found if one.proba is None), None):
            raise BadInput(f"image {bad.image}: {bad.problem}")
        proba = np.array([answer.proba for answer in found]).reshape(-1, len(self.classes))
        return np.asarray(proba[0] if one else proba)

    def stream(self, images: Images) -> Iterator[Prediction]:
        """Predict images as they come: each is answered without waiting for the next (see `predict`)."""
        start = 0
        for group in arriving(taken(images)[1], GROUP):
            yield from self.answers(group, start)
            start += len(group)

    def answers(self, images: Sequence[Asked], start: int = 0) -> Iterator[Prediction]:
        """Predict images that are all there, a round at a time; `start` is the first one's number."""
        method = self.method
        given = Given(images, method.preprocessing.crop)
        manifest = given.manifest(digests=any(view.startswith("crop-") for view in method.views))
        number = 0
        for scored in (
            method.scored(Decoder(manifest, given, method.preprocessing, method.views)) if images else ()
        ):
            near = self.neighbours(scored) if self.neighbours else [()] * len(scored.proba)
            for proba, neighbours in zip(scored.proba, near, strict=True):
                name = _name(images[number], start + number)
                one = self._prediction(name, proba, given.problems.get(number, ""), neighbours)
                yield replace(one, note=given.notes.get(number, ""))
                number += 1

    def _prediction(
        self, name: str, proba: NDArray[np.float64], problem: str, neighbours: "tuple[Neighbour, ...]"
    ) -> Prediction:
        if not problem and not np.isfinite(proba).all():
            dtype = self.project.settings.extract.dtype
            problem = f"its activations are beyond {dtype}, in which the heads were trained"
        if problem:
            return Prediction(name, self.classes, None, None, problem)
        best = int(proba.argmax())
        if proba[best] < self.threshold:
            problem = f"abstained: {proba[best]:.3f} is below the threshold of {self.threshold:g}"
        return Prediction(
            name, self.classes, proba, None if problem else self.classes[best], problem, neighbours
        )


def _reopened(project: Project, method: str, threshold: float, neighbours: int, identity: str) -> Predictor:
    """What a pickled predictor becomes; BadInput where the method was trained anew since it was pickled."""
    predictor = Predictor(project, method, threshold=threshold, neighbours=neighbours)
    if predictor.method.identity != identity:
        raise BadInput(f"{method} was trained anew since this Predictor was opened; open it again")
    return predictor


def _share(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise BadInput(f"{name} should be a number from 0 to 1, not {value!r}")


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise BadInput(f"{name} should be a whole number of at least {least}, not {value!r}")


def _name(item: Asked, number: int) -> str:
    return in_utf8(item) if isinstance(item, str | os.PathLike) else str(number)


def chosen(project: Project) -> str:
    """The head that validation rows choose among all on frozen features, as `results` says it.

    Raises
    ------
    BadInput
        Where nothing was compared yet, or no head was scored on rows that it was not fitted on.
    """
    try:
        best = best_head(read_lines(project)[0])
    except BadInput as error:
        raise BadInput(f"{error}, or name a --method") from error
    if best is None:
        raise BadInput(
            "the last comparison has no head with a validation score to choose by; name a --method"
        )
    return best.method
