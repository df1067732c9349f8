"""Image files → uint8 pixels, as the weights' torchvision preset makes them.

    image = decode(path.read_bytes()).image         # RGB, upright
    pixels = Preprocessing(...).pixels(image)       # (H, W, 3) uint8

Reference: Pillow decodes, EXIF orientation is applied, the short side is
resized to round(size × 256/224) with Pillow's antialiased bilinear filter, and
the centre is cropped (torchvision's `ImageClassification` preset). Images that
come as arrays are resized directly, without a crop.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from features import probe
from features.decoding.decode import Decoded, decode, upright_rgb
from features.decoding.formats import EXTENSIONS, OTHER_EXTENSIONS, kind
from features.decoding.limits import MAX_PIXELS, MIN_SIDE, check_bytes
from features.errors import BadInput, Unreadable
from features.files import patiently, read_bytes
from features.network import PIXELS_SIZE, Size
from features.views import CORNERS, random_crop

# What a file means is in `features.decoding`; what most of the project needs of it is imported from here
__all__ = [
    "EXTENSIONS",
    "MAX_PIXELS",
    "MIN_SIDE",
    "OTHER_EXTENSIONS",
    "Decoded",
    "ImageArrays",
    "ImageFolder",
    "ImageSource",
    "Preprocessing",
    "Unreadable",
    "array_sha256",
    "control_pixels",
    "decode",
    "image_bytes",
    "kind",
    "upright_rgb",
]

CROP_RATIO = 256 / 224  # of the published evaluation protocol: resize to 256, crop 224


@dataclass(frozen=True)
class Preprocessing:
    """From a decoded image to the network's input.

    Attributes
    ----------
    size : (int, int)
        Height and width of the network's input in pixels.
    crop : bool
        Resize the short side and crop the centre (photographs), or resize
        directly (images that come as arrays).
    mean, std : 3 floats
        Per RGB channel, on the 0 … 255 scale; they belong to the weights.
    library : Library
        Whose bits decoding and resizing give: this machine's, unless it is asked what elsewhere would give.
    """

    size: Size
    crop: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    library: probe.Library = field(default_factory=probe.here)

    def pixels(self, image: Image.Image, view: str = "none", sha256: str = "") -> NDArray[np.uint8]:
        """Turn one view of an image into (height, width, 3) uint8; random crops are drawn from `sha256`."""
        height, width = self.size
        if view.startswith("crop-"):
            crop = random_crop(sha256, int(view.removeprefix("crop-")), image.size)
            part = image.resize((width, height), Image.Resampling.BILINEAR, box=crop.box)
            return np.array(ImageOps.mirror(part) if crop.mirrored else part)
        if view in CORNERS:
            covering = image.resize(self._covering(image.size), Image.Resampling.BILINEAR)
            right, bottom = CORNERS[view]
            return self._cut(covering, right * (covering.width - width), bottom * (covering.height - height))
        centre = self._centre(image)
        return centre[:, ::-1] if view == "flip" else centre

    def _centre(self, image: Image.Image) -> NDArray[np.uint8]:
        height, width = self.size
        if not self.crop:
            return np.array(image.resize((width, height), Image.Resampling.BILINEAR))
        resized = image.resize(self._covering(image.size), Image.Resampling.BILINEAR)
        return self._cut(
            resized, round((resized.width - width) / 2.0), round((resized.height - height) / 2.0)
        )

    def _covering(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) that keeps the aspect ratio and just covers size × 256/224.

        The free side is truncated, as torchvision's Resize does.
        """
        height, width = (round(side * CROP_RATIO) for side in self.size)
        if width * size[1] >= height * size[0]:  # the width decides
            return width, max(height, int(width * size[1] / size[0]))
        return max(width, int(height * size[0] / size[1])), height

    def _cut(self, image: Image.Image, left: int, top: int) -> NDArray[np.uint8]:
        height, width = self.size
        return np.array(image.crop((left, top, left + width, top + height)))

    def words(self) -> dict[str, object]:
        """Describe it for provenance and fingerprints."""
        return {
            "decoder": self.library.decoder,
            "size": list(self.size),
            "resize": "short side × 256/224, centre crop" if self.crop else "direct",
            "filter": self.library.filter,
            "mean": list(self.mean),
            "std": list(self.std),
        }


def control_pixels(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Reduce network inputs to the control layer `pixels`.

    Parameters
    ----------
    batch : (n, H, W, 3) uint8

    Returns
    -------
    (n, 3072) float32 in 0 … 1: 32 × 32 × 3, flattened
    """
    height, width = PIXELS_SIZE
    rows = [
        np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
        for pixels in batch
    ]
    return np.stack(rows).reshape(len(batch), -1).astype(np.float32) / np.float32(255)


class ImageSource(Protocol):
    """Where a manifest's images are read from."""

    @property
    def crop(self) -> bool:
        """Whether they are resized by their short side and cropped (photographs), or directly."""

    def image(self, path: str, sha256: str) -> Image.Image:
        """Return one image, upright RGB; BadInput where it is not the one of this digest."""


def image_bytes(file: Path) -> bytes:
    """Read an image file that nothing is known of yet (see `features.files.patiently`).

    Raises
    ------
    Unreadable
        For one that is too large to be read into memory.
    OSError
        With its name.
    """
    check_bytes(patiently(file, Path.stat).st_size)
    return read_bytes(file)


@dataclass(frozen=True)
class ImageFolder:
    """Image files below a folder.

    `crop` is True: photographs are resized by their short side and cropped.
    """

    root: Path
    crop: bool = field(default=True, init=False)

    def image(self, path: str, sha256: str, at_least: int = 0) -> Image.Image:
        """Read, check and decode one file (see `ImageSource`, and for `at_least` `decode`)."""
        file = self.root / path
        try:
            data = read_bytes(file)
        except FileNotFoundError:
            raise BadInput(f"{file} is gone since the manifest was made; run `prepare` again") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BadInput(f"{file} has changed since the manifest was made; run `prepare` again")
        try:
            return decode(data, at_least).image
        except Unreadable as reason:  # `prepare` could read it: another version
            raise BadInput(f"{file}: {reason}; run `prepare` again") from reason


@dataclass(frozen=True)
class ImageArrays:
    """Images held as arrays, by name.

    Attributes
    ----------
    arrays : mapping of str to (H, W) or (H, W, 3) uint8
    """

    arrays: Mapping[str, NDArray[np.uint8]]
    crop: bool = field(default=False, init=False)

    def image(self, path: str, sha256: str, at_least: int = 0) -> Image.Image:
        """Return one array as an image (see `ImageSource`), whole whatever `at_least` allows."""
        if path not in self.arrays or array_sha256(self.arrays[path]) != sha256:
            raise BadInput(f"the data set's image {path} is not that of the manifest; run `prepare` again")
        return Image.fromarray(self.arrays[path]).convert("RGB")


def array_sha256(array: NDArray[np.uint8]) -> str:
    """Content hash of an image array: its shape and its values."""
    header = "×".join(str(side) for side in array.shape)
    return hashlib.sha256(header.encode() + b"\n" + np.ascontiguousarray(array).tobytes()).hexdigest()
