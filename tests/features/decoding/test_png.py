"""PNGs made by hand: transparent colours of each depth, and metadata that say nothing of the pixels."""

import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray

from features.decoding.decode import decode
from features.errors import Unreadable

HEIGHT, WIDTH = 13, 21
GREY, RGB = 0, 2


def chunk(name: bytes, body: bytes, *, sound: bool = True) -> bytes:
    checksum = zlib.crc32(name + body) ^ (not sound)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def packed(array: NDArray[np.integer], depth: int) -> bytes:
    """Rows without a filter, the highest bit first."""
    rows = array.reshape(len(array), -1)
    bits = (rows[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
    return b"".join(b"\0" + np.packbits(row.ravel().astype(np.uint8)).tobytes() for row in bits)


def png(
    array: NDArray[np.integer], depth: int, *before: bytes, after: bytes = b"", rows: bytes = b""
) -> bytes:
    colour_type = RGB if array.ndim == 3 else GREY
    head = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], depth, colour_type, 0, 0, 0)
    stream = chunk(b"IDAT", zlib.compress(rows or packed(array, depth)))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(before) + stream + after + chunk(b"IEND", b"")
    )


def colours() -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_transparent_grey_of_each_depth_is_white(depth: int) -> None:
    most = 2**depth - 1
    grey = np.random.default_rng(depth).integers(0, most + 1, (HEIGHT, WIDTH))
    for clear in {0, most, int(grey[5, 5])}:
        want = np.rint(grey * 255 / most)
        want[grey == clear] = 255
        decoded = decode(png(grey, depth, chunk(b"tRNS", struct.pack(">H", clear))))
        np.testing.assert_array_equal(np.asarray(decoded.image)[..., 1], want)


@pytest.mark.parametrize("depth", [8, 16])
def test_transparent_colour_is_compared_in_all_its_bits(depth: int) -> None:
    rgb = np.random.default_rng(depth).integers(0, 2**depth, (HEIGHT, WIDTH, 3))
    rgb[3:5] = rgb[0, 0]
    rgb[4, :, 2] ^= 1  # nearly that colour
    want = rgb >> (depth - 8)
    want[(rgb == rgb[0, 0]).all(axis=2)] = 255
    data = png(rgb, depth, chunk(b"tRNS", struct.pack(">3H", *rgb[0, 0].tolist())))
    np.testing.assert_array_equal(np.asarray(decode(data).image), want)


BOMB = zlib.compress(bytes(70_000_000))


@pytest.mark.parametrize(
    "metadata",
    [
        chunk(b"tEXt", b"k\0v", sound=False),
        chunk(b"iCCP", b"k\0\0" + zlib.compress(b"p"), sound=False),
        chunk(b"eXIf", b"nonsense"),
        chunk(b"iCCP", b"nonsense"),
        chunk(b"tEXt", b"k\0" + bytes(70_000_000)),
        chunk(b"zTXt", b"k\0\0" + BOMB),
        chunk(b"iTXt", b"k\0\1\0\0\0" + BOMB),
        chunk(b"gAMA", b"\1"),
    ],
    ids=["tEXt checksum", "iCCP checksum", "eXIf", "iCCP", "tEXt 70 MB", "zTXt 70 MB", "iTXt 70 MB", "gAMA"],
)
@pytest.mark.parametrize("where", ["before", "after"])
def test_metadata_decide_nothing(metadata: bytes, where: str) -> None:
    rgb = colours()
    data = png(rgb, 8, metadata) if where == "before" else png(rgb, 8, after=metadata)
    np.testing.assert_array_equal(np.asarray(decode(data).image), rgb)


def test_damaged_transparency_is_noted() -> None:
    clear = chunk(b"tRNS", struct.pack(">3H", 1, 2, 3), sound=False)
    assert decode(png(colours(), 8, clear)).note == "its transparency is damaged and not used"


PLAIN = ((0, 0, 1, 1),)
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def interlaced(data: bytes) -> bytes:
    head = data[12:28] + b"\1"
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


@pytest.mark.parametrize("passes", [PLAIN, ADAM7])
def test_a_whole_black_picture_is_read_and_a_short_one_refused(passes: tuple[tuple[int, ...], ...]) -> None:
    black = np.zeros((HEIGHT, WIDTH), np.int64)
    rows = b"".join(packed(black[top::down, left::right], 8) for left, top, right, down in passes)
    data, short = (png(black, 8, rows=each) for each in (rows, rows[: -2 * WIDTH]))
    if passes is ADAM7:
        data, short = interlaced(data), interlaced(short)
    assert decode(data).image.size == (WIDTH, HEIGHT)
    with pytest.raises(Unreadable, match="cannot be decoded"):
        decode(short)


@pytest.mark.parametrize("height", [HEIGHT, HEIGHT + 1])
@pytest.mark.parametrize("passes", [PLAIN, ADAM7])
@pytest.mark.parametrize(("depth", "clear"), [(8, None), (16, None), (16, 0)])
def test_missing_rows_are_refused_wherever_they_lie(
    depth: int, clear: int | None, passes: tuple[tuple[int, ...], ...], height: int
) -> None:
    rgb = np.random.default_rng(0).integers(1, 2**depth, (height, WIDTH, 3))
    parts = [packed(rgb[top::down, left::right], depth) for left, top, right, down in passes]
    without = parts[:-1] if passes is ADAM7 else [parts[0][: -(1 + WIDTH * 3 * depth // 8)]]
    before = [] if clear is None else [chunk(b"tRNS", struct.pack(">3H", clear, clear, clear))]
    whole, short = (png(rgb, depth, *before, rows=b"".join(each)) for each in (parts, without))
    if passes is ADAM7:
        whole, short = interlaced(whole), interlaced(short)
    np.testing.assert_array_equal(np.asarray(decode(whole).image), rgb >> (depth - 8))
    with pytest.raises(Unreadable, match="its data end before the picture does"):
        decode(short)


def test_damaged_pixels_are_refused() -> None:
    data = png(colours(), 8)
    for at in range(60, len(data) - 20, 97):
        with pytest.raises(Unreadable, match="cannot be decoded"):
            decode(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
