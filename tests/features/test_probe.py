"""Another library under Pillow: activations are others, and it is said."""

from collections.abc import Iterator

import numpy as np
import PIL
import pytest
from PIL import Image

from features import probe
from features.network import parse_layer
from pipeline.checks import machine
from pipeline.predict.predictor import Predictor
from pipeline.project import Project
from pipeline.stores.extract import extract
from pipeline.stores.recipe import extraction_of
from pipeline.stores.verify import verify
from pipeline.tuning.train import train


@pytest.fixture
def other_resize(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Pillow whose resize is a level off, as another version's is on tall images."""
    resize = Image.Image.resize

    def off(image: Image.Image, size: tuple[int, int], *args: object, **named: object) -> Image.Image:
        resized = np.array(resize(image, size, *args, **named))
        resized[0, 0] ^= 1
        return Image.fromarray(resized)

    monkeypatch.setattr(Image.Image, "resize", off)
    probe.here.cache_clear()
    yield
    probe.here.cache_clear()


@pytest.mark.skipif(not PIL.__version__.startswith("13."), reason="the reference is Pillow 13")
def test_the_reference_has_the_words_that_stand_in_old_fingerprints() -> None:
    assert probe.here().words() == {"decoder": "pillow", "filter": "bilinear, antialiased"}
    assert probe.differences() == []


@pytest.mark.usefixtures("other_resize")
def test_other_bits_are_named() -> None:
    assert probe.here().decoder == "pillow"  # the decoder is as it was
    assert probe.here().filter.startswith("bilinear, antialiased, other bits: ")
    assert [finding.mark for finding in machine.pixels()] == ["note"]


def test_activations_of_other_bits_are_kept_apart(
    prepared: Project, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = parse_layer("pool5", "vgg11")
    extract(prepared, [layer])
    capsys.readouterr()
    manifest = prepared.read_manifest()
    before = extraction_of(prepared, manifest, [layer])
    request.getfixturevalue("other_resize")
    now = extraction_of(prepared, manifest, [layer])
    assert not before.found(layer, "none").missing.any()
    assert now.found(layer, "none").missing.all()  # not one row of the other bits is taken for ours
    # The store that stands there is sound, and no row of it is blamed on the network
    assert verify(prepared, ["pool5"], rows=4)
    assert "pool5 is sound" in (said := capsys.readouterr().out)
    assert "another Pillow" in said
    # Extraction that has something to do says so
    extract(prepared, [parse_layer("pool4:avg", "vgg11")])
    assert "resizes images to other bits than the reference" in capsys.readouterr().out


def test_a_head_of_elsewhere_answers_and_says_so(prepared: Project, request: pytest.FixtureRequest) -> None:
    layer = parse_layer("pool5", "vgg11")
    extract(prepared, [layer, parse_layer("fc7", "vgg11"), parse_layer("pixels", "vgg11")])
    train(prepared, "logreg")
    paths = sorted(prepared.dataset_root.glob("*/0*.png"))
    here = Predictor(prepared, "pool5.logreg")
    assert here.method.note == ""
    request.getfixturevalue("other_resize")
    elsewhere = Predictor(prepared, "pool5.logreg")
    assert "another Pillow decoded and resized" in elsewhere.method.note
    np.testing.assert_allclose(elsewhere.predict_proba(paths), here.predict_proba(paths), atol=0.05)
