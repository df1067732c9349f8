"""Images → manifest: hash, decode check, split; nothing is dropped in silence.

    python cli.py prepare

Writes `artifacts/manifest.csv`, `artifacts/problems.csv` (path, problem, action)
and `artifacts/dataset.json` (the parameters they came from).
"""

import hashlib
import json
import unicodedata
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby

from features.errors import BadInput
from features.files import written_aside
from features.images import ImageArrays, Unreadable, array_sha256, decode
from features.manifest import SPLITS, Manifest, Row, write_csv
from features.progress import Progress
from pipeline.datasets import Found, Listing, Problem, listing
from pipeline.params import Dataset
from pipeline.project import Project

DECODERS = 4  # threads: reading waits for the disk, decoding releases the interpreter's lock


@dataclass(frozen=True)
class Looked:
    """An image that was read: its row (without a split yet), or the reason why not."""

    found: Found
    row: Row | None
    note: str


def prepare(project: Project, *, strict: bool = False) -> Manifest:
    """Make the manifest current.

    Raises
    ------
    BadInput
        No images, a single class, a class that is missing in a split; with
        `strict`, also any image that had to be set aside.
    """
    dataset = project.settings.dataset
    listed = listing(dataset.name, project.dataset_root)
    looked = _look(listed)
    problems = listed.problems + [
        Problem(one.found.path, one.note, "kept" if one.row else "set aside") for one in looked if one.note
    ]
    rows = [one.row for one in looked if one.row]
    rows, repeated = _without_repeats(rows)
    problems += repeated
    _check_names(rows)
    given = listed.given_splits
    # Rows of a given train folder are drawn from, too, for a split that is not given
    rows = [
        row if row.split in ("validation", "test") else replace(row, split=draw(row.sha256, dataset, given))
        for row in rows
    ]
    manifest = Manifest(tuple(sorted(rows, key=lambda row: row.path)))
    problems.sort(key=lambda problem: problem.path)
    write_csv(project.problems, ("path", "problem", "action"), [tuple(vars(p).values()) for p in problems])
    aside = [problem for problem in problems if problem.action == "set aside"]
    if aside:
        first = f"{aside[0].path}: {aside[0].problem}"
        print(f"prepare: {len(aside)} images set aside ({first}; all are listed in {project.problems})")
        if strict:
            raise BadInput(f"--strict: {len(aside)} images are not usable, the first {first}")
    _check_classes(manifest, dataset, listed)
    manifest.write(project.manifest)
    _write_record(project, manifest, problems)
    return manifest


def _look(listed: Listing) -> list[Looked]:
    """Read, hash and decode every image, several at a time, in order."""
    looked = []
    with ThreadPoolExecutor(DECODERS) as pool, Progress("prepare", len(listed.found), "images") as progress:
        for one in pool.map(lambda found: _look_at(found, listed), listed.found):
            looked.append(one)
            progress.advance(1)
    return looked


def _look_at(found: Found, listed: Listing) -> Looked:
    if isinstance(listed.source, ImageArrays):
        array = listed.source.arrays[found.path]
        digest, (height, width), note = array_sha256(array), array.shape[:2], ""
    else:
        try:
            data = (listed.source.root / found.path).read_bytes()  # type: ignore[attr-defined]
            digest, decoded = hashlib.sha256(data).hexdigest(), decode(data)
        except Unreadable as reason:
            return Looked(found, None, str(reason))
        except OSError as error:
            return Looked(found, None, f"cannot be read ({error.strerror})")
        (width, height), note = decoded.image.size, decoded.note
    return Looked(found, Row(found.path, found.path, found.label, found.split, digest, width, height), note)


def _without_repeats(rows: list[Row]) -> tuple[list[Row], list[Problem]]:
    """Keep the same bytes out of two splits and out of two classes.

    Of an image that stands in several given splits, the copies in test stay,
    else those in validation. Under two labels none is known to be right: all
    are set aside. Copies within one split and class are kept, and noted.
    """
    by_content = defaultdict(list)
    for row in rows:
        by_content[row.sha256].append(row)
    kept, problems = [], []
    for copies in by_content.values():
        labels = sorted({row.label for row in copies})
        if len(labels) > 1:
            reason = f"the same image stands under the labels {' and '.join(labels)}"
            problems += [Problem(row.path, reason, "set aside") for row in copies]
            continue
        strongest = max((SPLITS.index(row.split) for row in copies if row.split), default=None)
        stay = [row for row in copies if strongest is None or row.split == SPLITS[strongest]]
        reason = f"the same image as {stay[0].path}"
        problems += [Problem(row.path, reason, "set aside") for row in copies if row not in stay]
        problems += [Problem(row.path, reason, "kept") for row in stay[1:]]
        kept += stay
    return kept, problems


def _check_names(rows: list[Row]) -> None:
    """Refuse names that look the same to people and are not (Unicode NFC and NFD)."""

    def normal(name: str) -> str:
        return unicodedata.normalize("NFC", name)

    for what, names in (("classes", {row.label for row in rows}), ("files", {row.path for row in rows})):
        for _, group in groupby(sorted(names, key=normal), key=normal):
            twins = list(group)
            if len(twins) > 1:
                raise BadInput(
                    f"the {what} {twins[0]!r} and {twins[1]!r} differ in Unicode form only; rename one"
                )


def draw(sha256: str, dataset: Dataset, given: frozenset[str]) -> str:
    """Draw an image's split from its content and the seed.

    A threshold on a hash: adding images never moves old ones. Only splits that
    are not given are drawn.
    """
    digest = hashlib.sha256(f"{dataset.seed}:{sha256}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64  # uniform in [0, 1)
    for split, share in (("test", dataset.test_fraction), ("validation", dataset.validation_fraction)):
        if split in given:
            continue
        if place < share:
            return split
        place -= share
    return "train"


def _check_classes(manifest: Manifest, dataset: Dataset, listed: Listing) -> None:
    if not manifest.rows:
        raise BadInput("no usable image is left; artifacts/problems.csv says why")
    if len(manifest.classes) < 2:
        raise BadInput(f"there is one class only, {manifest.classes[0]!r}; a comparison needs at least two")
    counts = Counter((row.label, row.split) for row in manifest.rows)
    for label in manifest.classes:
        for split in SPLITS:
            if not counts[label, split]:
                total = sum(counts[label, other] for other in SPLITS)
                remedy = (
                    f"put some into the folder {split}"
                    if split in listed.given_splits
                    else f"add images, change dataset.seed ({dataset.seed}) or the fractions, "
                    "or give split folders"
                )
                raise BadInput(f"class {label!r} has {total} images and none of them in {split}; {remedy}")


def _write_record(project: Project, manifest: Manifest, problems: list[Problem]) -> None:
    counts = Counter(row.split for row in manifest.rows)
    record = {
        "parameters": project.settings.dataset.model_dump(mode="json"),
        "manifest": manifest.digest,
        "classes": list(manifest.classes),
        "images": {split: counts[split] for split in SPLITS},
        "problems": dict(sorted(Counter(problem.action for problem in problems).items())),
    }
    with written_aside(project.dataset_record) as aside:
        aside.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    shares = ", ".join(f"{counts[split]} {split}" for split in SPLITS)
    print(f"prepare: {len(manifest)} images, {len(manifest.classes)} classes ({shares}) → {project.manifest}")
