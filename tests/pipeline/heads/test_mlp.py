"""The MLP: many models in one pass, rows in memory or not, and what a diverging model leaves."""

import dask.array
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pipeline.heads.batches import batches
from pipeline.heads.mlp import MLP

GRID = {"hidden": (8, 24), "learning_rate": (1e-3, 1e-2), "epochs": 4, "batch_size": 32}


def digits(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return (X[:n] / 16).astype(np.float32), y[:n]


def epoch(X: object, views: int, size: int, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(batches(X, views, size, torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("weight", [None, "balanced"])
def test_models_trained_together_are_those_trained_alone(weight: str | None) -> None:
    X, y = digits()
    X, y = X[y < 5], y[y < 5] // 2  # unequal classes
    points = []
    for point, head in MLP.path(X, y, {**GRID, "class_weight": weight}):
        alone = MLP(**{**GRID, "class_weight": weight, **point}).fit(X, y)
        for name, array in alone.arrays().items():
            np.testing.assert_allclose(head.arrays()[name], array, rtol=1e-5, atol=1e-6)
        assert head.get_params() == alone.get_params()
        points.append(tuple(point.values()))
    assert len(points) == len(set(points)) == 2 * 2 * 4


def test_first_step_is_adamws() -> None:
    """AdamW starts with the rate times the gradient's sign: here of the weighted mean loss."""
    X, y = digits(40)
    weights = (40 / (10 * np.bincount(y)))[y]
    start = MLP(hidden=8, learning_rate=1e-30, weight_decay=0, batch_size=40, epochs=1).fit(X, y).arrays()
    head = MLP(8, 1e-3, weight_decay=0, class_weight="balanced", batch_size=40, epochs=1).fit(X, y)
    hidden = np.maximum(X @ start["hidden_coef_"] + start["hidden_intercept_"], 0)
    scores = hidden @ start["output_coef_"] + start["output_intercept_"]
    proba = np.exp(scores - scores.max(1, keepdims=True))
    gradient = hidden.T @ ((proba / proba.sum(1, keepdims=True) - np.eye(10)[y]) * weights[:, None])
    moved = head.output_coef_ - start["output_coef_"]
    clear = np.abs(gradient) > 1e-3
    np.testing.assert_allclose(moved[clear], -1e-3 * np.sign(gradient[clear]), rtol=1e-2)


@pytest.mark.parametrize(("steps", "epochs"), [(4, 1), (10, 1), (20, 2), (39, 3), (1000, 4)])
def test_ends_with_the_last_whole_epoch_within_the_steps(steps: int, epochs: int) -> None:
    X, y = digits(300)  # 10 steps of 32
    reached = [point["epochs"] for point, _ in MLP.path(X, y, {**GRID, "hidden": 8, "steps": steps})]
    assert max(reached) == epochs
    assert len(reached) == 2 * epochs


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("window", [1, 40_000, 1 << 30])  # bytes: chunks one by one, a few, all together
def test_out_of_memory_every_image_is_seen_once_an_epoch(
    views: int, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.heads.batches.WINDOW", window)
    X = np.random.default_rng(0).normal(size=(600, 20)).astype(np.float32)
    lazy = dask.array.from_array(X, chunks=((100, 200, 50, 150, 100), 20))  # images' views apart
    seen = epoch(lazy, views, 32)
    for batch, rows in seen:
        np.testing.assert_array_equal(batch, X[rows.numpy()])
        assert batch.dtype == torch.float32
        assert len(batch) <= 32
    images = torch.cat([rows for _, rows in seen]) // views
    assert sorted(images.tolist()) == list(range(600 // views))
    again, other = epoch(lazy, views, 32), epoch(lazy, views, 32, seed=1)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(seen, again, strict=True))
    assert not torch.equal(images, torch.cat([rows for _, rows in other]) // views)


def test_out_of_memory_rows_of_several_chunks_are_mixed() -> None:
    lazy = dask.array.zeros((1000, 4), chunks=(100, 4), dtype=np.float32)  # as if sorted: a class per chunk
    chunks = torch.stack([rows.div(100, rounding_mode="floor") for _, rows in epoch(lazy, 1, 100)])
    assert min(len(set(batch)) for batch in chunks.tolist()) > 7


def test_out_of_memory_learns_the_same() -> None:
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    order = np.argsort(y, kind="stable")  # the worst order
    train, test = order[::2], order[1::2]
    lazy = dask.array.from_array(X[train], chunks=(50, 64))
    *_, (_, streamed) = MLP.path(lazy, y[train], {"hidden": 32, "learning_rate": 0.01, "epochs": 10})
    held = MLP(32, 0.01, epochs=10).fit(X[train], y[train])
    assert held.score(X[test], y[test]) > 0.93
    assert streamed.score(X[test], y[test]) > 0.93
    assert streamed.score(X[test], y[test]) == pytest.approx(held.score(X[test], y[test]), abs=0.02)


@pytest.mark.parametrize("rate", [1e18, 1e38])
def test_a_model_that_diverges_says_so_and_leaves_the_others_alone(rate: float) -> None:
    X, y = digits()
    grid = {**GRID, "hidden": (8,), "learning_rate": (1e-2, rate)}
    for point, head in MLP.path(X, y, grid):
        assert np.isfinite(head.predict_proba(X)).all()
        assert head.converged_ == (point["learning_rate"] == 1e-2)
        if head.converged_:
            alone = MLP(8, 1e-2, epochs=point["epochs"], batch_size=32).fit(X, y)
            np.testing.assert_array_equal(head.logits(X), alone.logits(X))


def test_balanced_classes_weigh_the_same() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(["often", "seldom"], [570, 30])
    X = (rng.normal(size=(600, 3)) + (y == "seldom")[:, None]).astype(np.float32)

    def recall(weight: str | None) -> float:
        head = MLP(8, 1e-2, class_weight=weight, epochs=20).fit(X, y)
        return float((head.predict(X[570:]) == "seldom").mean())

    assert recall(None) < 0.5
    assert recall("balanced") > 0.8


def test_training_leaves_torchs_own_generator_alone() -> None:
    X, y = digits(60)
    before = torch.get_rng_state()
    MLP(8, epochs=1).fit(X, y)
    assert torch.equal(torch.get_rng_state(), before)


def test_rows_that_cannot_be_written_will_do() -> None:
    X, y = digits(60)
    expected = MLP(8, epochs=2).fit(X, y).logits(X)
    X.flags.writeable = False
    np.testing.assert_array_equal(MLP(8, epochs=2).fit(X, y).logits(X), expected)
