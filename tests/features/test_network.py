"""The table of layers against torchvision's own networks."""

import pytest
import torch
import torchvision

from features.errors import BadInput
from features.network import CONVOLUTIONS, NETWORKS, parse_layer, steps, tensor_shapes, whole


@pytest.mark.parametrize("network", NETWORKS)
def test_parameters_are_those_of_torchvision(network: str) -> None:
    with torch.device("meta"):
        expected = torchvision.models.get_model(network, weights=None).state_dict()
    assert tensor_shapes(network) == {
        name: tuple(tensor.shape)
        for name, tensor in expected.items()
        if not name.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize("network", CONVOLUTIONS)
def test_layers_are_the_same_with_batch_norm(network: str) -> None:
    names = [step.name for step in steps(network)]
    assert [step.name for step in steps(f"{network}_bn")] == names
    assert ("conv3_4" in names) == ("conv5_4" in names) == (network == "vgg19")
    assert whole(f"{network}_bn").gflops((64, 64)) == whole(network).gflops((64, 64))  # it is folded


def test_names_of_vgg16() -> None:
    names = [step.name for step in steps("vgg16")]
    assert names[:3] == ["conv1_1", "conv1_2", "pool1"]
    assert names[-4:] == ["pool5", "fc6", "fc7", "fc8"]
    assert len([name for name in names if name.startswith("conv")]) == 13


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("pool5", (224, 224), (512, 7, 7)),
        ("pool5", (32, 32), (512, 1, 1)),
        ("conv4_3:pre", (75, 101), (512, 9, 12)),
        ("conv5_3:pre:max", (224, 224), (512,)),
        ("fc7", (48, 48), (4096,)),
        ("pixels", (224, 224), (32, 32, 3)),
    ],
)
def test_shapes(name: str, size: tuple[int, int], shape: tuple[int, ...]) -> None:
    layer = parse_layer(name, "vgg16")
    assert layer.name == name
    assert layer.shape(size) == shape


def test_gflops_are_the_published_ones() -> None:
    # torchvision documents 15.47 giga multiply-accumulates for VGG16 at 224 px
    assert whole("vgg16").gflops((224, 224)) == pytest.approx(2 * 15.47, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fc9", "did you mean 'fc8'"),
        ("conv3-3", "did you mean 'conv3_3'"),
        ("fc8:pre", "fc8 or no suffix"),
        ("fc7:avg", "fc7 or fc7:pre"),
        ("pool5:pre", "pool5:avg, pool5:max"),
        ("conv5_3:max:pre", "conv5_3:pre:max"),
        ("conv3_4", "did you mean"),
    ],
)
def test_unknown_names_offer_the_right_one(name: str, said: str) -> None:
    with pytest.raises(BadInput, match=r"does not exist|there is no layer") as refused:
        parse_layer(name, "vgg16")
    assert said in str(refused.value)
