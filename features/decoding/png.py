"""PNG: its pixels count, its metadata do not; transparent colours of every depth.

    image, notes = read(data)

References: PNG (third edition), 11.3.1.1 tRNS and 13.2 on errors.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from features.decoding.limits import check_size
from features.decoding.rgb import BACKGROUND, notes_of_frames
from features.errors import Unreadable

_SIGNATURE = 8  # bytes
_GREY, _RGB = 0, 2  # colour types
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by colour type
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_DECIDING = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT", b"tRNS", b"eXIf")


@dataclass(frozen=True)
class Chunk:
    """One chunk: its name, its bytes (length and checksum included), and whether the checksum holds."""

    name: bytes
    whole: memoryview
    sound: bool


def read(data: bytes) -> tuple[Image.Image, list[str]]:
    """Read the first picture, and what should be said of it.

    Raises
    ------
    Unreadable
        Damaged pixels, or beyond the size limits.
    OSError, ValueError, SyntaxError
        Damaged data, as Pillow raises them.
    """
    chunks = list(_chunks(data))
    if bad := next((each for each in chunks if not each.sound and each.name[:1].isupper()), None):
        raise Unreadable(f"cannot be decoded (its {bad.name.decode()} chunk is damaged)")
    notes = [
        f"its {what} is damaged and not used"
        for name, what in ((b"tRNS", "transparency"), (b"eXIf", "EXIF block"))
        if any(each.name == name and not each.sound for each in chunks)
    ]
    if all(each.sound for each in chunks):
        whole = data
    else:
        whole = data[:_SIGNATURE] + b"".join(each.whole for each in chunks if each.sound)
    try:
        image, more = _opened(whole)
    except Unreadable:
        raise
    except Exception:
        needed = [each.whole for each in chunks if each.sound and each.name in _DECIDING]
        if len(needed) == len(chunks):
            raise
        image, more = _opened(data[:_SIGNATURE] + b"".join(needed))
    if _may_fall_short(image, data) and _falls_short(chunks, _expected(data)):
        raise Unreadable("cannot be decoded (its data end before the picture does)")
    return image, notes + more


def _may_fall_short(image: Image.Image, data: bytes) -> bool:
    """Whether rows may be missing: Pillow leaves zeros, in the last row unless rows come interlaced.

    Counting their bytes takes time. Of 16 bits, the transparent colour, often black, is white by now.
    """
    depth, colour_type, _, _, interlaced = data[24:29]
    if interlaced or (depth, colour_type) == (16, _RGB):
        return True
    return not image.crop((0, image.height - 1, *image.size)).tobytes().strip(b"\0")


def _falls_short(chunks: list[Chunk], expected: int) -> bool:
    """Whether the pixels' stream holds fewer bytes than are expected."""
    stream = zlib.decompressobj()
    for each in chunks:
        if each.name == b"IDAT" and expected > 0:
            expected -= len(stream.decompress(each.whole[8:-4], expected))
    return expected > 0


def _expected(data: bytes) -> int:
    """Bytes of the rows that the head announces: a filter's number, then the samples."""
    width, height, depth, colour_type, interlaced = struct.unpack_from(">IIBB2xB", data, 16)
    bits = depth * _SAMPLES[colour_type]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-((x - width) // right), -((y - height) // down)) for x, y, right, down in passes]
    return sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns)


def _chunks(data: bytes) -> Iterator[Chunk]:
    """List the chunks; the last may be cut off, of which Pillow judges."""
    view, at = memoryview(data), _SIGNATURE
    while at + 12 <= len(data):
        length = int.from_bytes(view[at : at + 4], "big")
        name, end = bytes(view[at + 4 : at + 8]), at + 12 + length
        if end > len(data):
            break
        stated = int.from_bytes(view[end - 4 : end], "big")
        yield Chunk(name, view[at:end], zlib.crc32(view[at + 4 : end - 4]) == stated)
        if name == b"IEND":
            return
        at = end
    if at < len(data):
        yield Chunk(bytes(view[at + 4 : at + 8]), view[at:], True)


def _opened(data: bytes) -> tuple[Image.Image, list[str]]:
    depth, colour_type = data[24:26]  # of IHDR, which comes first
    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        check_size(image.size)
        notes = notes_of_frames(getattr(image, "n_frames", 1))
        clear = image.info.get("transparency")
        if colour_type == _RGB and depth == 16 and clear is not None:
            return _without_colour(data, clear), notes
        image.seek(0)
        image.load()
        if colour_type == _GREY and depth in (2, 4, 8) and clear is not None:
            levels = 2**depth - 1
            image.info["transparency"] = (clear & levels) * (255 // levels)  # Pillow has scaled the pixels
        return image, notes


def _without_colour(data: bytes, clear: tuple[int, int, int]) -> Image.Image:
    """RGB of 16 bits of which one colour is transparent: both bytes of each number decide."""
    with _raw(data, "RGB;16B") as high, _raw(data, "RGB;16L") as low:  # what Pillow keeps: one byte of two
        values = np.asarray(high).astype(np.uint16) * 256 + np.asarray(low)
        pixels = np.array(high)
        pixels[(values == clear).all(axis=2)] = BACKGROUND
        image = Image.fromarray(pixels)
        image.info = {key: value for key, value in high.info.items() if key != "transparency"}
        return image


def _raw(data: bytes, mode: str) -> Image.Image:
    image = Image.open(BytesIO(data), formats=["PNG"])
    image.tile = [each._replace(args=mode) for each in image.tile]
    image.load()
    return image
