"""Fetch one file over HTTP: gives up when nothing answers, shows progress, checks its name's hash."""

import hashlib
import http.client
import queue
import re
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from features.errors import BadInput, Unavailable
from features.files import naming, written_aside
from features.progress import Progress

TIMEOUT = 10.0  # seconds without an answer or a byte
CHUNK = 1 << 20  # bytes per read


def fetch(url: str, folder: Path, *, md5: str | None = None, timeout: float = TIMEOUT) -> Path:
    """Download `url` into `folder` under its own name and return the file.

    `md5` is the published one of old data sets: it tells a damaged file, not a
    forged one.

    Raises
    ------
    Unavailable
        No answer, or none that offers the file, within `timeout` seconds.
    BadInput
        The answer was cut short, its md5 is not `md5`, or its sha256 does not
        begin as the name says (`vgg16-397923af.pth`, PyTorch's convention).
        Nothing is left behind.
    """
    name = Path(urlsplit(url).path).name
    target = folder / name
    with _answer(url, timeout) as response, written_aside(target) as aside:
        total = int(response.headers.get("Content-Length") or 0)
        try:
            received = _save(response, aside, total)
        except (TimeoutError, ConnectionError) as error:
            raise Unavailable(f"{url} stopped answering for {timeout:.0f} s ({error})") from error
        except http.client.IncompleteRead as error:
            raise BadInput(f"{url} ended early ({error}); run again") from error
        if total and received < total:
            raise BadInput(f"{url} ended after {received:,} of {total:,} bytes; run again")
        check_name_hash(aside, name)
        if md5 is not None and (found := md5_file(aside)) != md5:
            raise BadInput(f"{url} is not the published file: its md5 should be {md5} and is {found}")
    return target


def check_name_hash(file: Path, name: str) -> None:
    """Compare a file's sha256 with the first digits given in its name; BadInput if they differ."""
    match = re.search(r"-([0-9a-f]{8,})\.", name)
    with naming(file), file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if match and not found.startswith(match[1]):
        raise BadInput(
            f"{name} is damaged: its sha256 should begin with {match[1]} and is {found}; "
            "delete it and run again"
        )


def md5_file(file: Path) -> str:
    """Hexadecimal md5 of a file's bytes."""
    with naming(file), file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def answers(url: str, timeout: float) -> str:
    """Say why nothing at `url` answers within `timeout` seconds; empty where something does, if to refuse."""
    try:
        _answer(url, timeout).close()
    except Unavailable as reason:
        return "" if isinstance(reason.__cause__, urllib.error.HTTPError) else str(reason)
    return ""


def _answer(url: str, timeout: float) -> http.client.HTTPResponse:
    """Open `url` within `timeout` seconds, name resolution included.

    The system's resolver has no time limit of its own, so the request is made
    on a thread that is abandoned when it does not return.
    """
    answer: queue.Queue[http.client.HTTPResponse | Exception] = queue.Queue()

    def ask() -> None:
        try:
            answer.put(urllib.request.urlopen(url, timeout=timeout))  # noqa: S310
        except Exception as error:  # noqa: BLE001 - handed to the caller below
            answer.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        result = answer.get(timeout=timeout)
    except queue.Empty:
        raise Unavailable(f"{urlsplit(url).hostname} did not answer within {timeout:.0f} s") from None
    if isinstance(result, urllib.error.URLError):
        raise Unavailable(f"{urlsplit(url).hostname} could not be reached ({result})") from result
    if isinstance(result, Exception):
        raise Unavailable(f"{url} could not be had ({result or type(result).__name__})") from result
    return result


def _save(response: http.client.HTTPResponse, target: Path, total: int) -> int:
    received = 0
    with target.open("wb") as file, Progress(f"download {target.name[1:]}", total >> 20, "MB") as progress:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            received += len(chunk)
            progress.advance((received >> 20) - progress.done)
    return received
