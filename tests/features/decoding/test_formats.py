"""What a file is by its first bytes, and the true reason where it is not read."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features

from features.decoding.decode import decode, upright_rgb
from features.decoding.formats import EXTENSIONS, IMAGE_KINDS, OTHER_EXTENSIONS, READ, installed, kind
from features.errors import Unreadable


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def slope(mode: str = "RGB") -> Image.Image:
    rows, columns = np.mgrid[0:32, 0:48]
    return Image.fromarray(np.stack([columns * 5, rows * 7, rows + columns], 2).astype(np.uint8)).convert(
        mode
    )


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1miaf", "AVIF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "Canon RAW (CR3)"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a film"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08", "JPEG-LS"),
        (b"II\xbc\x01", "JPEG XR"),
        (b"II*\0\x10\0\0\0CR\x02\0", "Canon RAW (CR2)"),
        (b"8BPS\0\1", "Photoshop (PSD)"),
        (b"Pf\n3 3\n-1\n", "PFM"),
        (b"\n\n<!DOCTYPE HTML>\n<html>", "a web page"),
        (b"<?xml version='1.0'?>\n<svg xmlns=", "SVG"),
        (b"<?xml version='1.0'?>\n<Error><Code>AccessDenied", "XML"),
        (b'{"error": "not found"}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04\x14\0", "a ZIP archive, or an office document"),
        (b"\0\x05\x16\x07\0\x02\0\0", "AppleDouble (what macOS keeps beside a file)"),
        (bytes(100), "a file of zeros"),
        (b"hello, world", "text"),
        (b"", "an empty file"),
        (b"\x17\x99\x02", ""),
    ],
)
def test_first_bytes_tell_what_it_is(head: bytes, what: str) -> None:
    assert kind(head) == what
    if what not in READ:
        reason = "which is not read" if what in IMAGE_KINDS else "not an image" if head else "is empty"
        with pytest.raises(Unreadable, match=reason):
            decode(head)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_what_is_read_is_recognised(form: str) -> None:
    assert READ[kind(encoded(slope(), form))] == form


def test_extensions_are_read_or_not() -> None:
    assert not EXTENSIONS & OTHER_EXTENSIONS
    assert {".jpg", ".png", ".tiff"} <= EXTENSIONS
    assert {".jxl", ".cr2", ".psd", ".svg", ".pfm"} <= OTHER_EXTENSIONS
    assert {".heic", ".avif", ".jp2"} <= EXTENSIONS | OTHER_EXTENSIONS
    assert (".avif" in EXTENSIONS) == features.check("avif")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("form", ["AVIF", "HEIF"])
def test_orientation_is_applied_once(form: str, orientation: int) -> None:
    if not installed(form):
        pytest.skip(f"{form} is not read by what is installed")
    exif = Image.Exif()
    exif[274] = orientation
    buffer = io.BytesIO()
    if form == "HEIF":
        pillow_heif = pytest.importorskip("pillow_heif")
        pillow_heif.from_pillow(slope()).save(buffer, quality=90, exif=exif.tobytes())
    else:
        slope().save(buffer, form, quality=90, exif=exif)
    turns = {1: 0, 3: 2, 6: -1, 8: 1}[orientation]
    got = np.asarray(decode(buffer.getvalue()).image).astype(float)
    want = np.rot90(np.asarray(slope()), turns).astype(float)
    assert got.shape == want.shape
    assert np.abs(got - want).mean() < 4


def test_heic_of_ten_bits() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    wide = np.asarray(slope()).astype(np.uint16) * 257
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (48, 32), wide.tobytes()).save(buffer, quality=95)
    assert pillow_heif.open_heif(buffer, convert_hdr_to_8bit=False).info["bit_depth"] == 10
    got = np.asarray(decode(buffer.getvalue()).image).astype(float)
    assert np.abs(got - np.asarray(slope())).mean() < 4


def test_jpeg_2000_of_the_kinds_that_pillow_has_right() -> None:
    if not installed("JPEG2000"):
        pytest.skip("JPEG 2000 is not read by what is installed")
    data = encoded(slope(), "JPEG2000", irreversible=False)
    np.testing.assert_array_equal(np.asarray(decode(data).image), np.asarray(slope()))
    size = data.find(b"\xff\x4f\xff\x51") + 42
    wide = (
        data[:size]
        + b"".join(b"\x0b" + data[at + 1 : at + 3] for at in (size, size + 3, size + 6))
        + data[size + 9 :]
    )
    with pytest.raises(Unreadable, match="3 channels of 12 bits"):
        decode(wide)


@pytest.mark.parametrize("clear", [None, 0])
def test_a_first_frame_that_does_not_fill_the_picture_lies_on_white(clear: int | None) -> None:
    part = slope("L").convert("P").resize((20, 10))
    data = bytearray(encoded(part, "GIF", **({} if clear is None else {"transparency": clear})))
    frame = data.index(b"," + struct.pack("<4H", 0, 0, 20, 10))
    data[6:10] = struct.pack("<2H", 48, 32)  # the canvas
    data[frame + 1 : frame + 5] = struct.pack("<2H", 7, 5)  # where the frame lies
    decoded = decode(bytes(data))
    want = np.full((32, 48, 3), 255)
    want[5:15, 7:27] = np.asarray(decode(encoded(part, "PNG")).image)
    if clear == 0:
        want[(want == 0).all(axis=2)] = 255
    np.testing.assert_array_equal(np.asarray(decoded.image), want)
    assert decoded.note == "its first frame does not fill the picture: the rest is white"


@pytest.mark.parametrize("form", ["WEBP", "AVIF", "HEIF", "BMP", "PPM", "TIFF"])
def test_zeros_in_place_of_the_end_are_noted(form: str) -> None:
    if form in ("AVIF", "HEIF") and not installed(form):
        pytest.skip(f"{form} is not read here")
    photo = np.random.default_rng(0).integers(1, 255, (60, 80, 3), np.uint8)
    letterbox = np.pad(photo[20:40], ((20, 20), (0, 0), (0, 0)))
    spot = np.pad(photo[20:40, 20:40], ((20, 20), (30, 30), (0, 0)))
    for each in (photo, letterbox, spot):
        assert decode(saved(each, form)).note == ""
    data = saved(photo, form)
    cut = len(data) // 2 - 1  # within a row
    try:
        note = decode(data[:cut] + bytes(len(data) - cut)).note
    except Unreadable:
        return
    assert note == "its data end in zeros: a part of the picture may be missing"


def saved(pixels: NDArray[np.uint8], form: str) -> bytes:
    if form != "HEIF":
        return encoded(Image.fromarray(pixels), form)
    buffer = io.BytesIO()
    pytest.importorskip("pillow_heif").from_pillow(Image.fromarray(pixels)).save(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_a_picture_that_is_fully_transparent_is_noted(form: str) -> None:
    clear = slope("RGBA")
    clear.putalpha(0)
    assert decode(encoded(clear, form)).note == "every pixel is fully transparent: it is all white"


@pytest.mark.parametrize(("alpha", "note"), [(0, "its alpha bytes are all 0 and are not used"), (255, "")])
def test_alpha_bytes_of_a_bitmap_may_not_be_used(alpha: int, note: str) -> None:
    blue_first = np.dstack([np.asarray(slope())[::-1, :, ::-1], np.full((32, 48), alpha, np.uint8)])
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, 48, 32, 1, 32, 3, blue_first.size, 0, 0, 0, 0) + masks
    head = head.ljust(108, b"\0")
    data = struct.pack("<2sIII", b"BM", 14 + 108 + blue_first.size, 0, 14 + 108) + head + blue_first.tobytes()
    decoded = decode(data)
    np.testing.assert_array_equal(np.asarray(decoded.image), np.asarray(slope()))
    assert decoded.note == note


@pytest.mark.parametrize("mode", ["L", "LA", "La", "RGBA", "RGBa", "RGBX", "CMYK", "I;16"])
def test_images_of_any_mode(mode: str) -> None:
    half = slope("RGBA")
    half.putalpha(Image.fromarray(np.full((32, 48), 128, np.uint8)))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(slope("L")).astype(np.uint16) * 257)
    elif mode in ("La", "RGBa"):
        image = half.convert(mode.upper()).convert(mode)
    else:
        image = half.convert(mode)
    colours = np.asarray(slope("RGB" if mode[0] in "RC" else "L").convert("RGB")).astype(float)
    want = colours * 128 / 255 + 127 if "A" in mode.upper() else colours
    np.testing.assert_allclose(np.asarray(upright_rgb(image)), want, atol=2)


def test_what_pillow_alone_opens_is_used_as_it_is() -> None:
    opened = Image.open(io.BytesIO(encoded(slope(), "TGA")))
    np.testing.assert_array_equal(np.asarray(upright_rgb(opened)), np.asarray(slope()))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_range_are_refused(mode: str) -> None:
    with pytest.raises(Unreadable, match="no defined brightness range"):
        upright_rgb(slope("L").convert(mode))


def test_short_memory_says_nothing_of_a_file(tmp_path: Path) -> None:
    Image.new("RGB", (6000, 8000)).save(tmp_path / "large.png", compress_level=1)
    done = subprocess.run(
        [sys.executable, "-c", SHORT, tmp_path / "large.png"], capture_output=True, text=True
    )
    assert done.stdout == "MemoryError\n", done.stderr


SHORT = """
import pathlib, resource, sys
from features.decoding.decode import decode
data = pathlib.Path(sys.argv[1]).read_bytes()
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (40 << 20),) * 2)
try:
    decode(data)
except Exception as error:
    print(type(error).__name__)
"""
