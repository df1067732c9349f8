"""The images: whether they are there, can be read, and of which kinds they are."""

from pathlib import Path

from features.errors import BadInput
from features.images import EXTENSIONS
from pipeline.checks.finding import Finding, note, ok, wrong
from pipeline.checks.storage import tally
from pipeline.datasets.catalogue import listing
from pipeline.project import Project

KINDS = 8  # extensions that are named


def images(project: Project) -> list[Finding]:
    """Look at `dataset.root`; raises BadInput and OSError as `prepare` would."""
    dataset, root = project.settings.dataset, project.dataset_root
    if dataset.name == "digits":
        return [ok("images", "digits come with scikit-learn")]
    if dataset.name not in ("folder", "csv"):
        return [_published(project, root)]
    if not root.is_dir():
        return [wrong("images", f"dataset.root: there is no folder {root}", "name the folder of your images")]
    findings = _files(root)
    table = root / dataset.csv
    if dataset.name == "csv" and not table.is_file():
        findings.append(
            wrong("images", f"dataset.csv: there is no table {table}", "name one below dataset.root")
        )
    return findings


def _published(project: Project, root: Path) -> Finding:
    name = project.settings.dataset.name
    try:
        found = listing(name, root).found
    except BadInput as reason:
        if not project.settings.dataset.download:
            raise
        return note("images", str(reason).partition(";")[0], "nothing: `prepare` downloads them")
    return ok("images", f"{name}: {len(found):,} images below {root}")


def _files(root: Path) -> list[Finding]:
    """Count files by extension, as far as that is soon done."""
    counts, finished = tally(root, lambda file: 1)
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:KINDS]
    kinds = ", ".join(f"{number:,} {kind or 'without extension'}" for kind, number in most)
    found = f"{root}: {'' if finished else 'at least '}{kinds or 'no files'}"
    if finished and not any(kind in EXTENSIONS for kind in counts):
        remedy = f"expected are {root}/<class>/*.jpg or {root}/{{train,validation,test}}/<class>/*.jpg"
        return [wrong("images", f"{found}; none is an image by its extension", remedy)]
    return [ok("images", found)]
