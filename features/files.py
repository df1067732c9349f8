"""Files appear whole or not at all: write aside, sync, rename.

with written_aside(path) as aside:
    aside.write_bytes(...)
"""

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

T = TypeVar("T")

# What a drive may say once and not again: of a network, a cable, a busy server
TRANSIENT = frozenset([errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR])
PAUSES = (0.1, 0.4, 1.6)  # seconds before a read is tried again
AT_FDCWD, EXCHANGE = -100, 2  # of Linux, whose RENAME_EXCHANGE is macOS's RENAME_SWAP, too
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
    put_back(path)
    aside = scratch / f".{path.name}.{uuid.uuid4().hex}.partial"
    try:
        with naming(path):
            yield aside
            sync(aside)
            replace(aside, path)
    except OSError as error:
        if error.filename == str(aside):  # a name that says nothing to anybody
            error.filename = str(path)
        raise
    finally:
        remove(aside)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError the file it is about: where reading and writing fail, the system names none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def patiently(path: Path, read: Callable[[Path], T]) -> T:
    """Read a file, again after short pauses where the drive says what may pass (`TRANSIENT`).

    Raises
    ------
    OSError
        The last one, which names the file.
    """
    with naming(path):
        for pause in PAUSES:
            try:
                return read(path)
            except OSError as error:
                if error.errno not in TRANSIENT:
                    raise
            time.sleep(pause)
        return read(path)


def read_bytes(path: Path) -> bytes:
    """Read a file (see `patiently`): OSErrors name it."""
    return patiently(path, Path.read_bytes)


def read_text(path: Path) -> str:
    """Read a UTF-8 file (see `patiently`): OSErrors name it."""
    return read_bytes(path).decode("utf-8")


def write_json(
    path: Path, content: Mapping[str, Any] | Sequence[Any], *, scratch: Path | None = None
) -> None:
    """Write JSON as people can read it, whole or not at all (see `written_aside`)."""
    with written_aside(path, scratch=scratch) as aside:
        aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def of_machine(error: BaseException) -> bool:
    """Whether an error speaks of the drive, a limit or a permission: it says nothing of a content."""
    absent = (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
    return isinstance(error, OSError) and error.errno not in absent


@contextlib.contextmanager
def by_safetensors(path: Path) -> Iterator[None]:
    """Give safetensors' errors that the system made the type and the name that they have of other files."""
    try:
        with naming(path):
            yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def load_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Read a .safetensors file's arrays by name.

    Raises
    ------
    SafetensorError
        For a file that is damaged.
    OSError
        With the file's name, as for any other file.
    """
    with by_safetensors(path):
        return load_file(path)


def save_tensors(
    tensors: Mapping[str, NDArray[Any]], path: Path, words: Mapping[str, str] | None = None
) -> None:
    """Write arrays as a .safetensors file that everyone may read; OSError as for any other file.

    `words` go into the file's header.
    """
    with by_safetensors(path):
        save_file(dict(tensors), path, dict(words) if words else None)
    path.chmod(0o644)  # safetensors creates it for its owner only


def replace(source: Path, target: Path) -> None:
    """Rename `source` to `target`, also where `target` is a folder that exists.

    rename(2) cannot replace a folder that is not empty: the two change places at once, and the old one
    is removed. Where the file system cannot do that, the old one steps aside first; a kill before the
    new one stands there is mended by the next writer (see `put_back`).
    """
    if not target.is_dir() or target.is_symlink():
        source.replace(target)
    elif exchange(source, target):
        remove(source)
    else:
        target.rename(_stepped_aside(target))
        source.rename(target)
        remove(_stepped_aside(target))
    sync_folder(target.parent)


def exchange(one: Path, other: Path) -> bool:
    """Let two files or folders change places at once; False where system or file system cannot.

    Linux has renameat2(2), macOS renamex_np(2); NFS and some others refuse it.
    """
    paths = os.fsencode(one), os.fsencode(other)
    if sys.platform == "linux":
        name, arguments = "renameat2", (AT_FDCWD, paths[0], AT_FDCWD, paths[1], EXCHANGE)
    elif sys.platform == "darwin":
        name, arguments = "renamex_np", (*paths, EXCHANGE)
    else:
        return False
    call = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if call is None:  # a C library of before 2018
        return False
    if call(*arguments) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def put_back(target: Path) -> None:
    """Put the old folder back where a writer was killed after that had stepped aside."""
    aside = _stepped_aside(target)
    if not aside.exists():
        return
    if target.exists():
        remove(aside)
    else:
        aside.rename(target)


def _stepped_aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


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
        with naming(path), path.open("rb") as file:
            os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, where the operating system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with naming(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(BUFFER))
    with naming(path), path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()
