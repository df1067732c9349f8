"""Every engine, every layer, against torchvision's own forward pass."""

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from features.engines.base import Engine
from features.engines.choice import Choice, choose, tolerance
from features.engines.create import create
from features.errors import BadInput
from features.images import Preprocessing
from features.network import Layer, parse_layer, steps, whole
from features.sources import Request, obtain, write
from features.weights import Weights
from tests.conftest import as_trained

SUFFIXES = ("", ":pre", ":avg", ":max", ":pre:avg", ":pre:max")
TOLERANCE = 1e-5  # of a layer's largest value: fp32 rounding over up to 25,088 terms, ten times over


def every_layer(network: str) -> list[Layer]:
    found = []
    for step in steps(network):
        for suffix in SUFFIXES:
            try:
                found.append(parse_layer(step.name + suffix, network))
            except BadInput:
                continue
    return found


@pytest.fixture(scope="module")
def weights_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Weights]:
    @cache
    def make(network: str) -> Weights:
        folder = tmp_path_factory.mktemp(network)
        obtained = obtain(Request(network, ("random",), None, None, 0), folder)
        as_trained(obtained.tensors)
        write(obtained, folder / "weights", folder / "scratch", {})
        return Weights.open(folder / "weights")

    return make


@pytest.fixture
def weights(weights_of: Callable[[str], Weights]) -> Weights:
    return weights_of("vgg16")


def reference(weights: Weights, pixels: np.ndarray) -> dict[str, torch.Tensor]:
    """Every step's output before (`:pre`) and after its ReLU, by torchvision in float64."""
    with torch.device("meta"):
        model = torchvision.models.get_model(weights.network, weights=None)
    state = weights.state(whole(weights.network))
    model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, assign=True)
    model.eval().double().requires_grad_(False)
    mean, std = (torch.tensor(values).double()[:, None, None] for values in weights.normalisation)
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).double() - mean) / std
    table = iter(steps(weights.network))
    found: dict[str, torch.Tensor] = {}
    step = None
    for module in [*model.features, model.avgpool, nn.Flatten(), *model.classifier]:
        x = torch.relu(x) if isinstance(module, nn.ReLU) else module(x)
        if isinstance(module, nn.Conv2d | nn.Linear | nn.MaxPool2d):
            step = next(table)
            found[f"{step.name}:pre" if step.relu else step.name] = x
        elif isinstance(module, nn.BatchNorm2d) and step is not None:
            found[f"{step.name}:pre"] = x
        elif isinstance(module, nn.ReLU) and step is not None:
            found[step.name] = x
    assert next(table, None) is None
    return found


def expected(layer: Layer, outputs: dict[str, torch.Tensor]) -> np.ndarray:
    x = outputs[f"{layer.step}:pre" if layer.pre else layer.step]
    if layer.pooling:
        x = (
            nn.functional.adaptive_avg_pool2d(x, 1)
            if layer.pooling == "avg"
            else nn.functional.adaptive_max_pool2d(x, 1)
        )
    return np.asarray(x.flatten(1).numpy())


def engine_of(name: str, layers: list[Layer], weights: Weights, size: tuple[int, int]) -> Engine:
    pytest.importorskip(
        "numba" if name == "winograd" else "torch", reason="numba has no wheel for this machine"
    )
    preprocessing = Preprocessing(size, True, *weights.normalisation)
    return create(Choice(name, "cpu", "fp32", ""), layers, weights, preprocessing)


@pytest.mark.parametrize(
    ("network", "convolutions", "size"),
    [
        pytest.param("vgg16", 13, (224, 224), marks=pytest.mark.slow),
        ("vgg16", 13, (40, 70)),
        pytest.param("vgg16", 13, (32, 32), marks=pytest.mark.slow),
        ("vgg16_bn", 13, (32, 32)),
        pytest.param("vgg11_bn", 8, (40, 70), marks=pytest.mark.slow),
    ],
)
def test_every_layer_equals_torchvision(
    network: str, convolutions: int, size: tuple[int, int], weights_of: Callable[[str], Weights]
) -> None:
    weights, layers = weights_of(network), every_layer(network)
    assert len(layers) == convolutions * 6 + 5 * 3 + 2 * 2 + 1
    large = size[0] > 100
    images = np.random.default_rng(1).integers(0, 256, (1 if large else 2, *size, 3), dtype=np.uint8)
    outputs = reference(weights, images)
    # In two halves where all flattened layers of a whole batch at once would take gigabytes
    parts = (layers[::2], layers[1::2]) if large else (layers,)
    for name, part in itertools.product(("torch", "winograd"), parts):
        engine = engine_of(name, part, weights, size)
        rows = engine.run(images)
        assert set(rows) == {layer.name for layer in part}
        for layer in part:
            want = expected(layer, outputs)
            assert rows[layer.name].shape == (len(images), layer.width(size))
            error = np.abs(rows[layer.name] - want).max() / np.abs(want).max()
            assert error < TOLERANCE, f"{layer.name} by {name}"


@pytest.mark.parametrize("name", ["torch", "winograd"])
def test_an_image_has_the_same_bits_wherever_it_stands(name: str, weights: Weights) -> None:
    layers = [parse_layer(layer, "vgg16") for layer in ("conv3_1", "conv4_1:avg", "pool5", "fc6", "fc7")]
    engine = engine_of(name, layers, weights, (48, 48))
    images = np.random.default_rng(2).integers(0, 256, (engine.batch, 48, 48, 3), dtype=np.uint8)
    together = engine.run(images)
    everyone = np.arange(engine.batch)
    for order in (everyone[:1], everyone[:7], everyone[::-1]):
        rows = engine.run(images[order])
        for layer in layers:
            np.testing.assert_array_equal(rows[layer.name], together[layer.name][order])


def test_reduced_precision_is_close(weights: Weights) -> None:
    layer = parse_layer("pool5", "vgg16")
    images = np.random.default_rng(3).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    preprocessing = Preprocessing((32, 32), True, *weights.normalisation)
    engine = create(Choice("torch", "cpu", "bf16", ""), [layer], weights, preprocessing)
    rows = engine.run(images)["pool5"][:2]
    want = expected(layer, reference(weights, images))
    assert np.abs(rows - want).max() / np.abs(want).max() < 0.05  # bf16 has 8 bits, over 13 layers
    assert rows.dtype == np.float32


def test_auto_is_a_rule_of_the_device() -> None:
    pytest.importorskip("numba")
    assert choose("auto", "cpu", "fp32").numerics == "winograd-fp32/1"
    assert choose("auto", "cpu", "bf16").numerics == "torch-bf16/1"
    assert choose("torch", "cpu", "fp32").name == "torch"


def test_every_choice_states_its_tolerance() -> None:
    for precision in ("fp32", "fp16", "bf16"):
        assert tolerance(choose("torch", "cpu", precision).numerics) > 0
    pytest.importorskip("numba")
    assert tolerance(choose("winograd", "cpu", "fp32").numerics) > 0


def test_what_cannot_be_had_together_is_refused() -> None:
    with pytest.raises(BadInput, match="fp32 only"):
        choose("winograd", "cpu", "bf16")
    with pytest.raises(BadInput, match="this machine has"):
        choose("auto", "cuda:99", "fp32")


def test_weights_file_changed_after_the_fact_is_refused(weights: Weights, tmp_path: Path) -> None:
    copy = tmp_path / "vgg16.safetensors"
    data = bytearray(weights.file.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    with pytest.raises(BadInput, match=r"not what provenance\.json says"):
        Weights(copy, weights.provenance).tensors(whole("vgg16"))
