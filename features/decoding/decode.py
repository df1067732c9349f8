"""An image file, or an image that Pillow has opened → upright RGB, or the reason why not.

image = decode(path.read_bytes()).image  # RGB, upright
"""

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO

from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from features.decoding import gif, heif, holes, jp2, jpeg, png, tiff
from features.decoding.formats import FORMATS, HEAD, IMAGE_KINDS, READ, installed, kind
from features.decoding.limits import MAX_PIXELS, check_size
from features.decoding.rgb import notes_of_frames, upright
from features.errors import Unreadable

# They warn of odd metadata, and pixels are what counts. Once: threads decode, and share the filters
warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\b")

Read = tuple[Image.Image, list[str]]  # as loaded, still to be turned, and what should be said of it

_READERS: dict[str, Callable[[bytes], Read]] = {
    "PNG": png.read,
    "GIF": gif.read,
    "TIFF": tiff.read,
    "JPEG2000": jp2.read,
    "HEIF": heif.read,
}
_REMEDIES = {
    "a Git LFS pointer": "`git lfs pull` fetches the image",
    "a git-annex pointer": "`git annex get` fetches the image",
}


@dataclass(frozen=True)
class Decoded:
    """A decoded image: RGB, upright.

    Attributes
    ----------
    note : str
        What a user should know although the image is used, or empty.
    """

    image: Image.Image
    note: str = ""


def decode(data: bytes, at_least: int = 0) -> Decoded:
    """Decode an image file to upright RGB.

    Parameters
    ----------
    at_least : int
        Where not 0, a JPEG may come reduced, by up to 8 and in much less time, as long as both sides
        keep so many pixels: for small pictures of it, never for features.

    Raises
    ------
    Unreadable
        With the reason in words, for anything that is not one whole image of a
        listed format within the size limits.
    MemoryError
        Where memory is short, which says nothing of the file.
    """
    if not data:
        raise Unreadable("the file is empty")
    found = kind(data[:HEAD])
    try:
        loaded, notes = _reader(found, at_least)(data)
        notes += holes.of(found, data, loaded)
        image, more = upright(loaded)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:
        raise Unreadable(_reason(error, found)) from error
    return Decoded(image, "; ".join(notes + more))


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turn an image that Pillow has opened to upright RGB, as `decode` gives it.

    One that was opened from a file and not yet loaded is decoded from that file, with the same care.

    Raises
    ------
    Unreadable
        Beyond the size limits, and for what has no defined brightness range.
    OSError, ValueError
        For one that Pillow cannot load.
    """
    if data := _unloaded(image):
        with suppress(Exception):
            image.load()  # which closes its file, as it always has
        return decode(data).image
    image.load()  # here, and not where its pixels are asked for, one that was closed meanwhile fails
    if isinstance(image, TiffImageFile):
        tiff.check_loaded(image.tag_v2)
    return upright(image)[0]


def _unloaded(image: Image.Image) -> bytes:
    """The bytes of the file of which nothing but the head was read so far, at its first frame."""
    if not isinstance(image, ImageFile.ImageFile) or image.format not in (*READ.values(), "MPO"):
        return b""
    if not image.tile or not image.fp or image.fp.closed or image.tell():
        return b""
    image.fp.seek(0)
    return image.fp.read()


def _reader(found: str, at_least: int) -> Callable[[bytes], Read]:
    """Choose how a file is read, by what its first bytes say.

    Raises
    ------
    Unreadable
        Where it is nothing that is read here.
    """
    if found == "JPEG":
        return partial(jpeg.read, at_least=at_least)
    form = READ.get(found)
    if form is None:
        raise Unreadable(_not_read(found))
    if form not in FORMATS and not installed(form):
        remedy = "pip install pillow-heif" if form == "HEIF" else "install a Pillow that has it"
        raise Unreadable(f"{found}, which what is installed here cannot read; {remedy}")
    return _READERS.get(form, partial(_by_pillow, form))


def _by_pillow(form: str, data: bytes) -> Read:
    """Read a format of which Pillow's modes say all there is to say."""
    with Image.open(BytesIO(data), formats=[form]) as image:
        check_size(image.size)
        notes = notes_of_frames(getattr(image, "n_frames", 1))
        image.seek(0)
        image.load()
        return image, notes


def _not_read(found: str) -> str:
    read = ", ".join(FORMATS)
    if not found:
        return f"not an image in one of the formats {read}"
    if found in IMAGE_KINDS:
        return f"{found}, which is not read; save it as PNG or JPEG"
    remedy = _REMEDIES.get(found, "")
    return f"{found}, not an image{remedy and '; ' + remedy}"


def _reason(error: Exception, found: str) -> str:
    if isinstance(error, UnidentifiedImageError):  # whose own words give an address in memory
        return f"cannot be decoded ({found} by its first bytes, damaged or of a kind that is not read)"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS // 1_000_000} megapixels"
    return f"cannot be decoded ({str(error) or type(error).__name__})"
