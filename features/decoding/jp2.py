"""JPEG 2000, of the kinds that Pillow has right: 8 bits, or one channel of up to 16.

    image, notes = read(data)

References: ITU-T T.800, A.5.1 (SIZ: the size and depth of each component) and I.5 (boxes).
"""

import struct
from io import BytesIO

from PIL import Image

from features.decoding.limits import check_size
from features.errors import Unreadable

_START = b"\xff\x4f\xff\x51"  # of the codestream, and of SIZ


def read(data: bytes) -> tuple[Image.Image, list[str]]:
    """Read the picture, still to be turned, and what should be said of it.

    Raises
    ------
    Unreadable
        For kinds that are not read, in words, and beyond the size limits.
    OSError, ValueError, SyntaxError
        Damaged data, as Pillow raises them.
    """
    start = data.find(_START)
    if start < 0 or len(data) < start + 42:
        raise Unreadable("cannot be decoded (JPEG 2000 without a codestream)")
    boxes = data[:start]
    width, height, left, top = struct.unpack_from(">4I", data, start + 8)
    check_size((width - left, height - top))
    (count,) = struct.unpack_from(">H", data, start + 40)
    components = {data[at : at + 3] for at in range(start + 42, start + 42 + 3 * count, 3)}
    if what := _unknown(components, count, boxes):
        raise Unreadable(f"a JPEG 2000 of a kind that is not read: {what}")
    with Image.open(BytesIO(data), formats=["JPEG2000"]) as image:
        image.load()
    said = count in (1, 3) or b"cdef" in boxes
    return image, [] if said else [
        "its last channel, of which it does not say what it is, is taken for transparency"
    ]


def _unknown(components: set[bytes], count: int, boxes: bytes) -> str:
    if count > 4:
        return f"{count} channels"
    if len(components) != 1 or len(component := min(components)) < 3:
        return "channels of several depths or sizes"
    depth, *steps = component
    bits = (depth & 0x7F) + 1
    if depth & 0x80:
        return "signed numbers"
    if bits < 8 or bits > (16 if count == 1 else 8):
        return f"{count} channels of {bits} bits"
    if steps != [1, 1]:
        return "channels of a lower resolution"
    if b"pclr" in boxes:
        return "a palette"
    return "colours other than RGB and grey" if b"colr" in boxes and not _plain(boxes) else ""


def _plain(boxes: bytes) -> bool:
    """Whether the colours are said to be sRGB or grey, by number or by an ICC profile."""
    at = boxes.find(b"colr") + 4
    return boxes[at] == 2 or boxes[at + 3 : at + 7] in (b"\0\0\0\x10", b"\0\0\0\x11")
