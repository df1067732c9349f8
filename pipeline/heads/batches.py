"""Mini-batches of train rows: each epoch every image once, in random order, by one of its views.

for batch, rows in batches(X, views, 64, generator):
    loss = cross_entropy(model(batch), y[rows])

Rows in memory are shuffled as a whole. A dask array's chunks are visited in random order, as many
at a time as fit `WINDOW`, and their rows are shuffled together: of chunks much smaller than
`WINDOW` this is nearly as good, even where the rows lie sorted by class.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.heads.rows import in_memory

WINDOW = 512 << 20  # bytes of a dask array's rows shuffled together; twice that is held, one being read

Positions = NDArray[np.int64]
Window = tuple[Positions, NDArray[Any]]  # positions (m,) of rows (m, d)


def batches(
    X: Any, views: int, size: int, generator: torch.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch: (rows (b, d) float32, their positions (b,) int64), b ≤ size, on the CPU.

    Parameters
    ----------
    X : (images × views, d) array or dask array
    views : int
        Rows per image, adjacent.
    size : int
        Images per mini-batch; the last of a window may be smaller.
    generator : torch.Generator
        Draws order and views, and is moved on.
    """
    for positions, window in _windows(X, views, generator):
        for drawn in one_view_each(len(positions) // views, views, generator).split(size):
            rows = drawn.numpy()
            # Gathered by NumPy: torch would warn of arrays that cannot be written
            yield (
                torch.from_numpy(window[rows].astype(np.float32, copy=False)),
                torch.from_numpy(positions[rows]),
            )


def one_view_each(images: int, views: int, generator: torch.Generator) -> torch.Tensor:
    """Rows of one epoch, (images,) int64: every image once, in random order, by one of its views.

    In expectation each view weighs 1/views, at the price of an epoch without views.
    """
    order = torch.randperm(images, generator=generator)
    if views == 1:  # a draw from one would move the generator, and with it every result
        return order
    return order * views + torch.randint(views, (images,), generator=generator)


def _windows(X: Any, views: int, generator: torch.Generator) -> Iterator[Window]:
    """What is shuffled together: all rows once, those of a chunk in order."""
    if in_memory(X):
        yield np.arange(len(X)), X
        return
    ends = np.cumsum(X.chunks[0]) // views * views  # the views of an image stay together
    parts = [np.arange(start, end) for start, end in pairwise([0, *ends.tolist()]) if start < end]
    order = [parts[number] for number in torch.randperm(len(parts), generator=generator).tolist()]
    window = np.cumsum([len(part) for part in order]) * X.shape[1] * 4 // WINDOW  # the number of each's
    groups = groupby(zip(window, order, strict=True), lambda pair: pair[0])
    yield from _ahead(X, [[part for _, part in group] for _, group in groups])


def _ahead(X: Any, groups: Iterable[Sequence[Positions]]) -> Iterator[Window]:
    """Read groups of runs of rows; the next is read in a thread while the caller works on this one."""
    with ThreadPoolExecutor(1, "rows") as reader:
        waiting = None
        for group in groups:
            following = reader.submit(_read, X, group)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


def _read(X: Any, runs: Sequence[Positions]) -> Window:
    positions = np.concatenate(runs)
    rows = np.empty((len(positions), X.shape[1]), np.float32)
    start = 0
    for run in runs:
        rows[start : start + len(run)] = X[run[0] : run[-1] + 1].compute()
        start += len(run)
    return positions, rows
