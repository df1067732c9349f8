"""Batches of decoded images, a little ahead of whoever consumes them."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.images import ImageSource, Preprocessing
from features.manifest import Manifest

AHEAD = 2  # batches beyond the one in use: memory stays flat
DECODERS = 2  # threads; Pillow releases the interpreter's lock while it decodes

Pixels = NDArray[np.uint8]  # (n, H, W, 3)
# Positions in the grid (image, view), row by row: with one view, the manifest's row numbers
Numbers = Sequence[int] | NDArray[np.intp]


@dataclass(frozen=True)
class Decoder:
    """Reads a manifest's images as the network's uint8 input: `views` of each."""

    manifest: Manifest
    source: ImageSource
    preprocessing: Preprocessing
    views: tuple[str, ...] = ("none",)

    def batch(self, numbers: Numbers, padded_to: int = 0) -> Pixels:
        """Decode `numbers` into (n, H, W, 3) uint8, padded with zero images to `padded_to`."""
        pixels = np.zeros((max(len(numbers), padded_to), *self.preprocessing.size, 3), np.uint8)
        decoded = None
        for position, number in enumerate(numbers):
            row = self.manifest.rows[number // len(self.views)]
            if decoded is None or decoded[0] is not row:  # the views of an image follow one another
                decoded = row, self.source.image(row.path, row.sha256)
            view = self.views[number % len(self.views)]
            pixels[position] = self.preprocessing.pixels(decoded[1], view, row.sha256)
        return pixels

    def batches(self, numbers: Iterable[Numbers], padded_to: int = 0) -> Iterator[Pixels]:
        """Decode several batches on threads, in order, at most `AHEAD` in advance."""
        with ThreadPoolExecutor(DECODERS) as pool:
            waiting: deque[Future[Pixels]] = deque()
            try:
                for batch in numbers:
                    waiting.append(pool.submit(self.batch, batch, padded_to))
                    if len(waiting) > AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
