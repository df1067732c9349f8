"""A trained method as one ONNX file: preprocessing, network, head and calibration.

    python cli.py export --method pool5.logreg --output digits.onnx

    session = onnxruntime.InferenceSession("digits.onnx")
    probabilities, label = session.run(None, {"image": rgb})    # (h, w, 3) uint8, any size, upright
    names = json.loads(session.get_modelmeta().custom_metadata_map["classes"])

The file is kept only where onnxruntime gives the same as `predict`, on images. What `predict`
does and a graph cannot: decode a file, and turn an image as its EXIF orientation says.
"""

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from features.errors import BadInput, Unreadable
from features.files import written_aside
from features.weights import UNTRAINED
from pipeline.datasets.catalogue import source
from pipeline.export.model import describe, to_onnx
from pipeline.predict.images import opened
from pipeline.predict.opening import trained
from pipeline.predict.paths import listed
from pipeline.predict.predictor import Predictor, chosen
from pipeline.project import Project
from pipeline.records.since import since

CHECKED = 200  # images
# Pixels are equal to the last bit. Activations differ by the engines' rounding, at most 2.5 % of a layer's
# largest value where a GPU computed in fp16 (see `features.engines.choice.TOLERANCE`), in fp32 6e-5; what
# that does to a probability was below 1e-3 wherever it was measured. A hundredth is more than rounding.
TOLERANCE = 0.01
HEAD_FILES = ("head.safetensors", "card.json", "README.md")


@dataclass(frozen=True)
class Parity:
    """How an exported file compares with `predict`.

    Attributes
    ----------
    images : int
        On which both were run.
    difference : float
        Largest difference of any probability.
    agree : int
        Images of which both give the same label.
    """

    images: int
    difference: float
    agree: int

    def __str__(self) -> str:
        return (
            f"largest difference of a probability {self.difference:.1e}, "
            f"{self.agree} of {self.images} labels agree"
        )


class _NotEqual(Exception):
    """An exported file differs from `predict`."""


def export(
    project: Project,
    *,
    method: str | None = None,
    output: Path | None = None,
    images: Path | None = None,
    tolerance: float = TOLERANCE,
) -> bool:
    """Write a method as ONNX and compare it with `predict`.

    Parameters
    ----------
    method : str, optional
        By default the head that validation rows choose.
    output : Path, optional
        By default `artifacts/export/<method>.onnx`.
    images : Path, optional
        A folder of images to compare on, in place of the test images.
    tolerance : float
        Largest difference of a probability that is accepted.

    Returns
    -------
    Whether both agree; where not, no file is left.

    Raises
    ------
    BadInput
        For a method that cannot be exported; without onnxruntime; without images to compare on.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise BadInput(
            "export checks its file with onnxruntime, which is not installed: pip install onnxruntime"
        )
    predictor = Predictor(project, method)
    name = predictor.method.name
    target = output or project.artifacts / "export" / f"{name.replace(':', '-')}.onnx"
    model = to_onnx(predictor.method, describe(project, predictor.method))
    compared = _images(project, images)
    try:
        with written_aside(target) as aside:
            onnx.save_model(model, aside)
            del model  # half a gigabyte, perhaps
            onnx.checker.check_model(aside)
            found = parity(aside, predictor, compared)
            if not found.difference <= tolerance:
                raise _NotEqual
    except _NotEqual:
        print(
            f"export: {name} differs from predict: {found}; accepted is {tolerance:g}; no file was left",
            flush=True,
        )
        return False
    size = target.stat().st_size / 1e6
    note = f" [{predictor.method.weights} weights]" if predictor.method.weights in UNTRAINED else ""
    print(f"export: {name}{note} → {target} ({size:.1f} MB); {found}", flush=True)
    for sentence in since(project) if method is None else ():
        print(f"export: {name} was chosen by the last compare. {sentence}", flush=True)
    return True


def export_head(project: Project, *, method: str | None, output: Path | None) -> None:
    """Copy a head alone, its arrays and its cards, into a folder; BadInput for what is not one head."""
    if output is None:
        raise BadInput("--head-only copies a head into a folder: name it with --output")
    name = method or chosen(project)
    folder = trained(project).get(name)
    if folder is None or not (folder / "head.safetensors").exists():
        raise BadInput(
            f"{name} is not a trained head; --head-only needs one, as `--method pool5.logreg` names it"
        )
    with written_aside(output) as aside:
        aside.mkdir()
        for file in HEAD_FILES:
            shutil.copyfile(folder / file, aside / file)
    print(f"export: {name} → {output}", flush=True)


def _images(project: Project, folder: Path | None) -> list[Image.Image]:
    """At most `CHECKED` images, evenly spread, upright RGB; BadInput for none."""
    if folder is None:
        manifest, images = (
            project.read_manifest(),
            source(project.settings.dataset.name, project.dataset_root),
        )
        rows = [manifest.rows[number] for number in _spread(manifest.where("test"))]
        return [images.image(row.path, row.sha256) for row in rows]
    found = []
    for path in listed([str(folder)]):
        try:
            found.append(opened(path).image)
        except (Unreadable, OSError):
            continue  # `predict` says why; here what can be read is enough
        if len(found) == CHECKED:
            break
    if not found:
        raise BadInput(f"--images {folder}: no image there can be read")
    return found


def _spread(numbers: NDArray[np.intp]) -> NDArray[np.intp]:
    chosen_of = np.linspace(0, len(numbers) - 1, min(CHECKED, len(numbers)))
    return np.asarray(numbers[chosen_of.round().astype(int)])


def parity(file: Path, predictor: Predictor, images: Sequence[Image.Image]) -> Parity:
    """Run onnxruntime on an exported file and `predict`, on the same images (upright RGB)."""
    import onnxruntime  # noqa: PLC0415 - may not be installed

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    answers = predictor.predict(images)
    pairs = [(image, one.proba) for image, one in zip(images, answers, strict=True) if one.proba is not None]
    if not pairs:
        raise BadInput(f"predict has no answer for any of the images to compare on: {answers[0].problem}")
    found = np.array([session.run(["probabilities"], {"image": np.asarray(image)})[0] for image, _ in pairs])
    expected = np.array([proba for _, proba in pairs])
    agree = int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
    return Parity(len(pairs), float(np.abs(found - expected).max()), agree)
