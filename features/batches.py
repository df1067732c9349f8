"""Batches of decoded images, a little ahead of whoever consumes them."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from features.cores import cores
from features.images import ImageSource, Preprocessing
from features.manifest import Manifest
from features.profile import Stopwatch

AHEAD = 2  # batches beyond the one in use: memory stays flat
# Threads: Pillow releases the interpreter's lock while it decodes and resizes, at most times. As many
# on a CPU, where the network needs the cores: no thread decodes more for it, and all are done sooner.
DECODERS = max(2, min(16, cores()))

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
    watch: Stopwatch = field(default_factory=Stopwatch)

    def batches(self, numbers: Iterable[Numbers]) -> Iterator[Pixels]:
        """Decode several batches, in order, at most `AHEAD` in advance.

        Each is (n, H, W, 3) uint8. All threads decode parts of one batch, so that it is there soon.
        """
        with ThreadPoolExecutor(DECODERS) as pool:
            waiting: deque[tuple[Pixels, list[Future[None]]]] = deque()

            def first() -> Pixels:
                pixels, parts = waiting.popleft()
                for part in parts:
                    part.result()
                return pixels

            try:
                for batch in numbers:
                    pixels = np.empty((len(batch), *self.preprocessing.size, 3), np.uint8)
                    parts = [pool.submit(self._decode, pixels, *part) for part in self._parts(batch)]
                    waiting.append((pixels, parts))
                    if len(waiting) > AHEAD:
                        yield first()
                while waiting:
                    yield first()
            finally:
                pool.shutdown(cancel_futures=True)

    def _parts(self, batch: Numbers) -> Iterator[tuple[int, Numbers]]:
        """Split a batch for the threads, each part with its start; the views of an image stay together."""
        numbers = np.asarray(batch, np.intp)
        images = np.flatnonzero(np.diff(numbers // len(self.views), prepend=-1))  # where each begins
        starts = [int(part[0]) for part in np.array_split(images, DECODERS) if len(part)]
        for start, stop in pairwise([*starts, len(numbers)]):
            yield start, numbers[start:stop]

    def _decode(self, pixels: Pixels, start: int, numbers: Numbers) -> None:
        """Fill `pixels` from position `start` on."""
        with self.watch("decode"):
            before = -1
            for position, number in enumerate(numbers, start):
                row, view = divmod(int(number), len(self.views))
                if row != before:  # the views of an image follow one another
                    before, one = row, self.manifest.rows[row]
                    image = self.source.image(one.path, one.sha256)
                pixels[position] = self.preprocessing.pixels(image, self.views[view], one.sha256)
