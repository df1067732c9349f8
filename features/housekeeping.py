"""What the cache holds, whatever project made it; what may go; whether it is whole.

    found = survey(cache_root)
    prune(cache_root, chosen(found.kept, older_than=30, max_size=None, total=found.bytes))
    damaged = verify(cache_root)

A fingerprint can be pruned while an extraction uses it: nothing is corrupted.
The extraction goes on and its later blocks appear as usual; when it publishes,
it finds that earlier ones are gone and fails with a sentence that says to run
`extract` again, which computes those. What it has open already it reads to the end.
"""

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features import immutable
from features.cache import (
    BLOCK_CARD,
    RUN_CARD,
    THREADS,
    activations,
    checkpoints,
    digests_in,
    flaw,
    read_keys,
    run_flaw,
    runs,
)
from features.errors import Damaged
from features.files import remove
from features.immutable import read_card
from features.progress import Progress

DAY = 86_400  # seconds
MONTH = 30 * DAY


@dataclass(frozen=True)
class Kept:
    """What is kept or pruned as one: all blocks of a fingerprint, or a fine-tuning run.

    Attributes
    ----------
    folder : Path
        Named by the fingerprint.
    bytes : int
        Size of its files.
    last_used : float
        Seconds since 1970: when it was last written to, or published from.
    card : dict
        `block.json` of one of its sound blocks, or the run's `card.json`; empty
        where there is none that can be believed.
    images, blocks : int
        Distinct images, and the blocks they stand in; 0 for a run.
    """

    folder: Path
    bytes: int
    last_used: float
    card: dict[str, Any]
    images: int = 0
    blocks: int = 0

    @property
    def is_run(self) -> bool:
        """Whether it is a fine-tuning run."""
        return _is_run(self.folder)


def _is_run(folder: Path) -> bool:
    return folder.parent.name == runs(folder).name


@dataclass(frozen=True)
class Survey:
    """Everything under a cache root; sizes in bytes.

    Attributes
    ----------
    weights : int
        Verified downloads; never pruned.
    abandoned : int
        What killed processes left unfinished, a day ago or earlier, a training run a month ago: the
        next `prune` deletes it.
    """

    activations: tuple[Kept, ...]
    runs: tuple[Kept, ...]
    weights: int
    abandoned: int

    @property
    def kept(self) -> tuple[Kept, ...]:
        """Everything that `prune` can drop."""
        return self.activations + self.runs

    @property
    def bytes(self) -> int:
        """What the finished things take."""
        return sum(kept.bytes for kept in self.kept) + self.weights


def survey(root: Path) -> Survey:
    """List what a cache holds, last used first; foreign files in it are ignored."""
    return Survey(
        activations=_latest_first(_fingerprint(folder) for folder in digests_in(activations(root))),
        runs=_latest_first(_run(folder) for folder in digests_in(runs(root))),
        weights=_size(root / "weights"),
        abandoned=sum(_size(path) for path in _abandoned(root)),
    )


def _latest_first(found: Iterable[Kept | None]) -> tuple[Kept, ...]:
    there = [kept for kept in found if kept]
    return tuple(sorted(there, key=lambda kept: (-kept.last_used, kept.folder.name)))


def _fingerprint(folder: Path) -> Kept | None:
    blocks = digests_in(folder)
    keys = [keys for block in blocks if (keys := read_keys(block)) is not None]
    images = len(np.unique(np.concatenate(keys), axis=0)) if keys else 0
    return _kept(folder, _first_card(blocks, BLOCK_CARD), images=images, blocks=len(blocks))


def _run(folder: Path) -> Kept | None:
    return _kept(folder, _first_card([folder], RUN_CARD))


def _first_card(folders: Iterable[Path], name: str) -> dict[str, Any]:
    for folder in folders:
        with contextlib.suppress(Damaged):
            return read_card(folder, name)
    return {}


def _kept(folder: Path, card: dict[str, Any], images: int = 0, blocks: int = 0) -> Kept | None:
    try:
        return Kept(folder, _size(folder), folder.stat().st_mtime, card, images, blocks)
    except FileNotFoundError:  # pruned by another process since it was listed
        return None


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; what vanishes meanwhile counts nothing."""
    files = [Path(folder) / name for folder, _, names in os.walk(path) for name in names] or [path]
    total = 0
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            total += file.lstat().st_size if not file.is_dir() else 0
    return total


def _abandoned(root: Path) -> list[Path]:
    """What stands unfinished for a day; a younger one may belong to a living process.

    A training run that was cut off may be taken up again: its checkpoint is left for longer.
    """
    found = [*(root / immutable.ASIDE).glob("*"), *(root / "weights").glob(".*.partial")]
    ages = [*((path, DAY) for path in found), *((path, MONTH) for path in digests_in(checkpoints(root)))]
    old = []
    for path, age in ages:
        with contextlib.suppress(FileNotFoundError):
            if path.lstat().st_mtime <= time.time() - age:
                old.append(path)
    return old


def chosen(
    candidates: Sequence[Kept], *, older_than: float | None, max_size: int | None, total: int
) -> list[Kept]:
    """Choose what to drop among the candidates, least recently used first.

    Parameters
    ----------
    candidates : sequence of Kept
        What may go; anything else stays, and counts in `total`.
    older_than : float, optional
        Drop what has not been used for so many days.
    max_size : int, optional
        Then drop the least recently used until `total` bytes have come down to
        this. With neither of the two, every candidate goes.
    """
    oldest_first = sorted(candidates, key=lambda kept: (kept.last_used, kept.folder.name))
    if older_than is None and max_size is None:
        return oldest_first
    limit = time.time() - (older_than or 0) * DAY
    dropped = [kept for kept in oldest_first if older_than is not None and kept.last_used <= limit]
    total -= sum(kept.bytes for kept in dropped)
    for kept in oldest_first[len(dropped) :]:
        if max_size is None or total <= max_size:
            break
        dropped.append(kept)
        total -= kept.bytes
    return dropped


def prune(root: Path, dropped: Sequence[Kept]) -> None:
    """Delete what was chosen, and what killed processes left a day ago or earlier.

    Each goes out of sight by one rename before it is deleted: a kill, or a
    second `prune`, leaves no half of it among the finished.
    """
    with Progress("prune", len(dropped), "entries") as progress:
        for kept in dropped:
            immutable.discard(root, kept.folder)
            progress.advance(1)
    for path in _abandoned(root):
        with contextlib.suppress(FileNotFoundError):  # a second prune deletes it, too
            remove(path)


@dataclass(frozen=True)
class Damage:
    """A damaged block or run, and what is wrong with it."""

    folder: Path
    wrong: str

    @property
    def is_run(self) -> bool:
        """Whether it is a fine-tuning run."""
        return _is_run(self.folder)


def verify(root: Path) -> list[Damage]:
    """Check every digest of every block and run; OSError where the machine refuses to read one."""
    folders = [block for found in digests_in(activations(root)) for block in digests_in(found)]
    folders += digests_in(runs(root))
    damaged = []
    with ThreadPoolExecutor(THREADS) as pool, Progress("verify", len(folders), "entries") as progress:
        for folder, wrong in zip(folders, pool.map(_flaw, folders), strict=True):
            progress.advance(1)
            if wrong and folder.exists():  # not pruned in the meantime
                damaged.append(Damage(folder, wrong))
    return damaged


def _flaw(folder: Path) -> str:
    return (run_flaw if _is_run(folder) else flaw)(folder)


def repair(root: Path, damaged: Sequence[Damage]) -> None:
    """Delete damaged blocks and runs: what needs them computes them again."""
    for damage in damaged:
        immutable.discard(root, damage.folder, _flaw)
