"""The CUDA engine: precision, streams, memory, compilation. Needs none of the other tests' fixtures.

pytest tests/features/engines/test_cuda.py       # what a CPU can show; the rest is skipped
make gpu-check                                  # what only a GPU can, with whatever Python has torch
"""

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from features.engines import cuda
from features.engines.choice import Choice, choose, tolerance
from features.engines.create import create
from features.engines.cuda import CudaEngine, Halving, batch_size, landed, pipelined
from features.engines.pytorch import TappedNetwork
from features.errors import BadInput
from features.images import Preprocessing
from features.modules import AdaptivePool
from features.network import Layer, parse_layer, steps, whole
from features.sources import Request, obtain, write
from features.weights import Weights

NAMES = ("conv1_1:pre:avg", "conv2_1", "conv3_1:max", "pool4:avg", "pool5", "fc6:pre", "fc6", "fc7", "fc8")
SIZE = (48, 64)
PRECISIONS = ("fp32", "fp16", "bf16")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    folder = tmp_path_factory.mktemp("vgg11")
    obtained = obtain(Request("vgg11", ("random",), None, None, 0), folder)
    write(obtained, folder / "weights", folder / "scratch", {})
    return Weights.open(folder / "weights")


def layers_of(*names: str) -> list[Layer]:
    return [parse_layer(name, "vgg11") for name in names]


def random_images(n: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *size, 3), dtype=np.uint8)


def reference(weights: Weights, images: np.ndarray, layers: list[Layer]) -> dict[str, np.ndarray]:
    """The layers' rows by torchvision in float64."""
    with torch.device("meta"):
        model = torchvision.models.vgg11(weights=None).eval()
    tensors = weights.tensors(whole("vgg11"))
    model.load_state_dict({name: torch.from_numpy(t).double() for name, t in tensors.items()}, assign=True)
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in weights.normalisation)
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).double() - mean) / std
    table, step = iter(steps("vgg11")), None
    found: dict[tuple[str, bool], torch.Tensor] = {}
    with torch.inference_mode():
        for module in [*model.features, model.avgpool, nn.Flatten(), *model.classifier]:
            x = torch.relu(x) if isinstance(module, nn.ReLU) else module(x)
            if isinstance(module, nn.Conv2d | nn.Linear | nn.MaxPool2d):
                step = next(table)
                found[step.name, True] = found[step.name, False] = x
            elif isinstance(module, nn.ReLU) and step is not None:
                found[step.name, False] = x
    pool = {"avg": lambda x: x.mean((2, 3)), "max": lambda x: x.amax((2, 3))}
    return {
        layer.name: pool.get(str(layer.pooling), lambda x: x.flatten(1))(found[layer.step, layer.pre]).numpy()
        for layer in layers
    }


def allowed(precision: str) -> float:
    return tolerance(f"torch-{precision}/1")


def error_of(rows: np.ndarray, want: np.ndarray) -> float:
    """Largest error as a share of the layer's largest value."""
    return float(np.abs(rows[: len(want)].astype(np.float64) - want).max() / np.abs(want).max())


@pytest.fixture(scope="module")
def wanted(weights: Weights) -> dict[str, np.ndarray]:
    """The rows of two images."""
    return reference(weights, random_images(2), layers_of(*NAMES))


@pytest.mark.parametrize("precision", ["fp32", "fp16", pytest.param("bf16", marks=pytest.mark.slow)])
def test_each_precision_keeps_its_tolerance(
    precision: str, weights: Weights, wanted: dict[str, np.ndarray]
) -> None:
    layers, images = layers_of(*NAMES), random_images(2)
    preprocessing = Preprocessing(SIZE, True, *weights.normalisation)
    engine = create(Choice("torch", "cpu", precision, ""), layers, weights, preprocessing)
    rows = engine.run(images)
    for name, want in wanted.items():
        assert error_of(rows[name], want) < allowed(precision), name
        assert rows[name].dtype == np.float32


def test_an_overflow_inside_the_network_shows_in_the_rows(weights: Weights) -> None:
    network = TappedNetwork(layers_of("pool5", "fc7"), weights, device="cpu", precision="fp16")
    first = network.segments[0][0]
    assert isinstance(first, nn.Sequential)
    assert isinstance(first[1], nn.Conv2d)
    with torch.inference_mode():
        first[1].weight *= 5e4
        rows = network(torch.from_numpy(random_images(2)))
    assert not any(torch.isfinite(values).all() for values in rows.values())


def test_stream_gives_what_run_gives(weights: Weights) -> None:
    preprocessing = Preprocessing((32, 32), True, *weights.normalisation)
    engine = create(Choice("torch", "cpu", "fp32", ""), layers_of("pool5"), weights, preprocessing)
    batches = [random_images(4, (32, 32)) + np.uint8(i) for i in range(3)]
    for batch, rows in zip(batches, engine.stream(iter(batches)), strict=True):
        np.testing.assert_array_equal(rows["pool5"], engine.run(batch)["pool5"])


def test_batches_land_in_order_a_few_behind() -> None:
    log: list[str] = []

    def submit(batch: Any) -> Any:
        log.append(f"submit {batch}")
        return batch

    def land(flights: Any) -> Any:
        log.append(f"land {flights}")
        return flights

    batches: Any = range(4)
    assert list(pipelined(submit, land, batches, 2)) == [0, 1, 2, 3]
    assert log == [
        "submit 0", "submit 1", "submit 2", "land 0", "submit 3", "land 1", "land 2", "land 3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
    ],
)
def test_out_of_memory_halves_the_batch_and_says_so(
    error: RuntimeError, capsys: pytest.CaptureFixture[str]
) -> None:
    given_back = []

    def fits_three(part: torch.Tensor) -> torch.Tensor:
        if len(part) > 3:
            raise error
        return part * 2

    halving = Halving(fits_three, 16, lambda: given_back.append(True))
    batch = torch.arange(16)
    for _ in range(2):
        assert torch.equal(torch.cat(halving(batch)), batch * 2)
    assert halving.size == 2
    assert len(given_back) == 3  # 16, 8 and 4 did not fit; the second batch knows
    assert capsys.readouterr().out.splitlines()[-1].endswith("going on with 2 images at a time")


def test_what_no_halving_helps_is_raised() -> None:
    def failing(error: RuntimeError) -> Halving[None]:
        def call(part: torch.Tensor) -> None:
            raise error

        return Halving(call, 2, lambda: None)

    with pytest.raises(BadInput, match="one image does not fit"):
        failing(torch.OutOfMemoryError("CUDA out of memory."))(torch.arange(2))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        failing(RuntimeError("CUDA error: an illegal memory access"))(torch.arange(2))


def test_batch_is_bounded_by_activations_and_rows() -> None:
    half, full = torch.float16, torch.float32
    assert batch_size(layers_of("fc7"), (224, 224), half) == 256
    assert batch_size(layers_of("fc7"), (224, 224), full) == 128
    assert batch_size(layers_of("fc7"), (32, 32), half) == 1024
    assert batch_size(layers_of("conv1_1"), (224, 224), half) == 16
    assert batch_size(layers_of("conv1_1"), (2048, 2048), full) == 1


def test_auto_precision_is_a_rule_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose("auto", "cpu", "auto").precision == "fp32"
    assert choose("torch", "cpu", "auto").numerics == "torch-fp32/1"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    chosen = choose("auto", "auto", "auto")
    assert (chosen.name, chosen.device, chosen.precision) == ("torch", "cuda:0", "fp16")
    chosen = choose("auto", "cuda:1", "fp32")
    assert (chosen.device, chosen.numerics) == ("cuda:1", "torch-fp32/1")
    if importlib.util.find_spec("numba"):
        assert choose("winograd", "auto", "auto").numerics == "winograd-fp32/1"


class Imitation:
    """A stream or event of a machine without any: everything has happened once it is queued."""

    def __init__(self, *arguments: object) -> None: ...

    def wait_stream(self, other: "Imitation") -> None: ...

    def record(self) -> None: ...

    def synchronize(self) -> None: ...


@pytest.fixture
def imitated(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's streams and pinned memory, imitated: the engine's own steps are real."""
    monkeypatch.setattr(torch.cuda, "Stream", Imitation)
    monkeypatch.setattr(torch.cuda, "Event", Imitation)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self.clone())
    monkeypatch.setattr(cuda, "pinned", torch.empty_like)
    monkeypatch.setattr(cuda, "MOST", 4)


def cuda_engine(
    weights: Weights, precision: str, device: str = "cpu", folder: Path | None = None
) -> CudaEngine:
    preprocessing = Preprocessing(SIZE, True, *weights.normalisation)
    return CudaEngine(
        layers_of(*NAMES), weights, preprocessing, device=device, precision=precision, compiled=folder
    )


@pytest.mark.usefixtures("imitated")
def test_cuda_engine_on_imitated_streams(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/tmp/torch's own")
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)
    images = random_images(8)
    for precision, dtype in (("fp32", np.float32), ("bf16", np.float32), ("fp16", np.float16)):
        engine = cuda_engine(weights, precision, folder=tmp_path)
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)
        assert engine.batch == 4
        streamed = list(engine.stream(iter([images[:4], images[4:]])))
        plain = TappedNetwork(layers_of(*NAMES), weights, device="cpu", precision=precision)
        for number, rows in enumerate(streamed):
            with torch.inference_mode():
                want = plain(torch.from_numpy(images[4 * number : 4 * number + 4]))
            for name in NAMES:
                assert rows[name].dtype == dtype
                np.testing.assert_array_equal(rows[name], want[name].to(engine.rows_dtype).numpy())


@pytest.mark.usefixtures("imitated")
def test_what_cannot_be_compiled_runs_as_it_is(
    weights: Weights, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_compiler(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("Failed to find C compiler.\nPlease specify one")

    monkeypatch.setattr(torch, "compile", lambda module, **options: no_compiler)
    engine = cuda_engine(weights, "fp32")
    assert "does not work here, going on without it: Failed to find C compiler." in capsys.readouterr().out
    assert engine.run(random_images(4))["fc7"].shape == (4, 4096)


@pytest.mark.usefixtures("imitated")
def test_more_taps_than_torch_recompiles_by_itself(
    weights: Weights, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **options: real(module, backend="eager", **options))
    engine = cuda_engine(weights, "fp32")
    assert len(engine.network.segments) == 9  # torch's limit is 8
    assert "going on without" not in capsys.readouterr().out
    assert engine.run(random_images(4))["fc7"].shape == (4, 4096)
    torch.compiler.reset()


def test_full_precision_lasts_as_long_as_its_context() -> None:
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul

    def state() -> list[bool]:
        return [
            convolutions.allow_tf32, products.allow_tf32, products.allow_fp16_reduced_precision_reduction,
            products.allow_bf16_reduced_precision_reduction, convolutions.benchmark,
        ]  # fmt: skip

    before = state()
    torch.set_float32_matmul_precision("high")
    try:
        with cuda.reproducible():
            assert not any(state())
            assert convolutions.deterministic
        assert products.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
    assert state() == before


class Devices(TorchDispatchMode):
    """Notes where every tensor is made."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.seen.add(made.device.type)
        return made


def test_pooling_makes_nothing_on_the_host() -> None:
    with FakeTensorMode(), Devices() as devices:  # shapes and devices, without a device
        pooled = AdaptivePool()(torch.empty(2, 8, 3, 4, device="cuda"))
    assert pooled.shape == (2, 8, 7, 7)
    assert devices.seen == {"cuda"}


@pytest.fixture
def gpu() -> Iterator[str]:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    yield "cuda:0"
    torch.compiler.reset()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kernels compiled by one test serve the next: a second engine starts in seconds."""
    return tmp_path_factory.mktemp("compiled")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_precision_keeps_its_tolerance_on_a_gpu(
    precision: str, gpu: str, weights: Weights, compiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers, images = layers_of(*NAMES), random_images(4)
    engine = cuda_engine(weights, precision, gpu, compiled)
    assert "going on without" not in capsys.readouterr().out  # it was compiled
    assert any(compiled.iterdir())
    batch = np.zeros((engine.batch, *SIZE, 3), np.uint8)
    batch[:4] = images
    rows = engine.run(batch)
    for name, want in reference(weights, images, layers).items():
        error = error_of(rows[name], want)
        with capsys.disabled():
            print(f"\n{precision} {name:16s} {error:.1e} of at most {allowed(precision):.0e}", end="")
        assert error < allowed(precision), name
        assert rows[name].dtype == (np.float16 if precision == "fp16" else np.float32)


@pytest.mark.gpu
def test_gpu_numbers_are_the_same_again_and_wherever_an_image_stands(
    gpu: str, weights: Weights, compiled: Path
) -> None:
    engines = [cuda_engine(weights, "fp16", gpu, compiled) for _ in range(2)]
    images = random_images(engines[0].batch)
    batches = [images, np.roll(images, 5, axis=0), np.zeros_like(images), images]
    first, rolled, _, again = engines[0].stream(iter(batches))
    other = engines[1].run(images)
    for name in NAMES:
        np.testing.assert_array_equal(first[name], again[name])
        np.testing.assert_array_equal(first[name], other[name])
        np.testing.assert_array_equal(first[name], np.roll(rolled[name], -5, axis=0))


@pytest.mark.gpu
def test_threads_share_a_gpu(gpu: str, weights: Weights, compiled: Path) -> None:
    engine = cuda_engine(weights, "fp16", gpu, compiled)
    batches = [random_images(n) for n in (1, 2, 3)]
    alone = [engine.run(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(engine.run, batches * 10))
    for rows, expected in zip(found, alone * 10, strict=True):
        for name in NAMES:
            np.testing.assert_array_equal(rows[name], expected[name])


@pytest.mark.gpu
def test_gpu_out_of_memory_goes_on_with_less(
    gpu: str, weights: Weights, compiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = cuda_engine(weights, "fp16", gpu, compiled)
    images = random_images(engine.batch)
    whole = engine.run(images)
    in_use = torch.cuda.memory_reserved() / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.7 * in_use)
    try:
        parts = engine.run(images)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.start.size < engine.batch
    assert "out of GPU memory" in capsys.readouterr().out
    for name in NAMES:
        assert error_of(parts[name], whole[name].astype(np.float64)) < 2 * allowed("fp16"), name


@pytest.mark.gpu
def test_gpu_is_not_waited_for_before_rows_are_needed(gpu: str, weights: Weights, compiled: Path) -> None:
    engine = cuda_engine(weights, "fp16", gpu, compiled)
    images = torch.from_numpy(random_images(engine.batch)).pin_memory()
    torch.cuda.set_sync_debug_mode("error")  # whatever waits for the device raises
    try:
        flights = [engine.start(images) for _ in range(4)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert landed(flights[-1])["fc7"].shape == (engine.batch, 4096)
