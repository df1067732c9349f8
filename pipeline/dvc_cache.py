"""Objects of DVC's cache that were altered on the disk, which DVC serves as up to date.

    for altered in altered_objects(project.root): ...

DVC trusts an object of its cache once it is there; with hard links it is also the very
file that lies in `artifacts/`. Here every object that `dvc.lock` names is hashed.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from features.errors import BadInput
from features.files import naming, read_bytes, read_text, remove, written_aside
from features.progress import Progress
from pipeline.checks.repository import CONFLICT, SETTLE
from pipeline.params import read_yaml

NAME = re.compile(r"[0-9a-f]{32}(\.dir)?")  # of an object
RESTORE = "restore it with git"


@dataclass(frozen=True)
class Altered:
    """An object that is not what its name says, and the project's file that it stands for."""

    object: Path
    file: Path
    md5: str

    def repair(self) -> bool:
        """Put the object right from the project's file where that is sound; else remove it, return False."""
        if self.file.is_file() and _md5(self.file) == self.md5:
            with written_aside(self.object) as aside:
                aside.write_bytes(read_bytes(self.file))
                aside.chmod(0o444)  # as DVC keeps its objects
            return True
        remove(self.object)
        return False


def altered_objects(root: Path) -> list[Altered]:
    """Hash every object that `dvc.lock` names; none where the folder is not DVC's.

    Raises
    ------
    BadInput
        Where `dvc.lock` or `.dvc/config` is damaged, or DVC is not installed.
    """
    if not (root / "dvc.lock").is_file() or not (root / ".dvc").is_dir():
        return []
    pending = list(_outputs(root))
    objects = _objects(root)
    found = []
    with Progress("verify DVC's cache", len(pending), "objects") as progress:
        while pending:
            file, name = pending.pop()
            stored = objects / name[:2] / name[2:]
            progress.advance(1)
            if not stored.is_file():
                continue  # nothing is served that is not there
            if _md5(stored) != name.removesuffix(".dir"):
                found.append(Altered(stored, file, name))
            elif name.endswith(".dir"):
                listed = json.loads(read_text(stored))
                pending += [(file / entry["relpath"], entry["md5"]) for entry in listed]
                progress.total += len(listed)
    return sorted(found, key=lambda altered: altered.file)


def _objects(root: Path) -> Path:
    """The folder of DVC's objects, by its configuration alone: its `Repo` asks for git."""
    try:
        from dvc.config import Config, ConfigError  # noqa: PLC0415 - slow to import
    except ImportError as error:
        raise BadInput(f"DVC's cache was not checked: {error}; `make` installs DVC") from error
    try:
        chosen = Config(str(root / ".dvc"))["cache"].get("dir")
    except ConfigError as error:
        raise BadInput(f"{root / '.dvc' / 'config'} is damaged ({error}); mend it, or {RESTORE}") from error
    return Path(chosen or root / ".dvc" / "cache") / "files" / "md5"


def _outputs(root: Path) -> Iterator[tuple[Path, str]]:
    """Every output in dvc.lock: its path, and its md5 (`….dir` for a folder)."""
    path = root / "dvc.lock"
    if mark := CONFLICT.search(read_bytes(path)):
        raise BadInput(
            f"{path} has git's marks of a conflict ({mark[0].decode().strip()}); {SETTLE[path.name]}"
        )
    try:
        for stage in read_yaml(path).get("stages", {}).values():
            for out in stage.get("outs", []):
                if "md5" in out:
                    yield root / out["path"], _name(out["md5"])
    except (BadInput, AttributeError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is damaged ({error}); delete it, or {RESTORE}") from error


def _name(md5: object) -> str:
    if not isinstance(md5, str) or not NAME.fullmatch(md5):
        raise TypeError(f"{md5!r} is no md5")
    return md5


def _md5(file: Path) -> str:
    with naming(file), file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
