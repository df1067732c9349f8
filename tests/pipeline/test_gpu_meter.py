"""What work on a GPU costs: of its own, for `make gpu-check`."""

import pytest
import torch


@pytest.mark.gpu
def test_memory_of_a_gpu_is_the_most_that_was_held() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pytest.importorskip("psutil")
    meters = pytest.importorskip("pipeline.meter")
    with meters.Meter("cuda:0") as meter:
        a = torch.ones(4096, 4096, device="cuda:0")
        held = 2 * a.nbytes
        a = a + 1
        del a
    assert held <= meter.cost["gpu_memory"] < 2 * held
