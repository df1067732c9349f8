"""TIFF: its own tags decide what the numbers mean, never the decoder's mode.

    image, notes = read(data)

What was compared with tifffile and OpenCV is read: by Pillow where it has it right,
else from the samples (`features.decoding.tiff_samples`). The rest is refused.
"""

from collections.abc import Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from features.decoding.limits import check_size
from features.decoding.rgb import from_array, notes_of_alpha, notes_of_frames
from features.decoding.tiff_layout import (
    ASSOCIATED,
    CMYK,
    JPEG,
    PALETTE,
    RGB,
    UNASSOCIATED,
    WHITE_IS_ZERO,
    YCBCR,
    Layout,
    described,
    first,
)
from features.decoding.tiff_samples import Values, samples
from features.errors import Unreadable

_BYTEWISE = {1, 5, 8, 32946, 32773, 34925, 50000}  # none, LZW, Deflate, PackBits, LZMA, Zstandard
_FAX = {2, 3, 4}
_COMPRESSIONS = {
    6: "JPEG compression of the old style", 33003: "JPEG 2000 compression", 33004: "JPEG 2000 compression",
    33005: "JPEG 2000 compression", 34712: "JPEG 2000 compression", 34661: "JBIG compression",
    34676: "SGI Log compression", 34677: "SGI Log compression", 34887: "LERC compression",
    34892: "lossy JPEG compression of DNG", 34933: "PNG compression", 34934: "JPEG XR compression",
    22610: "JPEG XR compression", 50001: "WebP compression", 50002: "JPEG XL compression",
    52546: "JPEG XL compression", 34713: "Nikon's compression", 32767: "Sony's compression",
}  # fmt: skip
_COLOURS = {
    4: "a mask of transparency", 8: "CIELAB colours", 9: "ICC L*a*b* colours", 10: "ITU L*a*b* colours",
    32803: "a camera's RAW", 34892: "a camera's RAW", 32844: "LogL brightness", 32845: "LogLuv colours",
}  # fmt: skip
_NUMBERS = {2: "signed numbers", 3: "floating-point numbers", 5: "complex numbers", 6: "complex numbers"}
_COUNTED = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_CHANNELS = {WHITE_IS_ZERO: 1, 1: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}


def read(data: bytes) -> tuple[Image.Image, list[str]]:
    """Read the first picture, still to be turned, and what should be said of it.

    Raises
    ------
    Unreadable
        For kinds that are not read, in words, and beyond the size limits.
    OSError, ValueError
        Damaged data, as Pillow raises them.
    """
    layout, pictures = first(data)
    check_size((layout.width, layout.height))
    if what := next(_unknown(layout), ""):
        raise Unreadable(f"a TIFF of a kind that is not read: {what}")
    notes = notes_of_frames(pictures)
    if layout.photometric == RGB and layout.samples == 4 and not layout.extras:
        notes.append(
            "its fourth sample, of which the file does not say what it is, is taken for transparency"
        )
    if pillow_is_right(layout):
        with Image.open(BytesIO(data), formats=["TIFF"]) as image:
            image.load()
            return image, notes
    pixels, more = _interpreted(samples(data, layout), layout)
    return from_array(pixels, layout.orientation), notes + more


def _unknown(layout: Layout) -> Iterator[str]:
    """Say what about a picture is not known to be read rightly."""
    if layout.raw:
        yield "a camera's RAW (DNG)"
    if layout.reduced:
        yield "its first picture is a reduced one, as in a camera's RAW"
    yield from _unknown_numbers(layout)
    yield from _unknown_compression(layout)
    yield from _unknown_colours(layout)


def _unknown_numbers(layout: Layout) -> Iterator[str]:
    bits = layout.bits[0]
    for each in layout.formats:
        if each not in (1, 4):  # unsigned, or not said
            yield f"{_NUMBERS.get(each, f'SampleFormat {each}')} of {bits} bits"
    if len(set(layout.bits)) > 1:
        yield f"samples of {', '.join(map(str, layout.bits))} bits"
    if bits > 16 or (bits not in (1, 2, 4, 8, 16) and layout.photometric == PALETTE):
        yield f"numbers of {bits} bits, whose range is not said"
    if layout.fill_order != 1 and bits != 1:
        yield f"FillOrder {layout.fill_order}"


def _unknown_compression(layout: Layout) -> Iterator[str]:
    bits, samples = layout.bits[0], layout.samples
    if layout.compression not in _BYTEWISE | _FAX | {JPEG}:
        yield _COMPRESSIONS.get(layout.compression, f"compression {layout.compression}")
    if layout.predictor != 1 and (layout.predictor != 2 or bits not in (8, 16)):
        yield f"predictor {layout.predictor} of {bits} bits"
    if layout.compression == JPEG and (bits != 8 or layout.planar or samples not in (1, 3)):
        yield f"JPEG compression of {samples} samples of {bits} bits"
    if layout.compression in _FAX and (bits, samples) != (1, 1):
        yield f"fax compression of {samples} samples of {bits} bits"


def _unknown_colours(layout: Layout) -> Iterator[str]:
    samples, photometric = layout.samples, layout.photometric
    if photometric is None:
        yield "it does not say what its numbers mean (PhotometricInterpretation)"
    elif photometric not in _CHANNELS:
        yield _COLOURS.get(photometric, f"PhotometricInterpretation {photometric}")
    counted = _COUNTED[samples] if samples < len(_COUNTED) else str(samples)
    if not 0 < samples < 5:
        yield f"{counted} bands"
    if samples - _CHANNELS.get(photometric or 0, 0) not in (0, 1) or (photometric == PALETTE and samples > 1):
        yield f"{counted} bands of which it does not say that they are colours"
    if samples == 2 and not layout.extras:
        yield "a second band of which it does not say what it is"
    if photometric == YCBCR and layout.compression != JPEG:
        yield "YCbCr colours without JPEG compression"
    if photometric == CMYK and layout.tags.get(332, 1) != 1:  # InkSet
        yield "inks other than CMYK"


def check_loaded(tags: ImageFileDirectory_v2) -> None:
    """Raise Unreadable for a picture that Pillow has loaded already, if it got it wrong."""
    layout = described(tags)
    if next(_unknown(layout), "") or not pillow_is_right(layout):
        raise Unreadable("a TIFF of a kind that Pillow loads wrongly; give the file, or its path")


def pillow_is_right(layout: Layout) -> bool:
    """Whether Pillow's mode means what the tags say, for a picture that is read at all."""
    bits, photometric = layout.bits[0], layout.photometric
    if layout.planar and layout.compression == 1:  # its reader of plain planes takes every sample for a byte
        return photometric in (RGB, CMYK) and bits == 8 and layout.extras in ((), (UNASSOCIATED,))
    if photometric == PALETTE:
        return bits <= 8 and max(layout.colours, default=0) > 255
    if photometric in (RGB, CMYK):
        return bits in (8, 16)
    if layout.samples == 1:
        return bits in (1, 2, 4, 8) or (bits == 16 and photometric != WHITE_IS_ZERO)
    return photometric == YCBCR


def _interpreted(values: Values, layout: Layout) -> tuple[NDArray[np.uint8], list[str]]:
    """(height, width, samples) → (height, width, 3) uint8 on white, and what should be said of it."""
    if layout.photometric == PALETTE:
        return _looked_up(values[..., 0], layout), []
    scaled = values * (255 / (2 ** layout.bits[0] - 1))
    if layout.photometric == CMYK:
        return _rounded((255 - scaled[..., :3]) * (255 - scaled[..., 3:4]) / 255), []
    channels = _CHANNELS[layout.photometric or 0]
    colours, extra = scaled[..., :channels], scaled[..., channels : channels + 1]
    if layout.photometric == WHITE_IS_ZERO:
        colours = 255 - colours
    if layout.alpha:
        share = extra / 255
        colours = colours * (1 if layout.alpha == ASSOCIATED else share) + 255 * (1 - share)
    notes = notes_of_alpha(int(extra.max())) if layout.alpha else []
    return _rounded(np.broadcast_to(colours, (*colours.shape[:2], 3))), notes


def _looked_up(indices: Values, layout: Layout) -> NDArray[np.uint8]:
    colours = np.array(layout.colours).reshape(3, -1)
    if colours.max() > 255:  # as the format has it; else written as bytes, which viewers see through
        colours //= 256
    return np.ascontiguousarray(np.moveaxis(colours.astype(np.uint8)[:, indices], 0, -1))


def _rounded(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
