"""Images → activations, whatever any cache holds: decoded, run through the network, a round at a time.

    for computed in forward(engine, decoder, numbers, layers):
        computed.rows["fc7"]                        # (n, 4096), of the images computed.numbers

Images and their views form a grid, numbered row by row: view v of image i is number
i × views + v. A round is as much as becomes one block per layer and view.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee

import numpy as np
from numpy.typing import NDArray

from features.batches import Decoder, Numbers, Pixels
from features.engines.base import Engine, Rows
from features.images import control_pixels
from features.network import Layer

BLOCK_IMAGES = 128  # a kill loses about as much work
BLOCK_BYTES = 256 << 20  # of the widest layer, in fp32: bounds memory for flattened early layers


@dataclass(frozen=True)
class Computed:
    """What one round gave.

    Attributes
    ----------
    numbers : (n,) intp
        Positions in the grid (image, view), ascending.
    rows : dict of layer name to (n, width) float32, or float16 (see `features.engines.base.Rows`)
    seconds : float
        Wall time of all of it, waiting for images included.
    """

    numbers: NDArray[np.intp]
    rows: Rows
    seconds: float


def forward(
    engine: Engine | None, decoder: Decoder, numbers: Numbers, layers: Sequence[Layer]
) -> Iterator[Computed]:
    """Run views of images, given as ascending positions in the grid; `pixels` alone needs no engine.

    The decoder's stopwatch counts `waiting` for images, and the rest as `forward`.
    """
    watch = decoder.watch
    batch = engine.batch if engine else BLOCK_IMAGES
    widest = max(layer.width(decoder.preprocessing.size) for layer in layers)
    rounds = _rounds(np.asarray(numbers, np.intp), len(decoder.views), widest, batch)
    batches = (part[i : i + batch] for part in rounds for i in range(0, len(part), batch))
    decoded = watch.each("waiting", decoder.batches(batches))
    stream = watch.each("forward", _stream(engine, decoded, layers))
    for part in rounds:
        begun = time.monotonic()
        parts = [next(stream) for _ in range(0, len(part), batch)]
        rows = {layer.name: np.concatenate([rows[layer.name] for rows in parts]) for layer in layers}
        yield Computed(part, rows, time.monotonic() - begun)


def _rounds(numbers: NDArray[np.intp], views: int, widest: int, batch: int) -> list[NDArray[np.intp]]:
    """Split positions: the views of an image stay together, the widest layer stays in bounds."""
    most = min(max(BLOCK_IMAGES * views, batch), BLOCK_BYTES // (4 * widest))
    most = most // batch * batch or most
    images = max(1, most // views)
    image = np.cumsum(np.diff(numbers // views, prepend=-1) != 0) - 1  # 0, 1, 2, … of those that are run
    return np.split(numbers, np.flatnonzero(np.diff(image // images)) + 1)


def _stream(engine: Engine | None, batches: Iterable[Pixels], layers: Sequence[Layer]) -> Iterator[Rows]:
    batches, again = tee(batches)  # the engine may be some batches ahead
    streamed: Iterable[Rows] = engine.stream(batches) if engine else ({} for _ in batches)
    for rows, batch in zip(streamed, again, strict=True):
        if any(layer.step == "pixels" for layer in layers):
            rows["pixels"] = control_pixels(batch)
        yield rows
