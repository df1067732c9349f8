"""What `fc6` sees, against torch's adaptive pooling."""

import numpy as np
import pytest
import torch

from features import modules
from features.network import POOLED
from features.pooling import averaging_matrix, is_joined


@pytest.mark.parametrize("inputs", [1, 2, 3, 6, 7, 8, 13, 14, 64])
def test_averages_as_torch_does(inputs: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, inputs, 5))
    down, across = averaging_matrix(inputs, POOLED), averaging_matrix(5, POOLED)
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x), POOLED).numpy()
    np.testing.assert_allclose(down @ x @ across.T, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(down, modules.averaging_matrix(inputs, POOLED).numpy())


def test_is_joined_where_that_has_fewer_terms() -> None:
    assert is_joined((1, 1))
    assert is_joined((6, 8))
    assert not is_joined((7, 7))
    assert not is_joined((5, 10))
