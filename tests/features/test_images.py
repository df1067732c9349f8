"""Decoding and preprocessing, against torchvision's preset and hand-made files."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from torchvision.models import VGG16_Weights
from torchvision.transforms import functional

from features.errors import Unreadable
from features.images import MAX_PIXELS, Preprocessing, array_sha256, control_pixels, decode

MEAN = STD = (1.0, 1.0, 1.0)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(width * height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


@pytest.mark.parametrize("size", [(500, 333), (333, 500), (224, 224), (60, 200), (257, 256), (1023, 767)])
def test_pixels_are_those_of_the_weights_preset(size: tuple[int, int]) -> None:
    image = noise(*size)
    preset = VGG16_Weights.IMAGENET1K_V1.transforms()
    resized = functional.resize(image, preset.resize_size, interpolation=preset.interpolation)
    want = np.asarray(functional.center_crop(resized, preset.crop_size))
    got = Preprocessing((224, 224), True, MEAN, STD).pixels(image)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("target", [(100, 300), (300, 100), (32, 64)])
@pytest.mark.parametrize("size", [(400, 300), (300, 400), (90, 1000), (65, 33)])
def test_any_size_is_covered_without_distortion(target: tuple[int, int], size: tuple[int, int]) -> None:
    # A horizontal ramp stays one; its slope tells the scale, which must be that of the covering side
    width, height = size
    ramp = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    pixels = Preprocessing(target, True, MEAN, STD).pixels(Image.fromarray(ramp).convert("RGB"))
    assert pixels.shape == (*target, 3)
    scale = max(target[0] * 256 / 224 / height, target[1] * 256 / 224 / width)
    middle = pixels[target[0] // 2, :, 0].astype(float)
    slope = np.polyfit(np.arange(target[1]), middle, 1)[0]
    assert slope == pytest.approx(255 / (width * scale), rel=0.05)
    assert middle[target[1] // 2] == pytest.approx(127.5, abs=5)  # the centre stays the centre


def test_arrays_are_resized_directly() -> None:
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("RGB")
    pixels = Preprocessing((48, 48), False, MEAN, STD).pixels(image)
    np.testing.assert_array_equal(pixels, np.asarray(image.resize((48, 48), Image.Resampling.BILINEAR)))


def test_control_pixels_are_scaled_to_one() -> None:
    white = np.full((2, 48, 64, 3), 255, np.uint8)
    rows = control_pixels(white)
    assert rows.shape == (2, 3072)
    assert rows.dtype == np.float32
    assert (rows == 1).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int) -> None:
    upright = np.zeros((20, 30, 3), np.uint8)
    upright[:10, :15] = 255  # the top left quarter is white
    # How the sensor's picture lies for each EXIF orientation (TIFF 6.0, tag 274)
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright, 1),
        7: np.rot90(upright.transpose(1, 0, 2), 2), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    np.testing.assert_array_equal(np.asarray(decode(data).image), upright)


def test_invalid_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[274] = 99
    assert decode(encoded(noise(30, 20), "JPEG", exif=exif)).image.size == (30, 20)


def test_sixteen_bit_grey_is_scaled() -> None:
    grey = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    pixels = np.asarray(decode(encoded(Image.fromarray(grey), "PNG")).image)
    np.testing.assert_allclose(pixels[..., 0].ravel(), np.arange(256), atol=1)


def test_transparency_lies_on_white() -> None:
    red = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    assert decode(encoded(red, "PNG")).image.getpixel((5, 5)) == (255, 255, 255)
    half = Image.new("RGBA", (10, 10), (255, 0, 0, 128))
    assert decode(encoded(half, "PNG")).image.getpixel((5, 5)) == (255, 127, 127)
    palette = Image.new("P", (10, 10), 3)
    palette.putpalette([0] * 9 + [255, 0, 0] + [0] * 756)
    assert decode(encoded(palette, "PNG", transparency=3)).image.getpixel((5, 5)) == (255, 255, 255)


def test_cmyk_becomes_rgb() -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    red, green, blue = decode(encoded(cyan, "JPEG", quality=100)).image.getpixel((8, 8))  # type: ignore[misc]
    assert (red < 5, green > 250, blue > 250) == (True, True, True)


def test_first_frame_is_used_and_noted() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    decoded = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert decoded.image.getpixel((8, 8)) == (255, 0, 0)  # GIF's palette holds pure red
    assert decoded.note == "the first of 2 frames is used"


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", body), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello, world", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (encoded(noise(64, 64), "JPEG")[:900], "cannot be decoded"),
        (encoded(noise(64, 64), "PNG")[:5000], "cannot be decoded"),
        (png_header(13000, 13000), "megapixels"),
        (png_header(30000, 30000), "megapixels"),
        (encoded(noise(1, 1), "PNG"), "shorter than"),
        (encoded(noise(210, 10), "PNG"), "times the other"),
        (encoded(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"), "floating-point"),
    ],
)
def test_what_is_no_whole_image_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        decode(data)


def test_pixel_cap_is_above_phones_and_below_bombs() -> None:
    assert 12000 * 9000 < MAX_PIXELS < 13000 * 13000


def test_hash_of_an_array_tells_shape_and_values() -> None:
    a = np.arange(12, dtype=np.uint8)
    digests = {array_sha256(x) for x in (a.reshape(3, 4), a.reshape(4, 3), a.reshape(3, 4) + 1)}
    assert len(digests) == 3
