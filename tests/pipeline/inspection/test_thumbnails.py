import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.images import decode
from pipeline.datasets.prepare import prepare
from pipeline.inspection import thumbnails
from pipeline.inspection.thumbnails import Thumbnails
from pipeline.project import Project
from tests.conftest import QUICK, make_project
from tests.pipeline.inspection.test_inspection import Set, photographs


def picture(uri: str | None) -> Image.Image:
    assert uri is not None
    head, _, body = uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def prepared_on(folder: Path, root: Path) -> Thumbnails:
    project = Project.open(make_project(folder, [*QUICK, "dataset.name=folder", f"dataset.root={root}"]))
    return Thumbnails(project, prepare(project))


def test_shows_the_image_of_its_row(tmp_path: Path, images: Path):
    made = prepared_on(tmp_path / "project", images)
    for number, row in enumerate(made.manifest.rows[::7]):
        shown = np.asarray(picture(made.uri(7 * number)), float)
        original = np.asarray(Image.open(images / row.path), float)
        assert shown.shape == original.shape  # 48 × 40: enlarged by whole numbers only
        assert np.abs(shown.mean((0, 1)) - original.mean((0, 1))).max() < 4
    assert list(made.used) == list(range(0, 60, 7))


def test_large_ones_are_reduced_and_small_ones_stay_sharp(tmp_path: Path):
    root = tmp_path / "images"
    for shade, name in enumerate(("a", "b")):
        (root / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (640, 320), (10 * number, 90 + shade, 200)).save(
                root / name / f"{name}{number}.png"
            )
    board = np.kron(np.eye(2), np.ones((4, 4)))[..., None] * np.ones(3)
    Image.fromarray((255 * board).astype(np.uint8)).save(root / "a" / "tiny.png")
    made = prepared_on(tmp_path / "project", root)
    tiny = next(number for number, row in enumerate(made.manifest.rows) if row.path == "a/tiny.png")
    assert picture(made.uri(0)).size == (64, 32)
    enlarged = np.asarray(picture(made.uri(tiny)).convert("L"), int)
    assert enlarged.shape == (64, 64)
    expected = 255 * np.kron(np.eye(2), np.ones((32, 32)))
    assert np.abs(enlarged - expected).max() < 16


def test_a_jpeg_that_is_decoded_small_is_the_same_picture(tmp_path: Path):
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((1200, 900))
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright
    file = io.BytesIO()
    colours.save(file, "JPEG", quality=95, exif=turned)
    whole, small = decode(file.getvalue()).image, decode(file.getvalue(), at_least=128).image
    assert whole.size == (900, 1200)
    assert small.size == (225, 300)
    reduced = whole.resize(small.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(reduced, float) - np.asarray(small, float)).mean() < 2


def test_what_cannot_be_read_any_more_is_counted_once(tmp_path: Path, images: Path):
    made = prepared_on(tmp_path / "project", images)
    (images / made.manifest.rows[0].path).unlink()
    (images / made.manifest.rows[1].path).write_bytes((images / made.manifest.rows[2].path).read_bytes())
    assert [made.uri(row) for row in (0, 0, 1)] == [None] * 3
    assert made.missing == 2
    assert made.uri(2)
    assert list(made.used) == [2]


def test_same_images_same_text(tmp_path: Path, images: Path):
    first, second = (prepared_on(tmp_path / name, images) for name in "xy")
    assert [first.uri(row) for row in range(9)] == [second.uri(row) for row in range(9)]


@pytest.mark.parametrize(("what", "value"), [("LIMIT", 3), ("MEGAPIXELS", 3 * 48 * 40 / 1e6)])
def test_a_page_holds_so_many(tmp_path: Path, images: Path, monkeypatch, what: str, value: float):
    made = prepared_on(tmp_path / "project", images)
    monkeypatch.setattr(thumbnails, what, value)
    assert [bool(made.uri(row)) for row in range(5)] == [True] * 3 + [False] * 2
    assert made.uri(0)  # one that is there already stays
    assert made.missing == 0


def test_beyond_what_may_be_decoded_the_stored_pixels_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pixels = photographs(4)
    some = Set(tmp_path / "project", ["a", "b", "a", "b"], ["train"] * 4)
    some.store("pixels", pixels.reshape(4, -1))
    monkeypatch.setattr(thumbnails, "MEGAPIXELS", 0)
    made = Thumbnails(some.project, some.manifest)
    shown = np.asarray(picture(made.uri(2)).resize((32, 32), Image.Resampling.BOX), float)
    assert np.abs(shown - 255 * pixels[2]).mean() < 8
    np.testing.assert_allclose(made.grey(np.array([3, 0])), pixels[[3, 0]].mean(axis=3), atol=1e-3)


def test_without_stored_pixels_the_images_are_compared(tmp_path: Path, images: Path):
    made = prepared_on(tmp_path / "project", images)
    (images / made.manifest.rows[1].path).unlink()
    values = made.grey(np.array([0, 1]))
    original = np.asarray(Image.open(images / made.manifest.rows[0].path).convert("L"), float) / 255
    assert values[0].mean() == pytest.approx(original.mean(), abs=0.01)
    assert np.isnan(values[1]).all()
