"""A small multi-layer perceptron: one hidden layer of ReLU units, trained by AdamW in torch."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from pipeline.heads.base import Array, Head, Point


class MLP(Head):
    """One hidden layer.

    Parameters
    ----------
    hidden : int
        Hidden units.
    learning_rate : float
        AdamW's step.
    weight_decay : float
        AdamW's decoupled decay.
    batch_size : int
        Images per step.
    epochs : int
        Passes over the images, each seen in one of its views, drawn anew every time.
    seed : int
        Draws the start, the order of the images and their views.

    Attributes
    ----------
    hidden_coef_ : (d, hidden), hidden_intercept_ : (hidden,)
    output_coef_ : (hidden, n_classes), output_intercept_ : (n_classes,)
    """

    state: ClassVar[tuple[str, ...]] = (
        "hidden_coef_", "hidden_intercept_", "output_coef_", "output_intercept_"
    )  # fmt: skip

    def __init__(
        self,
        hidden: int = 256,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        batch_size: int = 64,
        epochs: int = 40,
        seed: int = 0,
    ) -> None:
        self.hidden = hidden
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.seed = seed

    @classmethod
    def path(
        cls, X: Array, y: Array, grid: Mapping[str, Any], views: int = 1
    ) -> Iterator[tuple[Point, Self]]:
        """Yield the head after every epoch of every learning rate: the epoch is an axis, too."""
        rest = {name: value for name, value in grid.items() if name != "learning_rate"}
        classes, numbers = np.unique(y, return_inverse=True)
        for rate in grid["learning_rate"]:
            head = cls(**rest, learning_rate=rate)
            head.classes_, head.n_features_in_ = classes, X.shape[1]
            for epoch, _ in enumerate(head._epochs(X, numbers, views), 1):
                snapshot = copy.copy(head).set_params(epochs=epoch)
                yield {"learning_rate": rate, "epochs": epoch}, snapshot

    def _fit(self, X: Array, y: Array, views: int) -> None:
        for _ in self._epochs(X, y, views):
            pass

    def _epochs(self, X: Array, y: Array, views: int) -> Iterator[None]:
        """Train one epoch at a time; the arrays are the state after it."""
        generator = torch.Generator().manual_seed(self.seed)
        rows, numbers = torch.from_numpy(np.ascontiguousarray(X, np.float32)), torch.from_numpy(y).long()
        hidden, output = nn.Linear(X.shape[1], self.hidden), nn.Linear(self.hidden, len(self.classes_))
        for layer in (hidden, output):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
        model = nn.Sequential(hidden, nn.ReLU(), output)
        optimiser = torch.optim.AdamW(
            model.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        for _ in range(self.epochs):
            for batch in one_view_each(len(rows) // views, views, generator).split(self.batch_size):
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(rows[batch]), numbers[batch]).backward()
                optimiser.step()
            # Copies: the next epoch updates the parameters in place
            weights = [parameter.detach().numpy().T.copy() for parameter in model.parameters()]
            self.hidden_coef_, self.hidden_intercept_, self.output_coef_, self.output_intercept_ = weights
            yield

    def _logits(self, X: Array) -> Array:
        """Score in torch, as it trains: alternating with NumPy's thread pool costs more than the products."""
        rows = torch.from_numpy(np.ascontiguousarray(X, np.float32))
        weights = (torch.from_numpy(np.ascontiguousarray(array)) for array in self.arrays().values())
        hidden, hidden_bias, output, output_bias = weights
        return (torch.relu(rows @ hidden + hidden_bias) @ output + output_bias).numpy()


def one_view_each(images: int, views: int, generator: torch.Generator) -> torch.Tensor:
    """Rows of one epoch, (images,) int64: every image once, in random order, by one of its views.

    In expectation each view weighs 1/views, at the price of an epoch without views.
    """
    order = torch.randperm(images, generator=generator)
    if views == 1:  # a draw from one would move the generator, and with it every result
        return order
    return order * views + torch.randint(views, (images,), generator=generator)
