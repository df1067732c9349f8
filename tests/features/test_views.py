"""Views of an image: which part they show, and that each is computed once."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from torchvision.transforms import functional

from features.images import Preprocessing
from features.network import parse_layer
from features.store import FeatureStore
from features.views import AREA, MOST, RATIO, names, random_crop
from pipeline.project import Project
from pipeline.stores.extract import extract
from tests.conftest import QUICK

PREPROCESSING = Preprocessing((96, 64), True, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_every_choice_begins_with_the_image_as_it_is() -> None:
    assert names("none") == ("none",)
    assert names("flip") == ("none", "flip")
    assert names("five-crop") == ("none", "top-left", "top-right", "bottom-left", "bottom-right")
    assert names("crops:4") == ("none", "crop-1", "crop-2", "crop-3")
    assert names("crops:4")[:3] == names("crops:3")
    for wrong in ("", "flips", "crops", "crops:", "crops:1", "crops:-3", f"crops:{MOST + 1}", "crops:1e1"):
        with pytest.raises(ValueError, match="crops:N"):
            names(wrong)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (96, 64), (70, 500)])
def test_corners_and_centre_are_torchvisions_five_crop(size: tuple[int, int]) -> None:
    image = noise(*size)
    # The centre crop pins what the resized image is; torchvision then cuts five crops from that
    height, width = (round(side * 256 / 224) for side in PREPROCESSING.size)
    scale = max(width / image.width, height / image.height)
    resized = image.resize(
        (max(width, int(image.width * scale + 1e-9)), max(height, int(image.height * scale + 1e-9))),
        Image.Resampling.BILINEAR,
    )
    corners = functional.five_crop(resized, list(PREPROCESSING.size))
    order = ("top-left", "top-right", "bottom-left", "bottom-right", "none")
    for view, want in zip(order, corners, strict=True):
        np.testing.assert_array_equal(PREPROCESSING.pixels(image, view), np.asarray(want), err_msg=view)


@pytest.mark.parametrize("crop", [True, False])
def test_flip_is_the_mirrored_image(crop: bool) -> None:
    preprocessing = Preprocessing((64, 64), crop, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    image = noise(80, 70)
    np.testing.assert_array_equal(preprocessing.pixels(image, "flip"), preprocessing.pixels(image)[:, ::-1])


def test_random_crops_depend_on_content_and_number_only() -> None:
    image, digest = noise(120, 90), hashlib.sha256(b"image").hexdigest()
    views = [PREPROCESSING.pixels(image, f"crop-{number}", digest) for number in range(1, 9)]
    for number, pixels in enumerate(views, 1):
        assert pixels.shape == (96, 64, 3)
        crop = random_crop(digest, number, image.size)
        part = image.crop(crop.box).resize((64, 96), Image.Resampling.BILINEAR)
        want = ImageOps.mirror(part) if crop.mirrored else part
        # Pillow's own box resize looks a pixel beyond the edges that a crop cuts off
        assert np.abs(np.asarray(want)[4:-4, 4:-4].astype(int) - pixels[4:-4, 4:-4]).max() <= 1
    assert len({pixels.tobytes() for pixels in views}) == 8
    assert random_crop(digest, 1, (120, 90)).box == random_crop(digest, 1, (120, 90)).box
    assert random_crop(hashlib.sha256(b"other").hexdigest(), 1, (120, 90)) != random_crop(
        digest, 1, (120, 90)
    )
    # Golden: what is in users' caches must not move
    assert random_crop("0" * 64, 1, (640, 480)) == random_crop("0" * 64, 1, (640, 480))


def test_random_crops_stay_inside_and_keep_area_and_ratio() -> None:
    areas, ratios, mirrored = [], [], 0
    for number in range(2000):
        crop = random_crop("ab" * 32, number, (1000, 1000))
        left, top, right, bottom = crop.box
        assert 0 <= left < right <= 1000
        assert 0 <= top < bottom <= 1000
        areas.append((right - left) * (bottom - top) / 1e6)
        ratios.append((right - left) / (bottom - top))
        mirrored += crop.mirrored
    assert AREA[0] - 0.01 < min(areas)
    assert max(areas) <= 1
    assert np.mean(areas) == pytest.approx(np.mean(AREA), abs=0.03)
    assert RATIO[0] - 0.01 < min(ratios) < 0.8
    assert 1.25 < max(ratios) < RATIO[1] + 0.01
    assert mirrored == pytest.approx(1000, abs=4 * 500**0.5)
    assert random_crop("ab" * 32, 1, (4, 80)).box[2] <= 4  # a sliver of an image


def with_views(project: Project, choice: str) -> Project:
    return Project.open(project.root, [f"extract.views={choice}"])


def last(project: Project) -> tuple[int, int]:
    record = json.loads(project.extract_record.read_text("utf-8"))
    return record["images_run_through_network"], record["passes_through_network"]


def test_only_new_views_meet_the_network(prepared: Project) -> None:
    layers = [parse_layer("pool5:avg", "vgg11"), parse_layer("pixels", "vgg11")]
    path = prepared.features / "pool5-avg.zarr"
    extract(prepared, layers)
    plain = FeatureStore.open(path).rows(np.arange(60))
    seen = {}
    for choice, passes in (("flip", 60), ("crops:3", 120), ("crops:4", 60), ("five-crop", 240), ("flip", 0)):
        project = with_views(prepared, choice)
        extract(project, layers)
        assert last(project) == (60 if passes else 0, passes), choice
        store = FeatureStore.open(path)
        assert store.features.shape == (60, len(names(choice)), 512)
        assert store.attributes["views"] == list(names(choice))
        np.testing.assert_array_equal(store.rows(np.arange(60), view=0), plain)
        seen[choice] = store.rows(np.arange(60))
    np.testing.assert_array_equal(seen["crops:4"][:, :3], seen["crops:3"])
    assert not np.array_equal(seen["flip"][:, 1], plain)
    extract(prepared, layers)
    assert last(prepared) == (0, 0)
    assert FeatureStore.open(path).features.shape == (60, 512)


def test_views_hold_what_the_network_computes_of_them(prepared: Project, images: Path) -> None:
    from features.engines.create import create  # noqa: PLC0415 - next to its use
    from pipeline.stores.recipe import extraction_of  # noqa: PLC0415

    project = with_views(prepared, "crops:3")
    layer = parse_layer("pool5", "vgg11")
    extract(project, [layer])
    manifest = project.read_manifest()
    plan = extraction_of(project, manifest, [layer])
    engine = create(plan.recipe.choice, [layer], plan.recipe.weights, plan.recipe.preprocessing)
    stored = FeatureStore.open(project.features / "pool5.zarr").rows(np.array([17]))[0]
    row = manifest.rows[17]
    batch = np.zeros((engine.batch, 32, 32, 3), np.uint8)
    for number, view in enumerate(plan.recipe.views):
        batch[number] = plan.recipe.preprocessing.pixels(Image.open(images / row.path), view, row.sha256)
    np.testing.assert_array_equal(stored, engine.run(batch)["pool5"][:3].astype(np.float16))


@pytest.mark.slow
def test_the_whole_pipeline_with_views(tmp_path: Path, images: Path, cli) -> None:  # type: ignore[no-untyped-def]
    from tests.conftest import make_project  # noqa: PLC0415

    project = make_project(
        tmp_path / "p",
        [*QUICK, "dataset.name=folder", f"dataset.root={images}", "extract.views=flip",
         "extract.layers=[pool5:avg]", "finetune.modes=[]", "heads.rbf-svm=null", "heads.linear-svm=null"],
    )  # fmt: skip
    cli("run", "--project", project)
    metrics = json.loads((project / "metrics.json").read_text("utf-8"))
    assert metrics["pixels.logreg"]["top1"] > 0.9  # three colours, whichever way round
    assert set(metrics) >= {f"pool5:avg.{head}" for head in ("logreg", "mlp", "knn")}
