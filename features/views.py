"""Several views of one image, so that cached features know augmentation, too.

    names("crops:4")                        # ("none", "crop-1", "crop-2", "crop-3")
    crop = random_crop(sha256, 2, (640, 480))

Every choice begins with `none`, the image as it is: going from one choice to another
computes the new views only. A view depends on the image's content and the view's
number, on nothing else.

References
----------
`five-crop`: centre and corners, Krizhevsky et al., NeurIPS 2012, section 4.1. Random
crops: the area and aspect ratio of Szegedy et al., arXiv:1409.4842, section 6, with
a larger smallest area, since a frozen network cannot learn from slivers.
"""

import hashlib
import math
import re
from dataclasses import dataclass

AREA = (0.25, 1.0)  # of a random crop, as a share of the image
RATIO = (3 / 4, 4 / 3)  # of its width to its height, drawn on a logarithmic scale
CORNERS = {"top-left": (0, 0), "top-right": (1, 0), "bottom-left": (0, 1), "bottom-right": (1, 1)}
MOST = 64  # views: each is a pass through the network, and a row on the disk
CHOICES = f"none, flip, five-crop or crops:N with N from 2 to {MOST}"


def names(choice: str) -> tuple[str, ...]:
    """The views of a choice, the image as it is first; ValueError for what is none."""
    if choice in ("none", "flip"):
        return ("none",) if choice == "none" else ("none", "flip")
    if choice == "five-crop":
        return ("none", *CORNERS)
    match = re.fullmatch(r"crops:(\d{1,4})", choice)
    if match is None or not 2 <= int(match[1]) <= MOST:
        raise ValueError(f"should be {CHOICES}")
    return ("none", *(f"crop-{number}" for number in range(1, int(match[1]))))


def words(view: str) -> str:
    """What a view is, for fingerprints: random crops with what they are drawn from."""
    if not view.startswith("crop-"):
        return view
    return f"{view}: area {AREA[0]}…{AREA[1]}, ratio {RATIO[0]:.4f}…{RATIO[1]:.4f}, mirrored by half"


@dataclass(frozen=True)
class Crop:
    """A part of an image: left, top, right, bottom in pixels; whether it is mirrored."""

    box: tuple[int, int, int, int]
    mirrored: bool


def random_crop(sha256: str, number: int, size: tuple[int, int]) -> Crop:
    """Draw crop `number` of an image of (width, height) pixels from its content.

    Parameters
    ----------
    sha256 : str
        The image's digest in hexadecimal.
    """
    digest = hashlib.sha256(f"{sha256}:{number}".encode()).digest()
    # Five numbers, uniform in [0, 1): the same on every machine, with every library
    drawn = [int.from_bytes(digest[4 * i : 4 * i + 4], "big") / 2**32 for i in range(5)]
    width, height = size
    area = (AREA[0] + drawn[0] * (AREA[1] - AREA[0])) * width * height
    ratio = math.exp(math.log(RATIO[0]) + drawn[1] * math.log(RATIO[1] / RATIO[0]))
    across = max(1, min(width, round(math.sqrt(area * ratio))))
    down = max(1, min(height, round(math.sqrt(area / ratio))))
    left, top = round(drawn[2] * (width - across)), round(drawn[3] * (height - down))
    return Crop((left, top, left + across, top + down), drawn[4] < 0.5)
