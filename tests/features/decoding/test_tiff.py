"""TIFFs as tifffile writes them: read as the numbers that were written, or refused in words."""

import io
import struct

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from features.decoding.decode import decode, upright_rgb
from features.errors import Unreadable

HEIGHT, WIDTH = 24, 37
COMPRESSIONS = {
    "none": {},
    "zlib": {"compression": "zlib"},
    "tiles": {"tile": (16, 16), "compression": "zlib"},
}


def numbers(bands: int, dtype: type[np.unsignedinteger] = np.uint8) -> NDArray[np.unsignedinteger]:
    rng = np.random.default_rng(bands)
    most = np.iinfo(dtype).max
    return rng.integers(0, most, (HEIGHT, WIDTH, bands), dtype=dtype, endpoint=True)


def written(array: NDArray[np.generic], **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, metadata=None, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> NDArray[np.float64]:
    return np.asarray(decode(data).image).astype(float)


def on_white(colours: NDArray[np.floating], alpha: NDArray[np.floating]) -> NDArray[np.floating]:
    return colours * alpha / 255 + 255 - alpha


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_grey_has_the_polarity_that_its_tag_says(
    compression: str, order: str, dtype: type[np.unsignedinteger], white_is_zero: bool
) -> None:
    grey = numbers(1, dtype)[..., 0]
    photometric = "miniswhite" if white_is_zero else "minisblack"
    data = written(grey, photometric=photometric, byteorder=order, **COMPRESSIONS[compression])
    want = grey / np.iinfo(dtype).max * 255
    want = 255 - want if white_is_zero else want
    np.testing.assert_allclose(pixels(data), np.repeat(want[..., None], 3, axis=2), atol=0.51)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("extra", [None, "unspecified", "unassalpha", "assocalpha"])
def test_colours_are_the_same_in_planes_and_in_any_order(
    compression: str, order: str, planar: str, dtype: type[np.unsignedinteger], extra: str | None
) -> None:
    array = numbers(4 if extra else 3, dtype)
    scaled = array / np.iinfo(dtype).max * 255
    want = scaled[..., :3]
    if extra == "unassalpha":
        want = on_white(want, scaled[..., 3:])
    if extra == "assocalpha":
        array[..., :3] = array[..., :3] * (array[..., 3:] / np.iinfo(dtype).max)  # as such files have it
        want = array[..., :3] / np.iinfo(dtype).max * 255 + 255 - scaled[..., 3:]
    options = COMPRESSIONS[compression] | ({"extrasamples": [extra]} if extra else {})
    stored = array if planar == "contig" else np.moveaxis(array, 2, 0)
    data = written(stored, photometric="rgb", planarconfig=planar, byteorder=order, **options)
    # Pillow keeps the high byte of 16 bits, in colours and in transparency
    np.testing.assert_allclose(pixels(data), want, atol=4 if dtype == np.uint16 else 1)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("extra", ["unspecified", "unassalpha", "assocalpha"])
def test_grey_with_a_second_sample(planar: str, dtype: type[np.unsignedinteger], extra: str) -> None:
    array = numbers(2, dtype)
    grey, alpha = np.moveaxis(array / np.iinfo(dtype).max * 255, 2, 0)
    want = {"unspecified": grey, "unassalpha": on_white(grey, alpha), "assocalpha": grey + 255 - alpha}[extra]
    stored = array if planar == "contig" else np.moveaxis(array, 2, 0)
    data = written(stored, photometric="minisblack", planarconfig=planar, extrasamples=[extra])
    np.testing.assert_allclose(pixels(data)[..., 0], np.clip(want, 0, 255), atol=1)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_cmyk(planar: str, dtype: type[np.unsignedinteger]) -> None:
    array = numbers(4, dtype)
    inks = array / np.iinfo(dtype).max * 255
    stored = array if planar == "contig" else np.moveaxis(array, 2, 0)
    data = written(stored, photometric="separated", planarconfig=planar)
    np.testing.assert_allclose(pixels(data), (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255, atol=2)


@pytest.mark.parametrize("scale", [257, 1])  # as the format has it, and as some write it
def test_colour_map_of_either_range(scale: int) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16)
    indices = numbers(1)[..., 0]
    data = written(indices, photometric="palette", colormap=colours * scale)
    np.testing.assert_array_equal(pixels(data), np.moveaxis(colours[:, indices], 0, -1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_differences_are_summed_within_tiles(dtype: type[np.unsignedinteger], order: str) -> None:
    array = numbers(2, dtype)
    data = written(
        array, photometric="minisblack", extrasamples=["unspecified"], byteorder=order,
        compression="zlib", predictor=2, tile=(16, 16),
    )  # fmt: skip
    want = array[..., 0] / np.iinfo(dtype).max * 255
    np.testing.assert_allclose(pixels(data)[..., 0], want, atol=0.51)


def by_hand(rows: bytes, tags: dict[int, tuple[int, ...]]) -> bytes:
    """A TIFF of one strip: tags of 32-bit numbers, which need not make sense."""
    tags = {256: (WIDTH,), 257: (HEIGHT,), 259: (1,), 273: (8,), 278: (HEIGHT,), 279: (len(rows),)} | tags
    entries, after, start = b"", b"", 8 + len(rows)
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            packed, after = struct.pack("<I", start + 6 + 12 * len(tags) + len(after)), after + packed
        entries += struct.pack("<HHI", tag, 4, len(values)) + packed
    directory = struct.pack("<H", len(tags)) + entries + bytes(4) + after
    return b"II*\0" + struct.pack("<I", start) + rows + directory


@pytest.mark.parametrize("bits", [1, 2, 4, 10, 12, 14])
@pytest.mark.parametrize("photometric", [0, 1])
def test_packed_bits(bits: int, photometric: int) -> None:
    grey = np.random.default_rng(bits).integers(0, 2**bits, (HEIGHT, WIDTH))
    rows = b"".join(
        int("".join(f"{value:0{bits}b}" for value in row).ljust(-(-WIDTH * bits // 8) * 8, "0"), 2).to_bytes(
            -(-WIDTH * bits // 8), "big"
        )
        for row in grey
    )
    want = grey * 255 / (2**bits - 1)
    want = want if photometric else 255 - want
    data = by_hand(rows, {258: (bits,), 262: (photometric,), 277: (1,)})
    np.testing.assert_allclose(pixels(data)[..., 0], want, atol=0.51)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_what_pillow_does_not_load(orientation: int) -> None:
    grey = np.zeros((HEIGHT, WIDTH), np.uint16)
    grey[: HEIGHT // 2, : WIDTH // 2] = 65535
    tag = [(274, "H", 1, orientation, True)]
    told = [
        pixels(written(each, photometric=photometric, extratags=tag))
        for each, photometric in ((65535 - grey, "miniswhite"), (grey, "minisblack"))
    ]
    np.testing.assert_array_equal(*told)


PLAIN = {258: (8,), 262: (1,), 277: (1,)}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (written(np.zeros((9, 9), np.int8)), "signed numbers of 8 bits"),
        (written(np.zeros((9, 9), np.uint32)), "numbers of 32 bits"),
        (written(np.zeros((9, 9), np.float16)), "floating-point numbers of 16 bits"),
        (written(np.zeros((9, 9), np.float64)), "floating-point numbers of 64 bits"),
        (written(np.zeros((9, 9, 5), np.uint8), planarconfig="contig"), "five bands"),
        (written(np.zeros((9, 9, 5), np.uint8), photometric="rgb", extrasamples=[0, 0]), "five bands"),
        (written(np.zeros((9, 9, 3), np.uint8), photometric="cielab"), "CIELAB"),
        (by_hand(bytes(999), PLAIN | {259: (34712,)}), "JPEG 2000 compression"),
        (by_hand(bytes(999), PLAIN | {259: (34887,)}), "LERC compression"),
        (by_hand(bytes(999), PLAIN | {262: (32803,)}), "a camera's RAW"),
        (by_hand(bytes(999), PLAIN | {50706: (1,)}), "DNG"),
        (by_hand(bytes(999), PLAIN | {254: (1,)}), "a reduced one"),
        (by_hand(bytes(9999), {258: (5, 6, 5), 262: (2,), 277: (3,)}), "samples of 5, 6, 5 bits"),
        (by_hand(bytes(999), {258: (8,), 277: (1,)}), "PhotometricInterpretation"),
    ],
)  # fmt: skip
def test_kinds_that_are_not_read_are_named(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=f"a TIFF of a kind that is not read: .*{reason}"):
        decode(data)


def test_half_a_file_is_refused_on_either_way() -> None:
    for photometric in ("minisblack", "miniswhite"):
        data = written(numbers(1, np.uint16)[..., 0], photometric=photometric)
        directory = struct.unpack_from("<I", data, 4)[0]
        assert directory < 1000  # tifffile writes it before the pixels
        with pytest.raises(Unreadable, match="cannot be decoded"):
            decode(data[: len(data) // 2])


def test_pages_and_stacks_are_counted() -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((5, 9, 9), np.uint8), photometric="minisblack", metadata=None)
    assert decode(buffer.getvalue()).note == "the first of 5 frames is used"
    alone = written(np.zeros((9, 9), np.uint8), description="ImageJ=1.53\nimages=7\nslices=7\n")
    assert decode(alone).note == "the first of 7 frames is used"


def test_an_opened_image_is_read_as_its_file_is() -> None:
    data = written(numbers(1, np.uint16)[..., 0], photometric="miniswhite")
    want = pixels(data)
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(np.asarray(upright_rgb(opened)), want)
    opened.load()  # as Pillow has it, which is the negative
    with pytest.raises(Unreadable, match="loads wrongly"):
        upright_rgb(opened)
