"""Images → manifest: hash, decode check, split; nothing is dropped in silence.

    python cli.py prepare

Writes `artifacts/manifest.csv`, `artifacts/problems.csv` (path, problem, action)
and `artifacts/dataset.json` (the parameters they came from).
"""

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from features.errors import BadInput, Unreadable
from features.files import written_aside
from features.images import ImageArrays, ImageFolder, array_sha256, decode, image_bytes
from features.immutable import sealed
from features.manifest import SPLITS, Manifest, Row
from features.progress import Progress
from pipeline.datasets.base import Found, Listing, Problem
from pipeline.datasets.catalogue import listing
from pipeline.datasets.faults import checked
from pipeline.datasets.problems import counted, first, set_aside, summary, write
from pipeline.datasets.splits import at_most, settle
from pipeline.datasets.usable import check_at_most, check_splits, check_usable, file_twins, refuse_twins
from pipeline.project import Project

DECODERS = 4  # threads: reading waits for the disk, decoding releases the interpreter's lock


@dataclass(frozen=True)
class Looked:
    """An image that was read: its row (without a split yet), or the reason why not, and its kind."""

    found: Found
    row: Row | None
    note: str = ""
    kind: str = ""


def prepare(project: Project, *, strict: bool = False) -> Manifest:
    """Make the manifest current.

    Raises
    ------
    BadInput
        No images, a single class, a class that is missing in a split, names that nobody can tell apart, a
        disk that does not answer; with `strict`, also any image that had to be set aside.
    """
    dataset = project.settings.dataset
    listed = listing(dataset.name, project.dataset_root, csv=dataset.csv, download=dataset.download)
    refuse_twins(listed.found)
    looked = _look(listed)
    problems = listed.problems + [
        Problem(one.found.path, one.note, "kept" if one.row else "set aside", one.kind)
        for one in looked
        if one.note
    ]
    problems += file_twins(listed.found)
    rows = [one.row for one in looked if one.row]
    rows, parted = settle(rows, dataset, listed.given_splits)
    usable = rows
    if dataset.at_most:
        rows = at_most(rows, dataset.at_most, dataset.seed)
    problems += parted
    manifest = Manifest(tuple(sorted(rows, key=lambda row: row.path)))
    write(problems, project.problems)
    for line in summary(problems, project.problems):
        print(f"prepare: {line}")
    if strict and (aside := set_aside(problems)):
        raise BadInput(f"--strict: {len(aside)} images are not usable: {counted(aside)} ({first(aside)})")
    check_usable(listed, usable, problems)
    check_splits(usable, listed.given_splits, problems)
    check_at_most(manifest.rows, usable)
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
    file = source.root / found.path
    try:
        data = image_bytes(file)
        decoded = decode(data)
    except OSError as error:
        return Looked(found, None, checked(file, error), "unreadable")
    except Unreadable as reason:
        return Looked(found, None, str(reason), "not decodable")
    return Looked(found, _row(found, hashlib.sha256(data).hexdigest(), *decoded.image.size), decoded.note)


def _row(found: Found, sha256: str, width: int, height: int) -> Row:
    return Row(found.path, found.path, found.label, found.split, sha256, width, height, found.group)


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
