"""Folders that appear whole, never change, and vouch for themselves.

    with appearing(root, root / "runs" / name) as folder:
        (folder / "model.safetensors").write_bytes(...)
        seal(folder, "card.json", {"epochs": 4})
    unseal(root / "runs" / name, "card.json")       # Damaged where a single bit differs

A folder's name is a digest of what determines its content, so two processes that
make the same one make the same thing: there is no lock, the first rename wins.
What is unfinished or on its way out stands under `<root>/.aside`, one folder per
process and purpose: a kill leaves nothing among the finished.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from features.errors import Damaged
from features.files import naming, read_bytes, remove, sha256_file, sync, sync_folder

ASIDE = ".aside"
SEALED = re.compile(rb'\{\n "seal": "([0-9a-f]{64})",(\n.*)', re.DOTALL)


def is_digest(name: str) -> bool:
    """Whether a name is a hexadecimal sha256: other names in a cache are not ours."""
    return re.fullmatch(r"[0-9a-f]{64}", name) is not None


@contextlib.contextmanager
def appearing(root: Path, target: Path) -> Iterator[Path]:
    """Yield a new empty folder that becomes `target` when the block ends without error.

    It is synced to disk before one rename makes it visible. Where `target` is
    there by then, another process has made the same thing: ours is dropped.

    Parameters
    ----------
    root : Path
        The cache; what is unfinished stands under it, on the same file system.
    target : Path
        A folder below `root`; its parents are created.
    """
    with _aside(root, target) as aside:
        aside.mkdir()
        yield aside
        sync(aside)
        _appear(aside, target)


def discard(root: Path, folder: Path, flaw: Callable[[Path], str] | None = None) -> None:
    """Take a folder below `root` away by one rename, then delete it; nothing where it is gone already.

    Parameters
    ----------
    flaw : function, optional
        Says what is wrong with the folder, empty where nothing is; asked again
        once it is out of the way. Another process may have put a sound one in
        place of the damaged one that the caller saw: that one is put back.
    """
    with _aside(root, folder) as aside:
        try:
            folder.rename(aside)
        except FileNotFoundError:
            return
        if flaw and not flaw(aside):
            _appear(aside, folder)


@contextlib.contextmanager
def _aside(root: Path, target: Path) -> Iterator[Path]:
    """Yield a path with the last parts of `target`'s, out of everyone's way; removed at the end."""
    mine = root / ASIDE / uuid.uuid4().hex
    aside = mine / target.relative_to(root)
    aside.parent.mkdir(parents=True)
    try:
        with naming(target):
            yield aside
    finally:
        remove(mine)


def _appear(aside: Path, target: Path) -> None:
    while True:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            if target.parent.exists():
                raise
            continue  # it was there when it was to be made, and `cache prune` took it
        try:
            aside.rename(target)
        except FileNotFoundError:
            if not aside.exists():
                raise
            # `cache prune` took the parent between the two lines: once more
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return
        else:
            with contextlib.suppress(FileNotFoundError):  # pruned already
                sync_folder(target.parent)
            return


def touch(folder: Path) -> None:
    """Note that a folder is used now, for `cache prune`: its modification time.

    A cache that is read-only, or a folder that is not there, is no error.
    """
    with contextlib.suppress(OSError):  # EROFS has no exception class of its own
        os.utime(folder)


def seal(folder: Path, card: str, content: Mapping[str, Any]) -> None:
    """Write `folder/card`: `content`, the sha256 of every file beside it (`files`), and its own (`seal`)."""
    files = {file.name: sha256_file(file) for file in sorted(folder.iterdir())}
    (folder / card).write_bytes(sealed({**content, "files": files}))


def sealed(content: Mapping[str, Any]) -> bytes:
    """Write a JSON object, not an empty one, as text that begins with the sha256 of its rest (`seal`)."""
    rest = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode().removeprefix(b"{")
    return b'{\n "seal": "' + hashlib.sha256(rest).hexdigest().encode() + b'",' + rest


def read_card(folder: Path, card: str) -> dict[str, Any]:
    """Read a sealed JSON object; Damaged where it is missing or differs in a bit."""
    with reading(card):
        text = read_bytes(folder / card)
    match = SEALED.fullmatch(text)
    if match is None or hashlib.sha256(match[2]).hexdigest().encode() != match[1]:
        raise Damaged(f"{card} does not match its seal")
    content: dict[str, Any] = json.loads(text)
    return content


def unseal(folder: Path, card: str) -> dict[str, Any]:
    """Read a folder's card and check every file that it names.

    Raises
    ------
    Damaged
        Where a file is missing, unreadable, or differs in a bit.
    OSError
        Where the machine refuses to read (no permission, too many open files):
        this says nothing about the folder.
    """
    content = read_card(folder, card)
    for name in content["files"]:
        check_file(folder, content, name)
    return content


def check_file(folder: Path, content: Mapping[str, Any], name: str) -> None:
    """Raise Damaged where one file beside a card is not what the card's `content` says (see `unseal`)."""
    with reading(name):
        found = sha256_file(folder / name)
    if found != content["files"][name]:
        raise Damaged(f"{name} does not match its digest")


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what the disk says of a file into Damaged; other errors say nothing of the file."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise Damaged(f"{name} is missing") from None
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise Damaged(f"{name} cannot be read ({error.strerror})") from error
