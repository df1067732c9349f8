"""Images → manifest: hash, decode check, split; nothing is dropped in silence.

    python cli.py prepare

Writes `artifacts/manifest.csv`, `artifacts/problems.csv` (path, problem, action)
and `artifacts/dataset.json` (the parameters they came from).
"""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from features.errors import BadInput
from features.files import written_aside
from features.images import ImageArrays, ImageFolder, Unreadable, array_sha256, decode
from features.immutable import sealed
from features.manifest import SPLITS, Manifest, Row, write_csv
from features.progress import Progress
from pipeline.datasets import Found, Listing, Problem, listing
from pipeline.params import Dataset
from pipeline.project import Project
from pipeline.splits import at_most, settle

DECODERS = 4  # threads: reading waits for the disk, decoding releases the interpreter's lock


@dataclass(frozen=True)
class Looked:
    """An image that was read: its row (without a split yet), or the reason why not."""

    found: Found
    row: Row | None
    note: str = ""


def prepare(project: Project, *, strict: bool = False) -> Manifest:
    """Make the manifest current.

    Raises
    ------
    BadInput
        No images, a single class, a class that is missing in a split; with
        `strict`, also any image that had to be set aside.
    """
    dataset = project.settings.dataset
    listed = listing(dataset.name, project.dataset_root, csv=dataset.csv, download=dataset.download)
    looked = _look(listed)
    problems = listed.problems + [
        Problem(one.found.path, one.note, "kept" if one.row else "set aside") for one in looked if one.note
    ]
    rows = [one.row for one in looked if one.row]
    rows, parted = settle(rows, dataset, listed.given_splits)
    usable = rows
    if dataset.at_most:
        rows = at_most(rows, dataset.at_most, dataset.seed)
    problems += parted
    _check_names(rows)
    manifest = Manifest(tuple(sorted(rows, key=lambda row: row.path)))
    problems.sort(key=lambda problem: problem.path)
    write_csv(project.problems, ("path", "problem", "action"), [tuple(vars(p).values()) for p in problems])
    aside = [problem for problem in problems if problem.action == "set aside"]
    if aside:
        first = f"{aside[0].path}: {aside[0].problem}"
        print(f"prepare: {len(aside)} images set aside ({first}; all are listed in {project.problems})")
        if strict:
            raise BadInput(f"--strict: {len(aside)} images are not usable, the first {first}")
    _check_classes(manifest, dataset, listed, usable)
    manifest.write(project.manifest)
    _write_record(project, manifest, problems)
    if len(rows) < len(usable):
        print(f"prepare: {len(usable) - len(rows):,} more images are left out by dataset.at_most")
    return manifest


def _look(listed: Listing) -> list[Looked]:
    """Read, hash and decode every image, files several at a time, in order."""
    source = listed.source
    looked = []
    with ThreadPoolExecutor(DECODERS) as pool, Progress("prepare", len(listed.found), "images") as progress:
        looks = (
            map(partial(_look_at_array, source), listed.found)  # handing it to a thread takes longer
            if isinstance(source, ImageArrays)
            else pool.map(partial(_look_at_file, source), listed.found)
        )
        for one in looks:
            looked.append(one)
            progress.advance(1)
    return looked


def _look_at_array(source: ImageArrays, found: Found) -> Looked:
    array = source.arrays[found.path]
    height, width = array.shape[:2]
    return Looked(found, _row(found, array_sha256(array), width, height))


def _look_at_file(source: ImageFolder, found: Found) -> Looked:
    try:
        data = (source.root / found.path).read_bytes()
        decoded = decode(data)
    except Unreadable as reason:
        return Looked(found, None, str(reason))
    except OSError as error:
        return Looked(found, None, f"cannot be read ({error.strerror})")
    return Looked(found, _row(found, hashlib.sha256(data).hexdigest(), *decoded.image.size), decoded.note)


def _row(found: Found, sha256: str, width: int, height: int) -> Row:
    return Row(found.path, found.path, found.label, found.split, sha256, width, height, found.group)


def _check_names(rows: list[Row]) -> None:
    """Refuse names that look the same to people and are not (Unicode NFC and NFD)."""

    def normal(name: str) -> str:
        return unicodedata.normalize("NFC", name)

    named = {"classes": "label", "files": "path", "groups": "group"}
    for what, column in named.items():
        names = {getattr(row, column) for row in rows}
        for _, group in groupby(sorted(names, key=normal), key=normal):
            twins = list(group)
            if len(twins) > 1:
                raise BadInput(
                    f"the {what} {twins[0]!r} and {twins[1]!r} differ in Unicode form only; rename one"
                )


def _check_classes(manifest: Manifest, dataset: Dataset, listed: Listing, usable: Sequence[Row]) -> None:
    """Refuse what no comparison can be made of; `usable` are the rows before `dataset.at_most`."""
    if not manifest.rows:
        raise BadInput("no usable image is left; artifacts/problems.csv says why")
    labels = sorted({row.label for row in usable})
    if len(labels) < 2:
        raise BadInput(f"there is one class only, {labels[0]!r}; a comparison needs at least two")
    counts = Counter((row.label, row.split) for row in manifest.rows)
    before = Counter((row.label, row.split) for row in usable)
    for label in labels:
        for split in SPLITS:
            if before[label, split] and not counts[label, split]:
                raise BadInput(f"dataset.at_most leaves no image of class {label!r} in {split}; raise it")
            if not counts[label, split]:
                total = sum(counts[label, other] for other in SPLITS)
                remedy = (
                    f"put some into {split}"
                    if split in listed.given_splits
                    else f"add images, change dataset.seed ({dataset.seed}) or the fractions, "
                    "or give a split of your own"
                )
                raise BadInput(f"class {label!r} has {total} images and none of them in {split}; {remedy}")


def _write_record(project: Project, manifest: Manifest, problems: list[Problem]) -> None:
    counts = Counter(row.split for row in manifest.rows)
    record = {
        "parameters": project.settings.dataset.recorded(),
        "manifest": manifest.digest,
        "classes": list(manifest.classes),
        "images": {split: counts[split] for split in SPLITS},
        "problems": dict(sorted(Counter(problem.action for problem in problems).items())),
    }
    with written_aside(project.dataset_record) as aside:
        aside.write_bytes(sealed(record))
    shares = ", ".join(f"{counts[split]} {split}" for split in SPLITS)
    print(f"prepare: {len(manifest)} images, {len(manifest.classes)} classes ({shares}) → {project.manifest}")
