"""Zeros at the end of a file: what a download leaves that was given its whole length and then stopped.

    notes = of(found, data, loaded)

Formats with checksums, or whose data say where they end, fail by themselves, and `jpeg` looks on its own.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIGN = bytes(64)  # no coder ends so; a picture of plain bytes does where it is black
_CODED = frozenset(["WebP", "AVIF", "HEIC", "HEIF"])
_PLAIN = frozenset(["BMP", "PNM", "TIFF"])
_NOTE = "its data end in zeros: a part of the picture may be missing"


def of(found: str, data: bytes, loaded: Image.Image) -> list[str]:
    """Say so where a part may be missing.

    Parameters
    ----------
    found : str
        What `kind` calls the file.
    loaded : Image
        As it was read, not yet turned.
    """
    if found not in _CODED | _PLAIN or not data.endswith(_SIGN):
        return []
    return [_NOTE] if found in _CODED or _stops_midway(loaded, found) else []


def _stops_midway(loaded: Image.Image, found: str) -> bool:
    """Whether a picture goes on to the right edge in one row, breaks off within the next, and all after it.

    A black margin, or a black background, begins otherwise.
    """
    pixels = np.asarray(loaded).reshape(loaded.height, loaded.width, -1)
    orders = (pixels, pixels[::-1]) if found == "BMP" else (pixels,)  # which begins at either end
    return any(_breaks_off((rows == rows[-1, -1]).all(axis=2)) for rows in orders)


def _breaks_off(blank: NDArray[np.bool_]) -> bool:
    """The same of (height, width): where a pixel has the last one's colour."""
    drawn = np.flatnonzero(~blank.all(axis=1))
    last = int(drawn[-1]) if len(drawn) else 0
    return 0 < last < len(blank) - 1 and bool(blank[last, -1] and not blank[last - 1, -1])
