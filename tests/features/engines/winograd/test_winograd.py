"""Winograd's algorithm: ten lines against direct convolution, kernels against these; and the one door."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import correlate

from features.engines.winograd.reference import convolution
from features.engines.winograd.transforms import A_T, B_T, G, both_sides, input_transform, output_transform
from features.images import Preprocessing
from features.network import parse_layer
from features.weights import Weights
from tests.imports import FILES, imported

ROOM = "features.engines.winograd"
SHAPES = [(1, 1, 2, 3), (4, 4, 64, 64), (5, 9, 3, 4), (17, 16, 64, 64), (2, 31, 8, 5)]


def problem(height: int, width: int, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(height * width + inputs)
    x = rng.standard_normal((2, height, width, inputs), np.float32)
    weight = rng.standard_normal((outputs, inputs, 3, 3), np.float32)
    return x, weight, rng.standard_normal(outputs, np.float32)


def direct(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """By SciPy, in float64: a sum over the input channels of each output's correlations."""
    planes = [
        sum(
            correlate(x[..., c].astype(np.float64), kernel[None, c].astype(np.float64), mode="constant")
            for c in range(x.shape[-1])
        )
        for kernel in weight
    ]
    return np.maximum(np.stack(planes, axis=-1) + bias, 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_ten_lines_equal_a_direct_convolution(shape: tuple[int, int, int, int]) -> None:
    case = problem(*shape)
    got, want = convolution(*case), direct(*case)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-13 * np.abs(want).max())


def test_transforms_by_hand_are_the_matrices() -> None:
    rng = np.random.default_rng(0)
    tile = rng.standard_normal((6, 6))
    for matrix, transform in ((B_T, input_transform), (A_T, output_transform)):
        np.testing.assert_allclose(np.array(transform(list(np.eye(6)))), matrix, atol=1e-15)
        np.testing.assert_allclose(both_sides(transform, tile), matrix @ tile @ matrix.T, atol=1e-14)


def test_the_matrices_convolve_one_line() -> None:
    """F(4, 3): what the paper's Aᵀ[(Gg) ⊙ (Bᵀd)] is for."""
    rng = np.random.default_rng(1)
    d, g = rng.standard_normal(6), rng.standard_normal(3)
    np.testing.assert_allclose(A_T @ ((G @ g) * (B_T @ d)), np.correlate(d, g), atol=1e-14)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[2] == shape[3]])
@pytest.mark.parametrize("pooled", [False, True])
def test_kernels_equal_the_ten_lines(shape: tuple[int, int, int, int], pooled: bool) -> None:
    pytest.importorskip("numba", reason="numba is not installed")
    from tests.features.engines.winograd.test_kernels import TOLERANCE, convolved, error  # noqa: PLC0415 - needs numba

    case = problem(*shape)
    want = convolution(*case)
    if pooled:
        high, wide = want.shape[1] // 2 * 2, want.shape[2] // 2 * 2
        want = want[:, :high, :wide].reshape(2, high // 2, 2, wide // 2, 2, -1).max((2, 4))
    assert error(convolved(*case, pooled=pooled), want) < TOLERANCE


def test_the_engine_equals_the_ten_lines(vgg11_weights: Path) -> None:
    pytest.importorskip("numba", reason="numba is not installed")
    from features.engines.winograd.engine import WinogradEngine  # noqa: PLC0415 - needs numba

    weights = Weights.open(vgg11_weights)
    layers = [parse_layer(name, "vgg11") for name in ("conv1_1", "conv2_1", "conv3_2")]
    images = np.random.default_rng(2).integers(0, 256, (3, 36, 44, 3), dtype=np.uint8)
    rows = WinogradEngine(layers, weights, Preprocessing((36, 44), True, *weights.normalisation)).run(images)
    tensors = weights.tensors(layers[-1])
    x = (images - np.array(weights.normalisation[0])) / np.array(weights.normalisation[1])
    for step in layers[-1].steps:
        if step.kind == "pool":
            n, height, width, _ = x.shape
            x = x[:, : height // 2 * 2, : width // 2 * 2]
            x = x.reshape(n, height // 2, 2, width // 2, 2, -1).max((2, 4))
            continue
        x = convolution(x, *(tensors[name] for name in step.tensors))
        if step.name in rows:
            want = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
            assert np.abs(rows[step.name] - want).max() < 1e-5 * want.max()


def test_the_room_has_one_door() -> None:
    inside = {module for module in FILES if module == ROOM or module.startswith(f"{ROOM}.")}
    doors = {
        (module, other) for module in set(FILES) - inside for other in imported(module) & inside - {ROOM}
    }
    assert doors == {("features.engines.create", f"{ROOM}.engine")}


def test_the_ten_lines_need_nothing_but_numpy() -> None:
    reached = imported(f"{ROOM}.reference") | imported(f"{ROOM}.transforms")
    assert {module for module in reached if module.startswith(f"{ROOM}.")} == {f"{ROOM}.transforms"}
