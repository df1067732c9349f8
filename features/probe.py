"""What this machine's Pillow makes of images, to the bit: a part of what activations depend on.

    here() == REFERENCE     # Library("pillow", "bilinear, antialiased")
    here()                  # Library("pillow", "bilinear, antialiased, other bits: ebd21cedbd03d8f4")

Pillow, and the libraries in it, now and then come to other last bits: 13 resizes tall images in another
order than 12, and is a level off. So some small images, made here, are decoded and resized once in a
process. Where all come out as with the reference, Pillow 13.0 with libjpeg-turbo 3.2 and libwebp 1.6, the
words for it are those that have always stood in fingerprints. Where not, they name the bits: such
activations are others, and are kept apart. Lossless formats have no choice, and are not probed; nor are
AVIF, HEIC and JPEG 2000.
"""

import base64
import hashlib
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
import PIL
from PIL import Image, features
from PIL.JpegImagePlugin import JpegImageFile
from PIL.WebPImagePlugin import WebPImageFile

OTHER_BITS = ", other bits: "

# What the reference gives: the beginning of a hexadecimal sha256
DIGESTS = {"jpg": "82cdb979bd340a01", "webp": "0f8cc0749d71b985", "resize": "faf6d530b4ca809b"}

# (height, width) → (height, width), and the part that is resized: smaller, larger, either first
RESIZES = (
    ((64, 16), (32, 40), None),
    ((16, 64), (40, 32), None),
    ((48, 48), (32, 32), None),
    ((24, 24), (40, 40), None),
    ((96, 24), (16, 16), (1, 5, 20, 90)),
)
# 24 × 24 pixels of gradients and edges: 4:2:0 chroma, whose enlargement is the decoder's to choose
JPEG = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcp"
    "LDAxNDQ0Hyc5PTgyPC4zNDL/2wBDAQkJCQwLDBgNDRgyIRwhMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIy"
    "MjIyMjIyMjIyMjIyMjL/wAARCAAYABgDASIAAhEBAxEB/8QAGAABAQEBAQAAAAAAAAAAAAAAAAYCBAX/xAApEAACAgEDAwMD"
    "BQAAAAAAAAABAgMRBAAFEgYTIRQiQRUxUSMkMmGy/8QAFwEBAQEBAAAAAAAAAAAAAAAABgUCA//EACURAAECBgEDBQAAAAAA"
    "AAAAAAECAwAEBREhMVFBYXESFCJC8P/aAAwDAQACEQMRAD8Ai+mOnvqnD2Xf9arsbZtnXxi4nruHmWXl24kAuzzIN1V2BVG7"
    "1wbDHx6dxcUHt+tvuSk8VSJaL2bFXYH4rleveVxKuN+2WOCNRLHFOp4Il1zev5O3kBQfH+k9bnHFOKziMU4urdOTa/7vvxrw"
    "IxuOLtu37Zl5S4OGYUVU/TUydssAAxlLIhHIj7Gxdfcaax1VO642FjzifjKVskBXWwAVpQQlghgEUt7AxIu9NDW3sepRJvHG"
    "vTjvuEtJWr4gaJ2c8joRHDtBMOy4QldlgbEUAiMMEDFjIT80UjI8X8V+dUEEpLDI7KkGUNQjDlXA4+CBTFAyIAePuJLWBppq"
    "zWTdR7kxSpTaSvWyYm99n9RvJx8YIMSCNMQDGAkVARzYliALq/kAhSSSpVdNNNG3nFNkJSegg/NOKMy4b/Y8cx//2Q=="
)
WEBP = (
    "UklGRoQBAABXRUJQVlA4IHgBAAAwCQCdASoYABgAPtlco02oJaMiN/qoAQAbCWwAnTKEf3/72wzncYDbAXZz6AH6q9bS+ARH"
    "ewG8YP0B7AG2gDATqs9iDXYcUfgZfBZaGjxV62BgAP7vYd/xYQik2TuazMF2jOPzUbb206smJncznWRwPkc19gDB5XF4KnhY"
    "5p92OFR2vI2fBR4nl//xKJSFHpZ9dWjyV7gFJwgQp0lmx8On8LwKpTH2lqqOsB8mXsykDo6QDifpT/OHnqzOiiVaNxw7A428"
    "j2iyrW5gi1kC3Y1uGgTpXuaTiNbc8sTzk5NGdQUA4R5bMVW/UvzliTGpNYADxGFcy9x5FtTxxovgEr5uSfYcsMoznBnSFWx5"
    "PszebkDiopJTG555ToMFTfdxdeCnlkP+4sMPwFRQxhZlnRiS0l6OTqYmwuRHZbnfftAZzrByey3CXp/vpRGMbRBvfSjdCzW8"
    "LDc5aYRiI49ubwE6b2lpeTUd4GWd24XqzVkNmpKdgiwWwAAA"
)


# By what Pillow calls their libraries; opened by their plugins, since `Image.open` would import all others
ENCODED = {"jpg": (JPEG, JpegImageFile), "webp": (WEBP, WebPImageFile)}


@dataclass(frozen=True)
class Library:
    """Who decoded and resized, in the words of fingerprints."""

    decoder: str = "pillow"
    filter: str = "bilinear, antialiased"

    def words(self) -> dict[str, str]:
        """Both, by name."""
        return asdict(self)


REFERENCE = Library()
LIBRARY = tuple(REFERENCE.words())  # the names of its words


@cache
def here() -> Library:
    """Look what this machine's Pillow does."""
    found = _digests()

    def unless_reference(names: Iterable[str]) -> str:
        other = [found[name] for name in names if found.get(name, DIGESTS[name]) != DIGESTS[name]]
        return OTHER_BITS + " ".join(other) if other else ""

    return Library(
        REFERENCE.decoder + unless_reference(ENCODED), REFERENCE.filter + unless_reference(["resize"])
    )


def differences() -> list[str]:
    """Sentences on what is not as with the reference here, none where all is."""
    does = {"decodes JPEG or WebP images": here().decoder, "resizes images": here().filter}
    return [
        f"Pillow {PIL.__version__} {what} to other bits than the reference; activations are kept apart from "
        "those of other versions"
        for what, word in does.items()
        if OTHER_BITS in word
    ]


def _digests() -> dict[str, str]:
    """What comes out here, by name; what this Pillow was built without is left out."""
    found = {
        name: _digest([plugin(io.BytesIO(base64.b64decode(text))).convert("RGB")])
        for name, (text, plugin) in ENCODED.items()
        if features.check(name)
    }
    resized = (
        _pattern(*source).resize(target[::-1], Image.Resampling.BILINEAR, box=box)
        for source, target, box in RESIZES
    )
    return found | {"resize": _digest(resized)}


def _pattern(height: int, width: int) -> Image.Image:
    """Numbers that look random and are the same everywhere: a multiplicative hash of the position."""
    place = np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3)
    return Image.fromarray((place * np.uint32(2654435761) >> np.uint32(24)).astype(np.uint8))


def _digest(images: Iterable[Image.Image]) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(np.asarray(image).tobytes())
    return digest.hexdigest()[:16]
