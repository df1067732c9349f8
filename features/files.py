"""Files appear whole or not at all: write aside, sync, rename.

with written_aside(path) as aside:
    aside.write_bytes(...)
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

BUFFER = 1 << 20  # bytes; hashlib's own quarter of it keeps threads waiting for the interpreter's lock


@contextlib.contextmanager
def written_aside(path: Path, *, scratch: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block ends without error.

    The block may create a file or a folder there. It is synced to disk before
    one rename makes it visible; after an exception nothing is left behind.

    Parameters
    ----------
    path : Path
        What is to be made or replaced; its parent folders are created.
    scratch : Path, optional
        Folder for the temporary, on the same file system; default: beside `path`.
    """
    scratch = scratch or path.parent
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(parents=True, exist_ok=True)
    aside = scratch / f".{path.name}.{uuid.uuid4().hex}.partial"
    try:
        with naming(path):
            yield aside
            sync(aside)
            replace(aside, path)
    finally:
        remove(aside)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError the file it is about: a full disk is met while writing, where the system names none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def save_tensors(
    tensors: Mapping[str, NDArray[Any]], path: Path, words: Mapping[str, str] | None = None
) -> None:
    """Write arrays as a .safetensors file that everyone may read; OSError as for any other file.

    `words` go into the file's header.
    """
    try:
        save_file(dict(tensors), path, dict(words) if words else None)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    path.chmod(0o644)  # safetensors creates it for its owner only


def replace(source: Path, target: Path) -> None:
    """Rename `source` to `target`, also where `target` is a folder that exists."""
    if target.is_dir() and not target.is_symlink():
        # rename(2) cannot replace a folder that is not empty: the old one steps
        # aside first, so a kill between the two leaves no folder, never a mixture.
        old = source.with_name(source.name + ".old")
        target.rename(old)
        source.rename(target)
        remove(old)
    else:
        source.replace(target)
    sync_folder(target.parent)


def remove(path: Path) -> None:
    """Delete a file or folder if it is there."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for patience in (True, True, False):
        try:
            shutil.rmtree(path)
        except OSError as error:
            # After a failure, zarr's other threads may still be putting files into it
            if error.errno != errno.ENOTEMPTY or not patience:
                raise
            time.sleep(0.1)
        else:
            return


def sync(path: Path) -> None:
    """Flush a file, or every file and folder below `path`, to disk."""
    if path.is_dir():
        for child in path.iterdir():
            sync(child)
        sync_folder(path)
    else:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, where the operating system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(BUFFER))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()
