"""Small pictures of the images, as text that a page can hold.

thumbnails = Thumbnails(project, manifest)
thumbnails.uri(17)      # "data:image/webp;base64,…", or None
"""

import base64
import io
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from features.errors import BadInput
from features.images import ImageArrays, ImageFolder
from features.manifest import Manifest
from features.network import PIXELS_SIZE, parse_layer
from features.store import FeatureStore
from pipeline.datasets.catalogue import source
from pipeline.project import Project

SIDE = 64  # pixels of the longer side
QUALITY = 70  # of the WebP, a third smaller than a JPEG: more cannot be seen at this size
LIMIT = 1500  # pictures of one page: 1 MB of text, or a little more
# Of files decoded for one page: 2 s of a core for JPEG, some 10 s for PNG. After so many the store of
# the layer `pixels` serves, where there is one: 32 × 32 of what the network sees.
MEGAPIXELS = 400

EXTENSION = "data:image/webp;base64,"


class Thumbnails:
    """Pictures by row of the manifest; each image is read once, and the same ones give the same text.

    Attributes
    ----------
    used : dict of int to str
        All that were asked for and could be had, by row.
    """

    def __init__(self, project: Project, manifest: Manifest) -> None:
        self.project = project
        self.manifest = manifest
        self.used: dict[int, str] = {}
        self._unreadable: set[int] = set()
        self._decoded = 0  # pixels

    @property
    def missing(self) -> int:
        """How many of the images asked for cannot be read any more, or are others by now."""
        return len(self._unreadable)

    @property
    def _spent(self) -> bool:
        return self._decoded >= MEGAPIXELS * 1_000_000

    @property
    def full(self) -> bool:
        """Whether the page has as many as it may: no further one is made."""
        return len(self.used) >= LIMIT or (self._spent and self._pixels is None)

    def uri(self, row: int) -> str | None:
        """Return one image as a data URI; None where it cannot be read, or the page is full."""
        row = int(row)
        if row in self.used or row in self._unreadable or self.full:
            return self.used.get(row)
        try:
            self.used[row] = EXTENSION + base64.b64encode(_webp(self._image(row))).decode()
        except (BadInput, OSError):
            self._unreadable.add(row)
        return self.used.get(row)

    def grey(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Grey values of images, (n, 32, 32) float32 in 0 … 1; NaN where one cannot be had.

        From the store of the layer `pixels` where there is one, else from the images.
        """
        if self._pixels is not None:
            colours = self._pixels.rows(rows, view=0).reshape(-1, *PIXELS_SIZE, 3)
            return np.asarray(colours.mean(axis=3), np.float32)
        values = np.full((len(rows), *PIXELS_SIZE), np.nan, np.float32)
        for place, row in enumerate(rows.tolist()):
            if self._spent:
                break
            try:
                image = self._image(row).convert("L").resize(PIXELS_SIZE[::-1], Image.Resampling.BILINEAR)
            except (BadInput, OSError):
                continue
            values[place] = np.asarray(image, np.float32) / 255
        return values

    def _image(self, row: int) -> Image.Image:
        if self._spent and self._pixels is not None:
            colours = self._pixels.rows(np.array([row]), view=0).reshape(*PIXELS_SIZE, 3)
            return Image.fromarray(np.rint(255 * colours).astype(np.uint8))
        image = self.manifest.rows[row]
        self._decoded += image.width * image.height
        return self._source.image(image.path, image.sha256, at_least=2 * SIDE)

    @cached_property
    def _pixels(self) -> FeatureStore | None:
        try:
            return self.project.store(
                parse_layer("pixels", self.project.settings.weights.network), self.manifest
            )
        except BadInput:
            return None

    @cached_property
    def _source(self) -> ImageFolder | ImageArrays:
        return source(self.project.settings.dataset.name, self.project.dataset_root)


def _webp(image: Image.Image) -> bytes:
    """Reduce or, by a whole number, enlarge an image, and encode it."""
    longer = max(image.size)
    if longer > SIDE:
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    else:  # pixels as they are, not smeared
        image = image.resize([side * (SIDE // longer) for side in image.size], Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY, method=2)
    return file.getvalue()
