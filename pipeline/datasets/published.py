"""Published files: downloaded only where that is allowed, from the first mirror that has the right one."""

from collections.abc import Sequence
from pathlib import Path

from features.download import fetch
from features.errors import BadInput, Unavailable

DOWNLOAD = "set dataset.download=true to have what is missing downloaded"  # the remedy


def obtain(urls: Sequence[str], md5: str, folder: Path) -> Path:
    """Download one file into `folder`, trying its mirrors in order.

    Raises
    ------
    BadInput
        No mirror has it: with each one's reason. Nothing is left behind.
    """
    reasons = []
    for url in urls:
        try:
            return fetch(url, folder, md5=md5)
        except (Unavailable, BadInput) as reason:
            reasons.append(str(reason))
    name = urls[0].rpartition("/")[2]
    raise BadInput(
        f"{name} could not be downloaded: {'; '.join(reasons)}; put the file into {folder} by other means"
    )
