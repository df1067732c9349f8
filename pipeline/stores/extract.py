"""The stage `extract`: settings → recipe → stores.

python cli.py extract --layer fc7
"""

from collections.abc import Mapping, Sequence
from typing import Any

from features import probe
from features.cache import activations
from features.digests import digest_file
from features.engines.choice import is_current
from features.errors import BadInput
from features.extraction import Extraction, Report
from features.files import write_json
from features.immutable import touch
from features.manifest import Manifest
from features.network import Layer, deepest
from features.profile import peak
from features.weights import Weights
from pipeline.project import Project, read_json
from pipeline.stores.recipe import extraction_of

STAGES = {  # as `extract --profile` explains them
    "load": "the network",
    "decode": "images, all threads together, while the network runs",
    "waiting": "for images",
    "forward": "copies to and from the device included",
    "write": "blocks, while the network runs",
    "blocked": "until blocks were written",
    "publish": "stores",
}


def extract(project: Project, layers: Sequence[Layer], *, profile: bool = False) -> Report | None:
    """Make the stores of these layers current; returns None where they already were.

    `profile` also measures what the device does at best, and prints where the time went.

    Raises
    ------
    BadInput
        See `features.extraction.Extraction.fill`; also where `prepare` or `weights` has to run first.
    """
    manifest, weights = project.read_manifest(), project.read_weights()
    with project.writing(project.features) as scratch:
        current = [layer for layer in layers if _is_current(project, manifest, weights, layer)]
        stale = [layer for layer in layers if layer not in current]
        if not stale:
            print(f"extract: {', '.join(layer.name for layer in layers)} current, nothing to do")
            return None
        extraction = extraction_of(project, manifest, stale)
        _announce(extraction)
        report = extraction.fill()
        from features.assemble import assemble  # noqa: PLC0415 - zarr, for which no image has to wait

        for layer in stale:
            assemble(extraction, layer, project.features, scratch, project.parameters())
            print(f"extract: {layer.name} → {project.features / layer.stem}.zarr", flush=True)
        _sweep(project, manifest)
        recipe = extraction.recipe
        best = peak(recipe.choice.device, recipe.choice.precision) if profile else None
        record = _record(project, extraction, report, best)
        if best:
            _show_profile(record, best)
    return report


def _announce(extraction: Extraction) -> None:
    recipe = extraction.recipe
    for difference in probe.differences():
        print(f"extract: {difference}", flush=True)
    height, width = recipe.preprocessing.size
    work = deepest(recipe.layers).gflops(recipe.preprocessing.size)
    print(
        f"extract: device {recipe.choice.device}, engine {recipe.choice.name} {recipe.choice.precision} "
        f"({recipe.choice.why}), images {height} × {width}, {work:.2f} GFLOP each"
        + (f", {len(recipe.views)} views of each" if len(recipe.views) > 1 else ""),
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
    if attributes["tensors"] != weights.fingerprint(layer) or not is_current(attributes["numerics"]):
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


def _record(project: Project, extraction: Extraction, report: Report, best: float | None) -> dict[str, Any]:
    """Write `artifacts/extract.json`, and return it.

    `computed_seconds` is what the activations of each layer cost when they were
    computed, whenever that was: the price that a comparison has to count.
    `seconds_by_stage` are this run's, by the stages in `STAGES`.
    `gflops_per_second` counts a direct convolution's operations, whatever the engine
    does, and the time in which the network ran or waited for images.
    """
    recipe = extraction.recipe
    spent = read_json(project.extract_record)["computed_seconds"] if project.extract_record.exists() else {}
    rate = report.passes / report.seconds if report.seconds else 0.0
    network = extraction.watch.seconds["forward"] + extraction.watch.seconds["waiting"]
    record = {
        "images": report.images,
        "images_run_through_network": report.run_through_network,
        "views": len(recipe.views),
        "passes_through_network": report.passes,
        "seconds": round(report.seconds, 3),
        "images_per_second": round(rate, 2),
        "seconds_by_stage": {stage: round(extraction.watch.seconds[stage], 3) for stage in STAGES},
        "gflops_per_second": round(report.gflop / network, 2) if report.gflop else 0.0,
        "peak_gflops_per_second": best and round(best, 2),
        "engine": recipe.choice.numerics,
        "device": recipe.choice.device,
        "image_size": list(recipe.preprocessing.size),
        "computed_seconds": spent
        | {layer.name: round(extraction.seconds(layer), 3) for layer in recipe.layers},
    }
    write_json(project.extract_record, record)
    passes = f", {report.passes} views," if len(recipe.views) > 1 else ""
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
