"""The activation cache in words: what it holds, what may go, whether it is whole.

python cli.py cache info
python cli.py cache prune --older-than 90 --max-size 50GB
python cli.py cache verify --repair
"""

import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from rich import box
from rich.filesize import decimal
from rich.table import Table

from features.cache import fingerprint
from features.errors import BadInput
from features.housekeeping import DAY, Damage, Kept, chosen, repair, survey
from features.housekeeping import prune as drop
from features.housekeeping import verify as check
from pipeline.project import Project, read_json
from pipeline.records.cards import is_there, read_card
from pipeline.terminal import plain_console

UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
ACTIVATIONS = ("layer", "pixels", "dtype", "numerics", "weights", "images", "blocks")
RUNS = ("run", "on", "weights")
EVERYWHERE = ("size", "last used", "folder")  # columns of both tables
LONG = ("what", "weights")  # columns that may take several lines
NUMBERS = ("images", "blocks", "size", "last used")


def info(project: Project) -> None:
    """Print what the cache holds, by fingerprint, last used first."""
    found = survey(project.cache_root)
    if found.activations:
        _show("Activations", ACTIVATIONS, found.activations)
    if found.runs:
        _show("Fine-tuning runs", RUNS, found.runs)
    activations, runs = (sum(k.bytes for k in kept) for kept in (found.activations, found.runs))
    print(
        f"cache: activations {decimal(activations)}, fine-tuning runs {decimal(runs)}, downloaded weights "
        f"{decimal(found.weights)}, left by killed processes {decimal(found.abandoned)}, "
        f"in {project.cache_root}"
    )


def prune(
    project: Project, *, older_than: int | None, max_size: str | None, only_unused: bool, delete: bool
) -> None:
    """List what meets the criteria, and delete it where `delete` says so.

    Parameters
    ----------
    older_than : int, optional
        Days since the last use.
    max_size : str, optional
        What all together may take, `20GB`; the least recently used goes first.
    only_unused : bool
        Spare what this project has published; alone: drop everything else.

    Raises
    ------
    BadInput
        Without a criterion, and for a size that cannot be read.
    """
    if older_than is None and max_size is None and not only_unused:
        raise BadInput(
            "cache prune needs to know what may go: give --older-than DAYS, --max-size SIZE or "
            "--unused-by-this-project"
        )
    limit = None if max_size is None else parse_size(max_size)
    found = survey(project.cache_root)
    candidates: Sequence[Kept] = found.kept
    if only_unused:
        used = used_by(project)
        candidates = [kept for kept in found.kept if kept.folder.name not in used]
        print(
            "warning: the cache is shared. This project has published "
            f"{len(found.kept) - len(candidates)} of its {len(found.kept)} entries; other projects, clones, "
            "branches and experiments may use the rest"
        )
    dropped = chosen(candidates, older_than=older_than, max_size=limit, total=found.bytes)
    if dropped:
        _show("To go", ("what", "weights"), dropped)
    size = decimal(sum(kept.bytes for kept in dropped))
    what = (
        f"{len(dropped)} of {len(found.kept)} entries, {size} of {decimal(found.bytes)}, and "
        f"{decimal(found.abandoned)} left by killed processes, in {project.cache_root}"
    )
    if delete:
        drop(project.cache_root, dropped)
        print(f"cache: deleted {what}")
    else:
        print(f"cache: would delete {what}; nothing was deleted: add --yes to do it")


def verify(project: Project, *, mend: bool) -> bool:
    """Check every digest in the cache; returns whether all is well in the end.

    `mend` deletes what is damaged: the next `extract` or `finetune` computes it again.
    """
    damaged = check(project.cache_root)
    found = survey(project.cache_root)
    words = {kept.folder: _cells(kept)["what"] for kept in found.kept}
    for damage in damaged:
        print(_sentence(damage, words))
    if not damaged:
        blocks = sum(kept.blocks for kept in found.activations)
        print(f"cache: {blocks} blocks and {len(found.runs)} runs are whole, in {project.cache_root}")
    elif mend:
        repair(project.cache_root, damaged)
        print(f"cache: {len(damaged)} removed; the next `extract` or `finetune` computes them again")
    else:
        print(
            f"cache: {len(damaged)} damaged, in {project.cache_root}; `python cli.py cache verify --repair` "
            "removes them, and the next `extract` or `finetune` computes them again"
        )
    return mend or not damaged


def _sentence(damage: Damage, words: dict[Path, str]) -> str:
    """Name a damaged thing: `block 0123… of fc7, …: rows.npy does not match its digest`."""
    kind, entry = ("run", damage.folder) if damage.is_run else ("block", damage.folder.parent)
    return f"cache: {kind} {damage.folder.name[:12]} of {words.get(entry, 'an unknown kind')}: {damage.wrong}"


def used_by(project: Project) -> set[str]:
    """Fingerprints behind this project's published stores and fine-tuning runs.

    Raises BadInput where one of them cannot be read, since what it uses is then not known.
    """
    used: set[str] = set()
    for file in sorted(project.features.glob("*.zarr/zarr.json")):
        attributes = read_json(file).get("attributes", {})
        used |= {str(attributes.get("fingerprint")), *attributes.get("fingerprints", ())}
    for folder in sorted(project.finetune_folder().glob("*/")):
        if is_there(folder):
            used.add(fingerprint(read_card(folder, "python cli.py finetune")["inputs"]))
    return used


def parse_size(text: str) -> int:
    """`20GB` → 20000000000 bytes; BadInput for what is not a number and a unit."""
    units = {unit.lower(): size for unit, size in UNITS.items()}
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]b)", text.strip(), re.IGNORECASE | re.ASCII)
    if not match:
        raise BadInput(f"--max-size is {text!r}; give a number and one of {', '.join(UNITS)}, such as 20GB")
    return round(float(match[1]) * units[match[2].lower()])


def _show(title: str, columns: Sequence[str], entries: Iterable[Kept]) -> None:
    table = Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, collapse_padding=True
    )
    for column in (*columns, *EVERYWHERE):
        side: Literal["left", "right"] = "right" if column in NUMBERS else "left"
        table.add_column(column, justify=side, no_wrap=column not in LONG, overflow="fold")
    for kept in entries:
        cells = _cells(kept)
        table.add_row(*(cells[column] for column in (*columns, *EVERYWHERE)))
    plain_console().print(table)


def _cells(kept: Kept) -> dict[str, str]:
    """Every column's text for an entry; `–` for what nothing believable says."""
    facts = kept.card.get("facts", {})
    view = facts.get("view", "none")
    size = facts.get("preprocessing", {}).get("size", ("–",))
    tensors = f"tensors {facts['tensors'][:8]}" if "tensors" in facts else "–"
    days = int(max(0.0, time.time() - kept.last_used) // DAY)
    cells = {
        "layer": facts.get("layer", "–") + ("" if view == "none" else f", {view}"),
        "pixels": " × ".join(map(str, size)),
        "dtype": facts.get("dtype", "–"),
        "numerics": facts.get("numerics", "–"),
        "weights": str(kept.card.get("weights", tensors)),
        "images": str(kept.images),
        "blocks": str(kept.blocks),
        "run": kept.card.get("method", "–"),
        "on": kept.card.get("top", "–"),
        "size": decimal(kept.bytes),
        "last used": "today" if not days else f"{days} day{'s' * (days > 1)} ago",
        "folder": kept.folder.name[:8],
    }
    return {**cells, "what": _what(kept, cells)}


def _what(kept: Kept, cells: dict[str, str]) -> str:
    """An entry in a few words: `fc7, 224 × 224, float16, winograd-fp32/1`, `finetune.full on fc7`."""
    if not kept.card:
        return "an unknown kind"
    if kept.is_run:
        return f"{cells['run']} on {cells['on']}"
    return ", ".join(cells[name] for name in ("layer", "pixels", "dtype", "numerics"))
