"""Exact nearest neighbours of reduced features, by products of blocks of rows."""

import numpy as np
import torch
from numpy.typing import NDArray

from features.positions import Positions

BLOCK = 512  # rows whose similarities to all others are in memory at once: 40 MB for 20,000

Array = NDArray[np.float32]


def neighbours(unit: Array, groups: NDArray[np.integer], k: int) -> tuple[Positions, Array]:
    """Find the k rows most similar to each row, none of its own group: itself, copies, shots of a burst.

    Parameters
    ----------
    unit : (n, d) float32, of length 1
    groups : (n,) integers

    Returns
    -------
    (n, k) positions, the most similar first, and (n, k) similarities; -inf where there are no more.
    """
    everything, numbers = torch.from_numpy(unit), torch.from_numpy(groups.astype(np.int64))
    k = min(k, len(unit))
    found, similarity = np.empty((len(unit), k), np.intp), np.empty((len(unit), k), np.float32)
    for start in range(0, len(unit), BLOCK):
        block = slice(start, start + BLOCK)
        products = everything[block] @ everything.T
        products.masked_fill_(numbers[block, None] == numbers, -torch.inf)
        values, positions = products.topk(k, dim=1)
        similarity[block], found[block] = values.numpy(), positions.numpy()
    return found, similarity
