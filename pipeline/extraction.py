"""The stages `weights` and `extract`: settings → weights → stores.

python cli.py weights
python cli.py extract --layer fc7
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from features import probe
from features.cache import activations
from features.digests import digest_file
from features.engines import choose, is_current
from features.errors import BadInput
from features.extract import Extraction, Report
from features.files import sha256_file, written_aside
from features.images import Preprocessing
from features.immutable import touch
from features.manifest import Manifest
from features.network import Layer, gflops
from features.profile import peak
from features.views import names
from features.weights import Weights
from pipeline.datasets import source
from pipeline.project import Project, read_json

STAGES = {  # as `extract --profile` explains them
    "load": "the network",
    "decode": "images, all threads together, while the network runs",
    "waiting": "for images",
    "forward": "copies to and from the device included",
    "write": "blocks, while the network runs",
    "blocked": "until blocks were written",
    "publish": "stores",
}


def obtain_weights(project: Project) -> None:
    """Make `artifacts/weights` current; says which source served and what is not trained."""
    settings = project.settings.weights
    file = project.root / settings.file if settings.file else None
    asked = settings.model_dump(mode="json")
    with project.writing(project.weights_folder) as scratch:
        if _weights_are_current(project):
            print(f"weights: {project.weights_folder} current, nothing to do")
            return
        from features import sources  # noqa: PLC0415 - imports torch

        request = sources.Request(settings.network, settings.sources, file, settings.sha256, settings.seed)
        obtained = sources.obtain(request, project.cache_root)
        sources.write(obtained, project.weights_folder, scratch, asked)
    untrained = [name for name, origin in obtained.origins.items() if origin == "untrained"]
    note = f"; UNTRAINED (He-initialised): {', '.join(untrained)}" if untrained else ""
    print(f"weights: {settings.network} from {obtained.source['source']}{note}")


def _weights_are_current(project: Project) -> bool:
    try:
        current = project.read_weights()
    except BadInput:
        return False
    if not current.file.exists():
        return False
    if current.provenance["source"] != "file":
        return True
    file = project.root / str(project.settings.weights.file)
    return file.exists() and sha256_file(file) == current.provenance["sha256"]


def extraction(
    project: Project, manifest: Manifest, layers: Sequence[Layer], views: tuple[str, ...] | None = None
) -> Extraction:
    """Put together what determines the activations of these layers, in the settings' views by default."""
    settings = project.settings.extract
    opened = project.read_weights()
    images = source(project.settings.dataset.name, project.dataset_root)
    preprocessing = Preprocessing(project.image_size, images.crop, *opened.normalisation)
    choice = choose(settings.engine, project.settings.device, settings.precision)
    return Extraction(
        manifest, images, layers, views or names(settings.views), opened, preprocessing, choice,
        settings.dtype, project.cache_root,
    )  # fmt: skip


def extract(project: Project, layers: Sequence[Layer], *, profile: bool = False) -> Report | None:
    """Make the stores of these layers current; returns None where they already were.

    `profile` also measures what the device does at best, and prints where the time went.

    Raises
    ------
    BadInput
        See `features.extract.Extraction.fill`; also where `prepare` or `weights` has to run first.
    """
    manifest, weights = project.read_manifest(), project.read_weights()
    with project.writing(project.features) as scratch:
        current = [layer for layer in layers if _is_current(project, manifest, weights, layer)]
        stale = [layer for layer in layers if layer not in current]
        if not stale:
            print(f"extract: {', '.join(layer.name for layer in layers)} current, nothing to do")
            return None
        plan = extraction(project, manifest, stale)
        _announce(plan)
        report = plan.fill()
        for layer in stale:
            plan.publish(layer, project.features, scratch, project.parameters())
            print(f"extract: {layer.name} → {project.features / layer.stem}.zarr", flush=True)
        _sweep(project, manifest)
        best = peak(plan.choice.device, plan.choice.precision) if profile else None
        record = _record(project, plan, report, best)
        if best:
            _show_profile(record, best)
    return report


def _announce(plan: Extraction) -> None:
    for difference in probe.differences():
        print(f"extract: {difference}", flush=True)
    height, width = plan.preprocessing.size
    deepest = max((layer.steps for layer in plan.layers), key=len)
    work = gflops(deepest, plan.preprocessing.size)
    print(
        f"extract: device {plan.choice.device}, engine {plan.choice.name} {plan.choice.precision} "
        f"({plan.choice.why}), images {height} × {width}, {work:.2f} GFLOP each"
        + (f", {len(plan.views)} views of each" if len(plan.views) > 1 else ""),
        flush=True,
    )


def _is_current(project: Project, manifest: Manifest, weights: Weights, layer: Layer) -> bool:
    """Whether the published store is of this manifest, these settings, weights and numerics.

    Decided without torch, so that having nothing to do costs no time; without zarr where
    there is no store yet.
    """
    if not digest_file(project.features / f"{layer.stem}.zarr").exists():
        return False
    try:
        attributes = project.store(layer, manifest).attributes
    except BadInput:
        return False
    if attributes["tensors"] != weights.fingerprint(layer.steps) or not is_current(attributes["numerics"]):
        return False
    for name in attributes["fingerprints"]:  # in use, for `cache prune`
        touch(activations(project.cache_root) / name)
    return True


def _sweep(project: Project, manifest: Manifest) -> None:
    """Remove stores of layers that the settings no longer name and that no longer fit."""
    from features.publish import delete  # noqa: PLC0415 - zarr, for which no image has to wait
    from features.store import FeatureStore  # noqa: PLC0415 - zarr

    for path in sorted(project.features.glob("*.zarr")):
        try:
            opened = FeatureStore.open(path)
            stale = opened.attributes["manifest"] != manifest.digest
            stale |= opened.attributes["parameters"] != project.parameters()
        except ValueError:
            stale = True
        if stale:
            delete(path)
            print(f"extract: removed {path}, which other settings had made")


def _record(project: Project, plan: Extraction, report: Report, best: float | None) -> dict[str, Any]:
    """Write `artifacts/extract.json`, and return it.

    `computed_seconds` is what the activations of each layer cost when they were
    computed, whenever that was: the price that a comparison has to count.
    `seconds_by_stage` are this run's, by the stages in `STAGES`.
    `gflops_per_second` counts a direct convolution's operations, whatever the engine
    does, and the time in which the network ran or waited for images.
    """
    spent = read_json(project.extract_record)["computed_seconds"] if project.extract_record.exists() else {}
    rate = report.passes / report.seconds if report.seconds else 0.0
    network = plan.watch.seconds["forward"] + plan.watch.seconds["waiting"]
    record = {
        "images": report.images,
        "images_run_through_network": report.run_through_network,
        "views": len(plan.views),
        "passes_through_network": report.passes,
        "seconds": round(report.seconds, 3),
        "images_per_second": round(rate, 2),
        "seconds_by_stage": {stage: round(plan.watch.seconds[stage], 3) for stage in STAGES},
        "gflops_per_second": round(report.gflop / network, 2) if report.gflop else 0.0,
        "peak_gflops_per_second": best and round(best, 2),
        "engine": plan.choice.numerics,
        "device": plan.choice.device,
        "image_size": list(plan.preprocessing.size),
        "computed_seconds": spent | {layer.name: round(plan.seconds(layer), 3) for layer in plan.layers},
    }
    with written_aside(project.extract_record) as aside:
        aside.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    passes = f", {report.passes} views," if len(plan.views) > 1 else ""
    print(
        f"extract: {report.run_through_network} of {report.images} images{passes} went through the network "
        f"in {report.seconds:.1f} s ({rate:.1f}/s)"
    )
    return record


def _show_profile(record: Mapping[str, Any], best: float) -> None:
    for stage, seconds in record["seconds_by_stage"].items():
        print(f"{stage:>9s}{seconds:10.2f} s  {STAGES[stage]}".rstrip())
    achieved = record["gflops_per_second"]
    print(
        f"{'network':>9s}{achieved:10.0f} GFLOP/s, {achieved / best:.0%} of the {best:.0f} that one large "
        "matrix product reaches here; counted as direct convolutions, so that Winograd's can exceed 100 %"
    )
