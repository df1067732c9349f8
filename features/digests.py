"""What vouches for a store: the digest and the size of every file in it, written last, beside it.

    fc7.zarr/          the store
    fc7.sha256         `sha256sum --check fc7.sha256`; sizes stand in comments, which it skips

A store without this file is unfinished. Sizes and small files are compared at every
opening, shards when they are verified.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from features.errors import BadInput
from features.files import read_text, sha256_file

DIGEST = re.compile(r"([0-9a-f]{64})  (.+)")
SIZE = re.compile(r"# (\d+) bytes  (.+)")


@dataclass(frozen=True)
class Recorded:
    """What a file was when the store was published; `size` in bytes."""

    sha256: str
    size: int


def digest_file(store: Path) -> Path:
    """`fc7.zarr` → `fc7.sha256`, beside it."""
    return store.with_suffix(".sha256")


def text_of(store: Path, records: Mapping[str, Recorded]) -> str:
    """Write down the digests of a store's files, by their names below it."""
    lines = []
    for name, record in sorted(records.items()):
        lines += [
            f"# {record.size} bytes  {store.name}/{name}\n",
            f"{record.sha256}  {store.name}/{name}\n",
        ]
    return "".join(lines)


def read(store: Path) -> dict[str, Recorded]:
    """Read the digests of a store's files, by their names below it.

    Raises
    ------
    BadInput
        Where there are none (the store is unfinished), or they cannot be read.
    """
    path = digest_file(store)
    absent = BadInput(
        f"there is no finished store {store}: its digests, {path.name}, are not beside it; run `extract` "
        "first, or bring that file along where the store was moved or copied"
    )
    if not store.is_dir():
        raise BadInput(f"there is no finished store {store}; run `extract` first")
    if not path.is_file():
        raise absent
    sizes: dict[str, int] = {}
    records: dict[str, Recorded] = {}
    try:
        for line in read_text(path).splitlines():
            if size := SIZE.fullmatch(line):
                sizes[size[2]] = int(size[1])
            elif (digest := DIGEST.fullmatch(line)) and _inside(digest[2], store):
                records[digest[2].removeprefix(f"{store.name}/")] = Recorded(digest[1], sizes[digest[2]])
            elif digest and (name := Path(digest[2]).parts[0]) != store.name:
                raise BadInput(
                    f"{path} is of {name}, not of {store.name}: a store and its digests keep their names; "
                    "rename both back"
                )
            else:
                raise ValueError(f"it says {line[:80]!r}")
    except FileNotFoundError:  # it is being made anew
        raise absent from None
    except (ValueError, KeyError) as error:  # UnicodeDecodeError is a ValueError
        raise BadInput(f"{path} is damaged ({error}); run `extract` again") from error
    return records


def _inside(name: str, store: Path) -> bool:
    first, *rest = name.split("/")
    return first == store.name and bool(rest) and not {"", ".", ".."} & set(rest)


def damage(file: Path, recorded: Recorded, *, content: bool) -> str:
    """Say how a file differs from what was recorded; empty where it does not.

    Its size is compared, and with `content` its sha256, too.
    """
    if file.is_symlink() or not file.is_file():
        return "is missing"
    if (size := file.stat().st_size) != recorded.size:
        return f"has {size:,} of {recorded.size:,} bytes"
    if content and sha256_file(file) != recorded.sha256:
        return "is not what its sha256 says"
    return ""


def files(store: Path) -> dict[str, Path]:
    """Every file below a store, by its name there, sorted."""
    found = [Path(folder) / name for folder, _, names in os.walk(store) for name in names]
    return {file.relative_to(store).as_posix(): file for file in sorted(found)}
