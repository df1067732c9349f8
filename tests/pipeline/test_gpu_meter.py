"""What work on a GPU costs, against the device's own power reading: of its own, for `make gpu-check`."""

import time

import pytest
import torch


@pytest.mark.gpu
def test_energy_and_memory_of_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pytest.importorskip("psutil")
    pynvml = pytest.importorskip("pynvml")
    meters = pytest.importorskip("pipeline.meter")
    pynvml.nvmlInit()
    identity = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    handle = pynvml.nvmlDeviceGetHandleByUUID(identity)
    a = torch.ones(4096, 4096, device="cuda:0")
    watts = []
    with meters.Meter("cuda:0") as meter:
        begun = time.monotonic()
        while time.monotonic() - begun < 3:
            a @ a
            torch.cuda.synchronize()
            watts.append(pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3)
        seconds = time.monotonic() - begun
    assert meter.cost["gpu_memory"] >= 2 * a.nbytes
    if meter.cost["gpu_joules"] is None:
        pytest.skip("this GPU counts no energy")
    assert meter.cost["gpu_joules"] == pytest.approx(seconds * sum(watts) / len(watts), rel=0.5)
