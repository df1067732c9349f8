"""A loaded Pillow image → upright RGB of 8 bits, and what should be said of it.

    image, notes = upright(loaded)

Transparency lies on white. 16-bit grey is scaled from 0 … 65535.
"""

import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from features.decoding.limits import check_size
from features.errors import Unreadable

BACKGROUND = (255, 255, 255)  # under transparency
SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")
ORIENTATION = 274  # EXIF's and TIFF's tag


def upright(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Turn an image as its EXIF orientation says, and to RGB.

    Returns
    -------
    image, notes

    Raises
    ------
    Unreadable
        Beyond the size limits, and where the mode has no defined brightness range.
    """
    check_size(image.size)
    sixteen = image.mode in SIXTEEN or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if image.mode in ("I", "F") and not sixteen:
        what = "a floating-point image" if image.mode == "F" else "an image of 32-bit integers (mode I)"
        raise Unreadable(f"{what} has no defined brightness range; scale it to 0 … 255, mode L")
    unused = image.format == "BMP"  # where the fourth byte is often left 0
    notes = _notes_of_turning(image)
    image = _turned(image)
    if sixteen:
        return _from_sixteen(image), notes
    try:
        on_white, more = _on_white(image, unused)
    except ValueError as error:
        raise Unreadable(f"an image of Pillow's mode {image.mode} is not read ({error})") from error
    return on_white, notes + more


def from_array(pixels: NDArray[np.uint8], orientation: int) -> Image.Image:
    """Make an image of (height, width[, 3]) that is still to be turned."""
    image = Image.fromarray(pixels)
    image.getexif()[ORIENTATION] = orientation
    return image


def _turned(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(ORIENTATION) in range(2, 9)
        return ImageOps.exif_transpose(image) if turned else image  # which would copy it
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - a damaged EXIF block means: no orientation given
        return image


def _notes_of_turning(image: Image.Image) -> list[str]:
    """Say so where only XMP tells the orientation: Pillow follows it, not all viewers do."""
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    told = re.search(rb'tiff:Orientation(?:="|>)([2-8])', xmp.encode() if isinstance(xmp, str) else xmp)
    if not told:
        return []
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
    except Exception:  # noqa: BLE001 - a damaged EXIF block means: no orientation given
        exif.clear()
    tags = getattr(image, "tag_v2", {})
    known = ORIENTATION in exif or ORIENTATION in tags
    return [] if known else ["turned as its XMP says, not all viewers do; EXIF gives no orientation"]


def _from_sixteen(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    grey = np.clip(np.rint(values.astype(np.float64) / 257), 0, 255).astype(np.uint8)  # 65535 → 255
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = BACKGROUND[0]
    return Image.fromarray(grey).convert("RGB")


def _grey_premultiplied(image: Image.Image) -> tuple[Image.Image, list[str]]:
    grey, alpha = (np.asarray(band).astype(np.int16) for band in image.split())
    on_white = np.clip(grey + BACKGROUND[0] - alpha, 0, 255).astype(np.uint8)
    return Image.fromarray(on_white).convert("RGB"), notes_of_alpha(int(alpha.max()))


def _on_white(image: Image.Image, unused: bool) -> tuple[Image.Image, list[str]]:
    if image.mode == "La":
        return _grey_premultiplied(image)
    if not image.has_transparency_data:
        return (image if image.mode == "RGB" else image.convert("RGB")), []  # which would copy it
    image = image.convert("RGBA")
    most = int(image.getchannel("A").getextrema()[1])  # type: ignore[arg-type]  # of one band
    if unused and not most:
        return image.convert("RGB"), ["its alpha bytes are all 0 and are not used"]
    background = Image.new("RGBA", image.size, (*BACKGROUND, 255))
    return Image.alpha_composite(background, image).convert("RGB"), notes_of_alpha(most)


def notes_of_frames(count: int) -> list[str]:
    """Say so where a file has more pictures than the one that is used."""
    return [f"the first of {count} frames is used"] if count > 1 else []


def notes_of_alpha(most: int) -> list[str]:
    """Say so where the highest alpha is 0."""
    return [] if most else ["every pixel is fully transparent: it is all white"]
