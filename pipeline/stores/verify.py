"""Check everything that stores rest on, say what is wrong, and repair it where asked.

python cli.py verify
python cli.py verify --layer fc7 --rows 64 --repair
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from features.assemble import assemble
from features.errors import BadInput
from features.manifest import Manifest
from features.network import Layer, parse_layer, whole
from features.verify import check_content, check_files, check_rows
from pipeline.project import Project
from pipeline.stores.recipe import extraction_of

REPAIR = "`python cli.py verify --repair` builds what is damaged again, and nothing else"


def verify(project: Project, names: Sequence[str] = (), *, rows: int, repair: bool = False) -> bool:
    """Verify the stores of the named layers, by default of all that are published.

    Parameters
    ----------
    rows : int
        Random rows of each store that meet the network once more.

    Returns
    -------
    Whether all is sound, at the end.

    Raises
    ------
    BadInput
        Where there is no manifest, or nothing to verify.
    """
    try:
        manifest = project.read_manifest()
    except BadInput as error:
        if not project.manifest.exists():
            raise
        print(f"verify: {error}", flush=True)
        return False
    layers = [parse_layer(name, project.settings.weights.network) for name in names] or _published(project)
    if not layers:
        raise BadInput(f"there are no stores in {project.features}; run `python cli.py extract` first")
    sound = _verify_weights(project)
    for layer in layers if sound else ():
        sound &= _verify_layer(project, manifest, layer, rows, repair)
    if not sound and not repair:
        print(f"verify: {REPAIR}", flush=True)
    return sound


def _verify_weights(project: Project) -> bool:
    """Compare every tensor with its digest: nothing can be computed again with others."""
    try:
        weights = project.read_weights()
        weights.state(whole(weights.network))
    except BadInput as error:
        print(f"verify: {error}", flush=True)
        return False
    return True


def _published(project: Project) -> list[Layer]:
    """The layers of the settings, and of other stores that lie there."""
    stems = {path.stem for pattern in ("*.zarr", "*.sha256") for path in project.features.glob(pattern)}
    found = []
    for stem in sorted(stems):
        try:
            found.append(parse_layer(stem.replace("-", ":"), project.settings.weights.network))
        except BadInput:
            print(f"verify: {project.features / stem} is no layer's store and was passed over", flush=True)
    return found


def _verify_layer(project: Project, manifest: Manifest, layer: Layer, rows: int, repair: bool) -> bool:
    path = project.features / f"{layer.stem}.zarr"
    findings, wrong_rows, note = _examine(project, manifest, layer, path, rows)
    if not findings and not wrong_rows:
        print(f"verify: {layer.name} is sound: {note}", flush=True)
        return True
    for finding in (*findings, *wrong_rows):
        print(f"verify: {layer.name}: {finding}", flush=True)
    if not repair:
        return False
    _repair(project, manifest, layer, past_cache=bool(wrong_rows))
    findings, wrong_rows, note = _examine(project, manifest, layer, path, rows)
    for finding in (*findings, *wrong_rows):
        print(f"verify: {layer.name} could not be repaired: {finding}", flush=True)
    if not findings and not wrong_rows:
        print(f"verify: {layer.name} was repaired and is sound: {note}", flush=True)
    return not findings and not wrong_rows


def _examine(
    project: Project, manifest: Manifest, layer: Layer, path: Path, count: int
) -> tuple[list[str], list[str], str]:
    """Return what is wrong with files and content, what with recomputed rows, and a word on what was done."""
    findings = check_files(path)
    findings += check_content(path, manifest) if not findings else []
    if findings:
        return findings, [], ""
    checked = f"{len(manifest)} rows, every file's digest and every chunk's checksum"
    try:
        store = project.store(layer, manifest)  # made with these settings
        extraction = extraction_of(project, manifest, [layer])
        if store.attributes["tensors"] != extraction.recipe.weights.fingerprint(layer):
            return [f"the store was made with other weights than those in {project.weights_folder}"], [], ""
        if (
            store.attributes["preprocessing"]
            != extraction.recipe.facts(layer, extraction.recipe.views[0])["preprocessing"]
        ):
            why = "another Pillow made its pixels, to other bits"
            return [], [], f"{checked}; no row was computed again: {why}"
        numbers = np.random.default_rng().choice(len(manifest), min(count, len(manifest)), replace=False)
        recomputed = check_rows(store, extraction, layer, np.sort(numbers))
    except BadInput as error:
        return [str(error)], [], ""
    again = f"{len(numbers)} rows computed again, largest difference {recomputed.largest:.3g}"
    return [], recomputed.findings, f"{checked}; {again}"


def _repair(project: Project, manifest: Manifest, layer: Layer, *, past_cache: bool) -> None:
    """Publish again what is damaged, from the cache; rows that are wrong there, through the network."""
    with project.writing(project.features) as scratch:
        extraction = extraction_of(project, manifest, [layer])
        if past_cache:
            extraction.forget(layer)
        extraction.fill()
        assemble(extraction, layer, project.features, scratch, project.parameters(), reuse=not past_cache)
