"""Disks: whether project and cache can be written to, and hold what the settings will make."""

import contextlib
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.filesize import decimal

from features.digests import digest_file
from features.errors import BadInput
from features.manifest import Manifest
from features.network import tensor_shapes
from features.views import names
from pipeline.checks.finding import Finding, ok, wrong
from pipeline.project import Project

PATIENCE = 2.0  # seconds for counting files
REMEDY = (
    "free some space (`python cli.py cache prune --older-than 90` lists what may go), keep fewer layers "
    "(extract.layers), or pool them (pool5:avg)"
)


def disk(project: Project) -> list[Finding]:
    """Compare the free space at project and cache with what is not there yet."""
    needed, what = _needed(project)
    places = {"project": project.root, "cache": project.cache_root}
    existing = {name: nearest(path) for name, path in places.items()}
    free = {name: shutil.disk_usage(path).free for name, path in existing.items()}
    findings = []
    if reason := unwritable(project.root):
        found = f"the project's folder {project.root} cannot be written to ({reason})"
        findings.append(wrong("project", found, "make it writable, or name another with --project"))
    if existing["project"].stat().st_dev == existing["cache"].stat().st_dev:
        free, needed = {"project and cache": free["project"]}, {"project and cache": sum(needed.values())}
    for name, space in free.items():
        found = f"{decimal(space)} free for {name}; {decimal(needed[name])} needed{what}"
        enough = space >= needed[name]
        findings.append(ok("disk", found) if enough else wrong("disk", found, REMEDY))
    return findings


def _needed(project: Project) -> tuple[dict[str, int], str]:
    """Bytes that are still to be written to project and cache, and for what."""
    settings = project.settings
    needed = dict.fromkeys(("project", "cache"), 0)
    for_what = []
    if not (project.weights_folder / "provenance.json").exists():
        shapes = tensor_shapes(settings.weights.network).values()
        needed["project"] += 4 * sum(int(np.prod(shape)) for shape in shapes)
        for_what.append("weights")
    try:
        images = len(Manifest.read(project.manifest))
    except (BadInput, OSError):
        return needed, " for weights; for features, `prepare` has to run first" if for_what else ""
    missing = [
        layer for layer in project.layers if not digest_file(project.features / f"{layer.stem}.zarr").exists()
    ]
    numbers = sum(layer.width(project.image_size) for layer in missing) * len(names(settings.extract.views))
    for name in needed:  # stores and blocks; the stores are packed, so this is the most that they take
        needed[name] += images * numbers * np.dtype(settings.extract.dtype).itemsize
    if missing:
        for_what.append(f"{', '.join(layer.name for layer in missing)} of {images:,} images")
    return needed, f" for {' and '.join(for_what)}" if for_what else ": every layer has its store"


def cache(project: Project) -> list[Finding]:
    """Where the cache is, by what, whether it can be written to, and its size as far as soon counted."""
    root = project.cache_root
    if os.environ.get("PENULTIMATE_CACHE"):
        chosen, remedy = "PENULTIMATE_CACHE", "let PENULTIMATE_CACHE name another folder, or make it writable"
    else:
        chosen = "cache.root" if project.settings.cache.root else "the user's cache folder"
        remedy = "make it writable, or name another folder in cache.root or PENULTIMATE_CACHE"
    if reason := unwritable(root):
        return [wrong("cache", f"{root} (by {chosen}) cannot be written to ({reason})", remedy)]
    sizes, finished = tally(root, lambda file: file.stat(follow_symlinks=False).st_size)
    size = sum(sizes.values())
    held = decimal(size) if finished else f"more than {decimal(size)}; `python cli.py cache info` counts all"
    return [ok("cache", f"{root} (by {chosen}), {held}")]


def nearest(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    return next(folder for folder in (path, *path.parents) if os.path.lexists(folder))


def unwritable(folder: Path) -> str:
    """Why nothing can be written into a folder, or where it would be made; empty where it can."""
    try:
        with tempfile.TemporaryFile(dir=nearest(folder)):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def tally(root: Path, count: Callable[["os.DirEntry[str]"], int]) -> tuple[Counter[str], bool]:
    """Add up `count` over the files below a folder, by lower-case extension, for `PATIENCE` seconds.

    Returns
    -------
    The sums, and whether all were counted

    Raises
    ------
    OSError
        Where a folder cannot be read.
    """
    deadline = time.monotonic() + PATIENCE
    sums: Counter[str] = Counter()
    pending = [str(root)] if root.exists() else []
    while pending:
        # Another process may take away what was listed
        with contextlib.suppress(FileNotFoundError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    sums[Path(entry.name).suffix.lower()] += count(entry)
        if time.monotonic() > deadline:
            return sums, False
    return sums, True
