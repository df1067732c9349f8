"""JPEGs that are whole, and that are not, as an interrupted download or copy leaves them."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from features.decoding.decode import decode
from features.errors import Unreadable

WAYS = {
    "baseline": {},
    "4:4:4": {"subsampling": 0},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True},
    "restarts": {"restart_marker_blocks": 3},
    "progressive restarts": {"progressive": True, "restart_marker_blocks": 3},
}


def encoded(way: str, mode: str = "RGB") -> bytes:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((200, 150))
    buffer = io.BytesIO()
    noise.convert(mode).save(buffer, "JPEG", **WAYS[way])
    return buffer.getvalue()


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("way", WAYS)
def test_whole_pictures_are_read_whatever_follows(way: str, mode: str) -> None:
    data = encoded(way, mode)
    want = by_pillow(data)
    for whole in (data, data[:-2], data + b"more", data + bytes(4000), data + data, data[:-2] + b"\0\0"):
        np.testing.assert_array_equal(np.asarray(decode(whole).image), want)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("way", WAYS)
def test_parts_of_pictures_are_refused(way: str, mode: str, share: float) -> None:
    data = encoded(way, mode)
    start = data.find(b"\xff\xda") + 14
    part = data[: start + int((len(data) - start) * share)]
    zeros = bytes(len(data) - len(part))
    for damaged in (part, part + b"\xff\xd9", part + zeros, part + b"\xff\xd9" + zeros):
        with pytest.raises(Unreadable, match="cannot be decoded"):
            decode(damaged)


def test_zeros_within_are_noted_or_refused() -> None:
    data = encoded("baseline")
    middle = len(data) // 2
    try:
        assert "zeros" in decode(data[:middle] + bytes(600) + data[middle + 600 :]).note
    except Unreadable as reason:
        assert "before the picture does" in str(reason)  # noqa: PT017 - either is an answer


def test_an_even_surface_is_no_hole() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (1600, 1200), "white").save(buffer, "JPEG", optimize=True)
    assert bytes(512) in buffer.getvalue()
    assert decode(buffer.getvalue()).note == ""


@pytest.mark.parametrize(
    ("frame", "bits", "reason"),
    [(0xC0, 12, "a JPEG of 12 bits"), (0xC3, 8, "a lossless JPEG"), (0xF7, 8, "JPEG-LS")],
)
def test_other_codings_are_named(frame: int, bits: int, reason: str) -> None:
    data = encoded("baseline")
    at = data.find(b"\xff\xc0")
    with pytest.raises(Unreadable, match=reason):
        decode(data[: at + 1] + bytes([frame]) + data[at + 2 : at + 4] + bytes([bits]) + data[at + 5 :])


def test_cmyk_without_adobes_marker_is_noted() -> None:
    data = encoded("baseline", "CMYK")
    at = data.find(b"\xff\xee")
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    assert decode(data).note == ""
    assert "CMYK without Adobe's marker" in decode(data[:at] + data[at + 2 + length :]).note


def test_orientation_of_xmp_alone_is_noted() -> None:
    buffer = io.BytesIO()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF tiff:Orientation="6"/></x:xmpmeta>'
    Image.new("RGB", (30, 20)).save(buffer, "JPEG", xmp=xmp)
    decoded = decode(buffer.getvalue())
    assert decoded.image.size == (20, 30)
    assert "turned as its XMP says" in decoded.note


def test_real_photographs_are_whole(assets: Path) -> None:
    for path in sorted((assets / "photos").rglob("*.jpg"))[::40]:
        decoded = decode(path.read_bytes())
        assert decoded.note == ""
        with Image.open(path) as image:
            assert sorted(decoded.image.size) == sorted(image.size)
