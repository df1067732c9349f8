"""The tags of a TIFF's first picture.

    layout, pictures = first(data)

References: TIFF 6.0, https://www.iana.org/assignments/media-types/image/tiff; BigTIFF.
"""

import re
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from features.errors import Unreadable

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6  # Photometric
ASSOCIATED, UNASSOCIATED = 1, 2  # ExtraSamples
JPEG = 7  # Compression
_BIG = 43  # BigTIFF's version; TIFF's is 42


@dataclass(frozen=True)
class Layout:
    """How a TIFF's samples are stored and what they mean; named after the tags.

    Attributes
    ----------
    formats : tuple of int
        SampleFormat: 1 unsigned, 2 signed, 3 floating point.
    extras : tuple of int
        ExtraSamples: what each sample beyond the colours is.
    colours : tuple of int
        ColorMap: all reds, then greens, then blues.
    order : str
        Of bytes: "<" or ">".
    """

    width: int
    height: int
    bits: tuple[int, ...]
    samples: int
    formats: tuple[int, ...]
    photometric: int | None
    planar: bool
    compression: int
    predictor: int
    fill_order: int
    extras: tuple[int, ...]
    colours: tuple[int, ...]
    orientation: int
    reduced: bool
    raw: bool
    order: str
    tags: ImageFileDirectory_v2

    @property
    def alpha(self) -> int:
        """`ASSOCIATED` or `UNASSOCIATED` where the sample after the colours is transparency, else 0."""
        return self.extras[0] if self.extras and self.extras[0] in (ASSOCIATED, UNASSOCIATED) else 0


def first(data: bytes) -> tuple[Layout, int]:
    """Read the tags of the first picture, and count the pictures.

    Raises
    ------
    Unreadable
        Where they are damaged, or lack the size.
    """
    if data.startswith(b"MM\0+"):
        raise Unreadable("a TIFF of a kind that is not read: BigTIFF with the highest byte first")
    try:
        tags = ImageFileDirectory_v2(data[: 16 if data[2] == _BIG else 8])
        start = tags.next
        with BytesIO(data) as stream:
            stream.seek(start)
            tags.load(stream)
        layout = described(tags)
        return layout, max(_pictures(data, start, tags), _stacked(tags))
    except Exception as error:
        raise Unreadable(f"a TIFF whose tags are damaged ({error or type(error).__name__})") from error


def described(tags: ImageFileDirectory_v2) -> Layout:
    """Give the tags that matter, with the format's defaults."""

    def one(tag: int, default: int) -> int:
        return int(numbers(tags, tag, (default,))[0])

    return Layout(
        width=one(256, 0),
        height=one(257, 0),
        bits=numbers(tags, 258, (1,)),
        samples=one(277, 1),
        formats=numbers(tags, 339, (1,)),
        photometric=one(262, -1) if 262 in tags else None,
        planar=one(284, 1) == 2 and one(277, 1) > 1,
        compression=one(259, 1),
        predictor=one(317, 1),
        fill_order=one(266, 1),
        extras=numbers(tags, 338, ()),
        colours=numbers(tags, 320, ()),
        orientation=one(274, 1),
        reduced=bool(one(254, 0) & 1),
        raw=50706 in tags,  # DNGVersion
        order="<" if tags.prefix == b"II" else ">",
        tags=tags,
    )


def numbers(tags: ImageFileDirectory_v2, tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
    """A tag's values, however many there are."""
    value: Any = tags.get(tag)
    if value is None or value == ():
        return default
    return tuple(int(each) for each in value) if isinstance(value, tuple) else (int(value),)


def _pictures(data: bytes, offset: int, tags: ImageFileDirectory_v2) -> int:
    """Count the directories of the main chain; a damaged rest of it is not counted."""
    order = "<" if tags.prefix == b"II" else ">"
    count, following, entry = ("Q", "Q", 20) if data[2] == _BIG else ("H", "I", 12)
    seen: set[int] = set()
    while offset and offset not in seen:
        try:
            (entries,) = struct.unpack_from(order + count, data, offset)
            end = offset + struct.calcsize(count) + entry * entries
            seen.add(offset)
            (offset,) = struct.unpack_from(order + following, data, end)
        except struct.error:
            break
    return max(len(seen), 1)


def _stacked(tags: ImageFileDirectory_v2) -> int:
    """How many pictures ImageJ says there are, of which it describes large stacks' first one only."""
    told = re.match(r"ImageJ=.*?^images=(\d+)", str(tags.get(270, "")), re.DOTALL | re.MULTILINE)
    return int(told[1]) if told else 1
