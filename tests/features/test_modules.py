"""The table as torch modules: a frozen prefix and a tail in training, against torchvision's own network."""

import numpy as np
import torch
import torchvision
from torch import nn

from features.modules import build
from features.network import prefix
from features.sources import initialise
from features.weights import folded
from tests.conftest import as_trained


def test_step_of_a_tail_with_batch_norm_is_torchvisions() -> None:
    path = prefix("vgg11_bn", "pool5")
    state = initialise("vgg11_bn", 0, list(path))
    as_trained(state)
    cut = [step.name for step in path].index("conv3_1") + 1
    start = int(path[cut].key.removeprefix("features."))  # of the tail in torchvision's Sequential
    with torch.device("meta"):
        theirs = torchvision.models.vgg11_bn(weights=None).features
    theirs.load_state_dict(
        {name.removeprefix("features."): torch.from_numpy(value.copy()) for name, value in state.items()},
        assign=True,
    )
    theirs.double().eval().requires_grad_(False)
    theirs[start:].train().requires_grad_(True)
    tensors = {name: tensor for step in path[:cut] for name, tensor in folded(step, state).items()}
    frozen = build(path[:cut], tensors).double().eval().requires_grad_(False)
    tail = build(path[cut:], state).double().train()
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(4, 3, 32, 32)))
    target = torch.from_numpy(rng.normal(size=(4, 512, 1, 1)))
    before = {name: tensor.clone() for name, tensor in tail.state_dict().items()}
    for network in (theirs, nn.Sequential(frozen, tail)):
        optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1.0)
        nn.functional.mse_loss(network(images), target).backward()
        optimiser.step()
    names = {step.key: step.name for step in path} | {step.norm: f"{step.name}_norm" for step in path}
    trained, compared = tail.state_dict(), set()
    for name, want in theirs[start:].state_dict().items():  # a slice keeps its positions
        position, _, kind = name.partition(".")
        ours = f"{names[f'features.{position}']}.{kind}"
        torch.testing.assert_close(
            trained[ours], want, rtol=1e-5, atol=1e-6, msg=lambda m, ours=ours: f"{ours}: {m}"
        )
        bias_before_norm = kind == "bias" and not ours.endswith("norm.bias")  # has no gradient
        assert bias_before_norm or not torch.equal(want, before[ours]), ours
        compared.add(ours)
    assert compared == set(trained)
    # Evaluation mode uses the statistics that this step has moved
    with torch.inference_mode():
        torch.testing.assert_close(tail.eval()(frozen(images)), theirs.eval()(images), rtol=1e-5, atol=1e-6)


def test_fold_by_hand() -> None:
    step = prefix("vgg11_bn", "conv1_1")[0]
    state = initialise("vgg11_bn", 0, [step])
    weight, bias, gamma, beta, mean, variance = (state[name] for name in step.state)
    bias[0], gamma[0], beta[0], mean[0], variance[0] = 3, -2, 10, 1, 0.25 - 1e-5
    tensors = folded(step, state)
    np.testing.assert_allclose(tensors["features.0.weight"][0], -4 * weight[0], rtol=1e-6)
    assert tensors["features.0.bias"][0] == np.float32(-4 * (3 - 1) + 10)
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}
