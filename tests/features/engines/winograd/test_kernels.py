"""The CPU's convolution kernels against torch's convolution in float64, whatever the vector length."""

import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, max_pool2d

binding = pytest.importorskip("llvmlite.binding", reason="numba is not installed")

from features.engines.winograd import filters, kernels, memory  # noqa: E402

TOLERANCE = 5e-6  # of the largest value: fp32 rounding of one layer, and of its transforms


def filled(images: np.ndarray) -> memory.Plane:
    """A plane that holds (n, height, width, channels)."""
    count, height, width, channels = images.shape
    plane = memory.plane(count, height, width, channels)
    plane[:, 1 : height + 1, 1 : width + 1] = images
    return plane


def convolved(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    *,
    relu: bool = True,
    pooled: bool = False,
    step: int = 5,
) -> np.ndarray:
    """The kernel's outputs, `step` tiles at a time; the plane around them has to stay zero."""
    count, height, width, inputs = x.shape
    outputs = len(weight)
    size = (height // 2, width // 2) if pooled else (height, width)
    y = memory.plane(count, *size, outputs)
    floor = np.float32(0 if relu else -np.inf)
    transformed = filters.transformed(weight)
    tiles = memory.tiles(count, height, width)
    for start in range(0, tiles, step):
        stop = min(start + step, tiles)
        scratch = memory.scratch(inputs, outputs, stop - start)
        for numbers in scratch:
            numbers.fill(np.nan)
        kernels.convolve(filled(x), y, transformed, bias, floor, height, width, pooled, start, stop, *scratch)
    inside = y[:, 1 : size[0] + 1, 1 : size[1] + 1].copy()
    y[:, 1 : size[0] + 1, 1 : size[1] + 1] = 0
    assert not y.any()
    return inside


def problem(height: int, width: int, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(height * width + inputs)
    x = rng.standard_normal((2, height, width, inputs), np.float32)
    weight = rng.standard_normal((outputs, inputs, 3, 3), np.float32) / np.float32(np.sqrt(9 * inputs))
    return x, weight, rng.standard_normal(outputs, np.float32)


def reference(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, *, relu: bool = True, pooled: bool = False
) -> np.ndarray:
    tensors = (torch.from_numpy(a).double() for a in (x.transpose(0, 3, 1, 2), weight, bias))
    y = conv2d(*tensors, padding=1)
    y = torch.relu(y) if relu else y
    y = max_pool2d(y, 2) if pooled else y
    return np.asarray(y.permute(0, 2, 3, 1).numpy())


def error(got: np.ndarray, want: np.ndarray) -> float:
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.parametrize(
    ("height", "width", "inputs", "outputs"),
    [
        (2, 2, 512, 512),
        (4, 4, 64, 64),
        (5, 9, 64, 128),
        (14, 14, 512, 512),
        (17, 16, 128, 64),
        (31, 3, 64, 64),
    ],
)
@pytest.mark.parametrize("pooled", [False, True])
def test_convolution_equals_torch(height: int, width: int, inputs: int, outputs: int, pooled: bool) -> None:
    case = problem(height, width, inputs, outputs)
    for relu in (True, False):
        want = reference(*case, relu=relu, pooled=pooled)
        assert error(convolved(*case, relu=relu, pooled=pooled), want) < TOLERANCE


def test_bits_do_not_depend_on_the_cut_into_tasks() -> None:
    x, weight, bias = problem(18, 21, 64, 64)
    whole = convolved(x, weight, bias, step=1000)
    for step in (1, 6, 7):
        np.testing.assert_array_equal(convolved(x, weight, bias, step=step), whole)
    np.testing.assert_array_equal(convolved(x[1:], weight, bias)[0], whole[1])


@pytest.mark.parametrize("size", [(32, 32), (33, 40), (7, 6)])
def test_first_convolution_equals_torch(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, *size, 3), dtype=np.uint8)
    table = rng.standard_normal((3, 256), np.float32)
    weight, bias = rng.standard_normal((64, 3, 3, 3), np.float32), rng.standard_normal(64, np.float32)
    y = memory.plane(2, *size, 64)
    weights = filters.arranged(weight, bias)
    for image, start in itertools.product(range(2), range(0, size[0], 5)):
        stop = min(start + 5, size[0])
        kernels.convolve_first(images, y, table, weights, np.float32(0), image, start, stop)
    x = np.stack([table[c][images[..., c]] for c in range(3)], axis=-1)
    assert error(y[:, 1 : size[0] + 1, 1 : size[1] + 1], reference(x, weight, bias)) < TOLERANCE


def test_pooling_drops_an_odd_last_row_and_column() -> None:
    x = np.random.default_rng(0).standard_normal((1, 5, 7, 64), np.float32)
    y = memory.plane(1, 2, 3, 64)
    kernels.pool(filled(x), y, 5, 7, 0)
    want = max_pool2d(torch.from_numpy(x.transpose(0, 3, 1, 2)), 2).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(y[:, 1:3, 1:4], want)


@pytest.mark.parametrize(
    ("cpu", "features", "lanes"),
    [
        # Each compiles everything once more
        pytest.param("haswell", "+avx2,+fma", 8, marks=pytest.mark.slow),
        pytest.param("nehalem", "+sse4.2", 4, marks=pytest.mark.slow),
    ],
)
def test_shorter_vectors(cpu: str, features: str, lanes: int) -> None:
    """Another CPU's code, where this one can run it."""
    if not all(binding.get_host_cpu_features().get(name[1:]) for name in features.split(",")):
        pytest.skip(f"this CPU has not {features}")
    check = (
        "from tests.features.engines.winograd.test_kernels import *; "
        "from features.engines.winograd.vectors import LANES; "
        f"assert LANES == {lanes}; "
        "[test_convolution_equals_torch(5, 9, 64, 128, pooled) for pooled in (True, False)]; "
        "test_first_convolution_equals_torch((33, 40))"
    )
    environment = {**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    done = subprocess.run([sys.executable, "-c", check], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_compiled_code_is_of_the_instructions_that_stand_here() -> None:
    folder = Path(kernels.__file__).parent
    made_of = b"".join((folder / name).read_bytes() for name in ("transforms.py", "vectors.py", "simd.py"))
    digest = hashlib.sha256(made_of).hexdigest()
    assert digest.startswith(kernels.MADE_OF), (
        f"numba would go on with old code: MADE_OF is {digest[:16]} now"
    )
