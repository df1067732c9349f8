"""Objects of DVC's cache that were altered on the disk, which DVC serves as up to date.

    for altered in altered_objects(project.root): ...

DVC trusts an object of its cache once it is there; with hard links it is also the very
file that lies in `artifacts/`. Here every object that `dvc.lock` names is hashed.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml.error import YAMLError

from features.errors import BadInput
from features.files import naming, read_bytes, read_text, remove, written_aside
from features.progress import Progress
from pipeline.params import read_yaml


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
    """Hash every object that `dvc.lock` names; none where the folder is not DVC's."""
    if not (root / "dvc.lock").is_file() or not (root / ".dvc").is_dir():
        return []
    from dvc.repo import Repo  # noqa: PLC0415 - slow to import

    with Repo(str(root)) as repo:
        cache = repo.cache.local
        pending = list(_outputs(root))
        found = []
        with Progress("verify DVC's cache", len(pending), "objects") as progress:
            while pending:
                file, name = pending.pop()
                stored = Path(cache.oid_to_path(name))
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


def _outputs(root: Path) -> Iterator[tuple[Path, str]]:
    """Every output in dvc.lock: its path, and its md5 (`….dir` for a folder)."""
    try:
        stages = read_yaml(root / "dvc.lock").get("stages", {})
        for stage in stages.values():
            for out in stage.get("outs", []):
                if "md5" in out:
                    yield root / out["path"], str(out["md5"])
    except (YAMLError, AttributeError, TypeError) as error:
        raise BadInput(f"{root / 'dvc.lock'} is damaged ({error}); restore it with git") from error


def _md5(file: Path) -> str:
    with naming(file), file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
