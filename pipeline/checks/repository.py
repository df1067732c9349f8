"""Git and DVC: whether the project is theirs, conflicts, and who holds a lock."""

import json
import os
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from pipeline.checks.finding import Finding, note, ok, wrong

CONFLICT = re.compile(rb"^(<{7} |>{7} )", re.MULTILINE)  # as git leaves them
SETTLE = {  # files that both sides of a merge change, and how to settle them
    "params.yaml": "choose between both sides by hand",
    "dvc.yaml": "choose between both sides by hand",
    "dvc.lock": "take either side (`git checkout --ours dvc.lock`); `dvc repro` then writes it anew",
}


def repository(root: Path) -> list[Finding]:
    """Whether DVC can work here, and what it would refuse."""
    git, dvc = _above(root, ".git"), _above(root, ".dvc")
    if git is None:
        found = ok("git", "no repository: `python cli.py run` needs none")
    else:
        found = ok("git", f"repository at {git}")
    return [found, _dvc(root, dvc, git is not None), *conflicts(root)]


def _above(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder, *folder.parents) if (path / name).exists()), None)


def _dvc(root: Path, dvc: Path | None, in_git: bool) -> Finding:
    if dvc is None or not (root / "dvc.yaml").exists():
        return ok("DVC", "not a DVC project: `python cli.py run` runs every stage without")
    if not in_git:
        return note("DVC", f"project at {dvc}, outside git", "`git init`, or `python cli.py run` without DVC")
    if not (root / "dvc.lock").exists():
        return note("DVC", f"project at {dvc}; there is no dvc.lock: no stage has run yet", "`dvc repro`")
    return ok("DVC", f"project at {dvc}, with a dvc.lock")


def conflicts(root: Path) -> list[Finding]:
    """Name files with git's marks of a conflict."""
    found = []
    for name, remedy in SETTLE.items():
        file = root / name
        if file.is_file() and (mark := CONFLICT.search(content := file.read_bytes())):
            line = content.count(b"\n", 0, mark.start()) + 1
            found.append(
                wrong("conflict", f"{file} has git's marks of a conflict, first in line {line}", remedy)
            )
    return found


def locks(root: Path) -> list[Finding]:
    """Who is writing here: DVC, or one of our own stages."""
    busy = []
    if dvc := _above(root, ".dvc"):
        busy += [f"{command} (process {pid})" for pid, command in _running(dvc / ".dvc" / "tmp" / "rwlock")]
        if not busy and _held(dvc / ".dvc" / "tmp" / "lock"):
            busy.append("a dvc command")
    scratch = root / "artifacts" / ".scratch"
    busy += [f"a stage that writes {lock.stem}" for lock in sorted(scratch.glob("*.lock")) if _held(lock)]
    if not busy:
        return [ok("locks", "none is held")]
    return [note("locks", f"held by {', '.join(busy)}", "wait for it, or stop it, before you start another")]


def _running(rwlock: Path) -> Iterator[tuple[int, str]]:
    """Processes in DVC's file of readers and writers that are alive; the others DVC drops by itself."""
    try:
        content = json.loads(rwlock.read_text("utf-8"))
        entries = [*content.get("write", {}).values(), *chain(*content.get("read", {}).values())]
        seen = {(int(entry["pid"]), str(entry["cmd"])) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # not there, or under way
    yield from sorted(who for who in seen if _alive(who[0]))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _held(lock: Path) -> bool:
    """Whether a process holds a lock file, as DVC and we do it: by flock(2)."""
    if sys.platform == "win32" or not lock.exists():
        return False
    import fcntl  # noqa: PLC0415 - not on Windows

    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
