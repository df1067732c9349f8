"""A store as a PyTorch data set, also where it is larger than memory.

    data = FeatureDataset(store, store.where("train"))
    for X, y in DataLoader(data, batch_size=256, sampler=ShardSampler(data, seed=0)): ...

Rows are read a shard at a time, and the last shard is kept: an order that goes through
the shards one after the other, as `ShardSampler` draws it, decodes each of them once.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from features.positions import Positions, view_of
from features.reading import Features
from features.store import FeatureStore

Item = tuple[Tensor, Tensor]


class FeatureDataset(Dataset[Item]):
    """Pairs of features (width,) or (views, width) float32 and class number () int64.

    Parameters
    ----------
    store : FeatureStore
    positions : (n,) row numbers of the store, in the order of this data set (see `features.positions`)
    view : int, optional
        Only this view where there are several.
    """

    def __init__(self, store: FeatureStore, positions: Any, view: int | None = None) -> None:
        self.store = store
        self.positions = store.numbers(positions)
        self.view = None if view is None else view_of(view, store.views, store.path)
        self.labels = store.labels[self.positions].astype(np.int64)  # (n,)
        self.shards = self.positions // (store.features.shards or store.features.chunks)[0]  # (n,)
        self._kept: tuple[int, Positions, Features] | None = None  # the last shard's rows

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """Read a batch; `DataLoader` calls this in place of `__getitem__`."""
        rows = [self._row(index) for index in indices]
        return [
            (torch.from_numpy(row), torch.tensor(self.labels[index]))
            for row, index in zip(rows, indices, strict=True)
        ]

    def _row(self, index: int) -> NDArray[np.float32]:
        shard, position = int(self.shards[index]), self.positions[index]
        kept = self._kept  # looked at once: other threads replace it
        if kept is None or kept[0] != shard:
            members = np.unique(self.positions[self.shards == shard])
            kept = self._kept = shard, members, self.store.rows(members, self.view)
        _, members, rows = kept
        return np.array(rows[np.searchsorted(members, position)])  # a copy: the shard may go


class ShardSampler(Sampler[int]):
    """A new random order at every pass: of the shards, and of the rows in each.

    Parameters
    ----------
    data : FeatureDataset
    seed : int
        Draws the orders; pass p of the same seed is always the same.
    """

    def __init__(self, data: FeatureDataset, seed: int) -> None:
        self.data = data
        self.generator = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[int]:
        """Yield indices into the data set, each once."""
        for shard in self.generator.permutation(np.unique(self.data.shards)):
            members = np.flatnonzero(self.data.shards == shard)
            yield from self.generator.permutation(members).tolist()
