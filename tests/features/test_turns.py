"""Engines that are shared: threads, a forward that was interrupted, forks."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from features.engines.base import Engine
from features.engines.choice import Choice
from features.engines.create import create
from features.images import Preprocessing
from features.network import parse_layer
from features.turns import side_by_side, turn
from features.weights import Weights


def engine_of(weights: Path, name: str, *, light: bool = False) -> Engine:
    opened = Weights.open(weights)
    layers = [parse_layer(layer, "vgg11") for layer in ("conv2_1:avg", "conv4_2", "pool5:max")]
    preprocessing = Preprocessing((32, 40), True, *opened.normalisation)
    return create(Choice(name, "cpu", "fp32", ""), layers, opened, preprocessing, light=light)


@pytest.mark.parametrize(("name", "light"), [("winograd", False), ("winograd", True), ("torch", False)])
def test_threads_share_an_engine(vgg11_weights: Path, name: str, light: bool) -> None:
    engine, rng = engine_of(vgg11_weights, name, light=light), np.random.default_rng(0)
    batches = [rng.integers(0, 256, (n, 32, 40, 3), dtype=np.uint8) for n in (1, 2, 3, 1)]
    alone = [engine.run(batch) for batch in batches]

    def ask(number: int) -> bool:
        found, expected = engine.run(batches[number % 4]), alone[number % 4]
        return all(np.array_equal(found[layer], expected[layer]) for layer in expected)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(40 if name == "winograd" else 8)))


def test_a_forward_after_one_that_failed_is_as_alone(vgg11_weights: Path) -> None:
    engine = engine_of(vgg11_weights, "winograd", light=True)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 40, 3), dtype=np.uint8)
    alone = engine.run(images)
    with pytest.raises(Exception):  # noqa: B017, PT011 - whichever is the first
        engine.run(images[:, :, :, 0])
    assert not turn.locked()
    np.testing.assert_array_equal(engine.run(images)["conv4_2"], alone["conv4_2"])


def test_what_fails_in_one_thread_is_raised_when_all_are_done() -> None:
    done = []

    def work() -> None:
        done.append(1)
        raise ValueError("one of them")

    with turn, pytest.raises(ValueError, match="one of them"):
        side_by_side(work, 3)
    assert len(done) == 3
