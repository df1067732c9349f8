"""Modes of fine-tuning: where they cut, what they stand on, what is refused."""

import itertools
from pathlib import Path

import pytest

from features.cuts import cuts_below, parse_mode, top_layer
from features.errors import BadInput
from features.weights import Weights

MODES = ("full", "scratch", "freeze:conv4_1", "dense")


def weights(tmp_path: Path, dense: str) -> Weights:
    """VGG16 whose dense layers are of this origin."""
    layers = {f"conv{block}_{number}": "imagenet" for block in range(1, 6) for number in (1, 2, 3)}
    layers |= dict.fromkeys(("fc6", "fc7", "fc8"), dense)
    return Weights(tmp_path, {"network": "vgg16", "layers": layers})


def test_one_axis_from_the_image_to_the_last_hidden_layer() -> None:
    cuts = [parse_mode(name, "vgg16").cut for name in ("full", "scratch", "dense", "freeze:conv3_1")]
    assert cuts == ["pixels", "pixels", "pool5", "conv3_1"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("freeze:conv9_1", "freeze:conv"),
        ("fulll", "full"),
        ("freeze:fc8", "freeze:fc"),
        ("freeze:conv3_1:pre", "freeze:conv3_1"),
        ("freeze", "freeze:"),
    ],
)
def test_unknown_modes_are_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(BadInput, match=rf"no mode '{name}' with vgg16; did you mean '{near}"):
        parse_mode(name, "vgg16")
    with pytest.raises(BadInput, match="no mode 'freeze:conv3_3' with vgg13"):
        parse_mode("freeze:conv3_3", "vgg13")


def test_where_the_output_layer_stands(tmp_path: Path) -> None:
    untrained, trained = weights(tmp_path, "untrained"), weights(tmp_path, "imagenet")
    stands = {
        (mode, top): top_layer(top, parse_mode(mode, "vgg16"), untrained).name
        for mode, top in itertools.product(MODES, ("auto", "pool5", "fc7"))
    }
    on_dense = {pair for pair, layer in stands.items() if layer == "fc7"}
    assert on_dense == {*((mode, "fc7") for mode in MODES), ("dense", "auto"), ("dense", "pool5")}
    assert top_layer("auto", parse_mode("freeze:conv4_1", "vgg16"), trained).name == "fc7"
    assert top_layer("auto", parse_mode("freeze:fc6", "vgg16"), trained).name == "fc7"


def test_cuts_that_leave_nothing_or_freeze_noise_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"freezes fc6, which the weights do not hold: they end at pool5"):
        top_layer("auto", parse_mode("freeze:fc6", "vgg16"), weights(tmp_path, "untrained"))
    with pytest.raises(BadInput, match=r"finetune.top puts .* on pool5; set finetune.top to fc7"):
        top_layer("pool5", parse_mode("freeze:fc7", "vgg16"), weights(tmp_path, "imagenet"))


def test_a_sweep_has_every_layer_with_parameters(tmp_path: Path) -> None:
    top = top_layer("auto", parse_mode("full", "vgg16"), weights(tmp_path, "untrained"))
    cuts = cuts_below(top)
    assert cuts[0] == "full"
    assert [cut for cut in cuts if "conv3" in cut] == ["freeze:conv3_1", "freeze:conv3_2", "freeze:conv3_3"]
    assert len(cuts) == 1 + 13
    higher = top_layer("auto", parse_mode("full", "vgg16"), weights(tmp_path, "imagenet"))
    assert len(cuts_below(higher)) == 1 + 15
