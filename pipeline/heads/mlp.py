"""A small multi-layer perceptron: one hidden layer of ReLU units, trained by AdamW in torch.

for point, head in MLP.path(X, y, {"hidden": [64, 256], "learning_rate": [3e-4, 1e-3]}):
    scores = head.logits(X_validation)  # after each epoch, of each model
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from pipeline.heads.base import Array, Head, Point, first_met, is_axis
from pipeline.heads.batches import batches


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
    class_weight : None, "balanced" or dict
        What a class's losses count, as in scikit-learn: the same, all classes the same, or as given.
    batch_size : int
        Images per step.
    epochs : int
        Passes over the images, each seen in one of its views, drawn anew every time.
    steps : int
        Training also ends with the last whole epoch within so many steps, but not before the first.
    seed : int
        Draws the start, the order of the images and their views.
    device : str
        Where torch trains; the fitted arrays, and scoring, are on the CPU.

    Attributes
    ----------
    hidden_coef_ : (d, hidden), hidden_intercept_ : (hidden,)
    output_coef_ : (hidden, n_classes), output_intercept_ : (n_classes,)
        All float32.
    converged_ : bool
        False where training diverged; the arrays are then those of the last epoch before,
        of the start for none.
    """

    state: ClassVar[tuple[str, ...]] = (
        "hidden_coef_", "hidden_intercept_", "output_coef_", "output_intercept_"
    )  # fmt: skip
    extends: ClassVar[tuple[str, ...]] = ("learning_rate",)

    def __init__(
        self,
        hidden: int = 256,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        class_weight: str | dict[Any, float] | None = None,
        batch_size: int = 64,
        epochs: int = 40,
        steps: int = 4000,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.hidden = hidden
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.class_weight = class_weight
        self.batch_size = batch_size
        self.epochs = epochs
        self.steps = steps
        self.seed = seed
        self.device = device

    @classmethod
    def path(cls, X: Any, y: Array, grid: Mapping[str, Any], views: int = 1) -> Iterator[tuple[Point, Self]]:
        """Train all (hidden, learning_rate) in one pass over the data (see `Head.path`).

        Yields each after every epoch: the epoch is an axis, too. X may be a dask array.
        """
        settings = cls().get_params() | dict(grid)
        axes = [
            values if is_axis(values) else (values,)
            for values in (settings.pop("hidden"), settings.pop("learning_rate"))
        ]
        heads = [cls(hidden=hidden, learning_rate=rate, **settings) for hidden, rate in product(*axes)]
        classes, numbers = np.unique(y, return_inverse=True)
        for head in heads:
            head.classes_, head.n_features_in_ = classes, X.shape[1]
        for epoch, _ in enumerate(_train(heads, X, numbers, views), 1):
            for head in heads:
                point = {"hidden": head.hidden, "learning_rate": head.learning_rate, "epochs": epoch}
                yield point, copy.copy(head).set_params(epochs=epoch)

    @classmethod
    def complexity(cls, point: Point) -> tuple[float, ...]:
        """Few hidden units first, then short training (see `Head.complexity`)."""
        return point["hidden"], point["epochs"], point["learning_rate"]

    def _fit(self, X: Array, y: Array, views: int) -> None:
        for _ in _train([self], X, y, views):
            pass

    def _network(self, d: int, seed: int, order: Array) -> nn.Sequential:
        """Draw the start on the CPU, so that it is the same for every device; `order` is of the classes."""
        generator = torch.Generator().manual_seed(seed)
        # Not torch's own start: it would be drawn from, and move, the global generator
        hidden = nn.utils.skip_init(nn.Linear, d, self.hidden)
        output = nn.utils.skip_init(nn.Linear, self.hidden, len(self.classes_))
        for layer in (hidden, output):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
        output.weight.data = output.weight.data[torch.from_numpy(order)]
        return nn.Sequential(hidden, nn.ReLU(), output)

    def _keep(self, network: nn.Sequential) -> None:
        # Copies: the next epoch updates the parameters in place
        weights = [parameter.detach().cpu().numpy().T.copy() for parameter in network.parameters()]
        self.hidden_coef_, self.hidden_intercept_, self.output_coef_, self.output_intercept_ = weights

    def _logits(self, X: Array) -> Array:
        """Score in torch, as it trains: alternating with NumPy's thread pool costs more than the products."""
        rows = torch.from_numpy(np.require(X, np.float32, ["C", "W"]))
        weights = (torch.from_numpy(np.require(array, requirements="W")) for array in self.arrays().values())
        hidden, hidden_bias, output, output_bias = weights
        return (torch.relu(rows @ hidden + hidden_bias) @ output + output_bias).numpy()


def _train(heads: Sequence[MLP], X: Any, y: Array, views: int) -> Iterator[None]:
    """Train heads that differ in `hidden` and `learning_rate` only; their arrays are kept after each epoch.

    Every mini-batch is read once, and each head takes its step on it, the same that it would
    take alone.

    Parameters
    ----------
    y : (n,) int, class numbers
    """
    shared = heads[0]
    start, shuffling = np.random.SeedSequence(shared.seed).generate_state(2).tolist()
    order = first_met(y, len(shared.classes_))
    networks = [head._network(X.shape[1], start, order).to(shared.device) for head in heads]
    optimiser = _optimiser(heads, networks)
    numbers, weights = torch.from_numpy(y).to(shared.device), _class_weights(shared, y).to(shared.device)
    generator = torch.Generator().manual_seed(shuffling)
    for head, network in zip(heads, networks, strict=True):
        head.converged_ = True
        head._keep(network)
    for _ in range(_epochs(shared, len(y) // views)):
        for features, positions in batches(X, views, shared.batch_size, generator):
            batch, rows = features.to(shared.device), positions.to(shared.device)
            optimiser.zero_grad()
            # One sum, whose gradients are each head's own: one that diverges leaves the others alone
            losses = [_loss(network(batch), numbers[rows], weights) for network in networks]
            torch.stack(losses).sum().backward()
            optimiser.step()
        for head, network in zip(heads, networks, strict=True):
            head.converged_ &= _finite(network, batch)
            if head.converged_:
                head._keep(network)
        yield


def _optimiser(heads: Sequence[MLP], networks: Sequence[nn.Sequential]) -> torch.optim.AdamW:
    groups = [
        {"params": network.parameters(), "lr": head.learning_rate}
        for head, network in zip(heads, networks, strict=True)
    ]
    return torch.optim.AdamW(groups, weight_decay=heads[0].weight_decay, fused=True)


def _class_weights(head: MLP, y: Array) -> torch.Tensor:
    """(n_classes,) float32."""
    weights = compute_class_weight(head.class_weight, classes=head.classes_, y=head.classes_[y])
    return torch.from_numpy(weights).float()


def _epochs(head: MLP, images: int) -> int:
    steps = -(-images // head.batch_size)  # of one epoch
    return min(head.epochs, max(1, head.steps // steps))


def _loss(scores: torch.Tensor, numbers: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of each row's cross entropy times its class's weight."""
    # torch's own mean divides by the batch's weights: batches without a rare class would weigh more
    return nn.functional.cross_entropy(scores, numbers, weights, reduction="sum") / len(scores)


def _finite(network: nn.Sequential, batch: torch.Tensor) -> bool:
    """Whether weights and scores are numbers: weights may be just below the largest, scores beyond."""
    with torch.no_grad():
        values = [*network.parameters(), network(batch)]
    return all(bool(torch.isfinite(value).all()) for value in values)
