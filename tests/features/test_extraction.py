"""Cache, extraction and store, with real files and an untrained vgg11."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from features.engines.create import create
from features.errors import BadInput
from features.network import parse_layer
from features.publish import delete
from features.store import FeatureStore
from pipeline.project import Project
from pipeline.stores.extract import extract
from pipeline.stores.recipe import extraction_of
from tests.conftest import QUICK, REPOSITORY, Cli, bytes_of, make_project, ready


def run_through_network(project: Project) -> int:
    return int(json.loads(project.extract_record.read_text("utf-8"))["images_run_through_network"])


def test_store_holds_what_the_network_computes(prepared: Project) -> None:
    extract(prepared, prepared.layers)
    manifest = prepared.read_manifest()
    for layer in prepared.layers:
        opened = FeatureStore.open(prepared.features / f"{layer.stem}.zarr")
        assert opened.ids == [row.id for row in manifest.rows]
        np.testing.assert_array_equal(opened.labels, manifest.labels)
        assert opened.attributes["weights"] == ("none" if layer.name == "pixels" else "random")
        rows = opened.rows(np.arange(len(manifest)))
        assert rows.dtype == np.float32
        plan = extraction_of(prepared, manifest, [layer])
        if layer.needs_network:
            engine = create(plan.recipe.choice, [layer], plan.recipe.weights, plan.recipe.preprocessing)
            image = plan.recipe.preprocessing.pixels(
                Image.open(prepared.dataset_root / manifest.rows[7].path)
            )
            batch = np.zeros((engine.batch, *image.shape), np.uint8)
            batch[0] = image
            np.testing.assert_array_equal(rows[7], engine.run(batch)[layer.name][0].astype(np.float16))
        np.testing.assert_array_equal(rows, plan.activations(layer))
        np.testing.assert_array_equal(opened.where("test"), manifest.where("test"))


def test_every_image_meets_the_network_once(prepared: Project, images: Path, cli: Cli) -> None:
    layers = [parse_layer("pool5", "vgg11")]
    extract(prepared, layers)
    assert run_through_network(prepared) == 60
    before = prepared.extract_record.read_bytes()
    assert extract(prepared, layers) is None
    assert prepared.extract_record.read_bytes() == before  # untouched by a no-op
    delete(prepared.features / "pool5.zarr")
    extract(prepared, layers)
    assert run_through_network(prepared) == 0
    # Two new images, one of them twice: two meet the network, and old rows keep their bits
    old = FeatureStore.open(prepared.features / "pool5.zarr")
    rows, ids = old.rows(np.arange(60)), old.ids
    for name, colour in (("new.png", "orange"), ("again.png", "orange"), ("other.png", "purple")):
        Image.new("RGB", (40, 40), colour).save(images / "red" / name)
    cli("prepare", "--project", prepared.root)
    extract(prepared, layers)
    assert run_through_network(prepared) == 2
    new = FeatureStore.open(prepared.features / "pool5.zarr")
    assert len(new.ids) == 63
    places = np.array([new.ids.index(name) for name in ids])
    np.testing.assert_array_equal(new.rows(np.arange(63))[places], rows)


def test_another_project_with_the_same_images_computes_nothing(
    prepared: Project, images: Path, tmp_path: Path, vgg11_weights: Path
) -> None:
    extract(prepared, prepared.layers)
    other = make_project(tmp_path / "other", [*QUICK, "dataset.name=folder", f"dataset.root={images}"])
    opened = ready(other, vgg11_weights)
    extract(opened, opened.layers)
    assert run_through_network(opened) == 0
    assert bytes_of(other / "artifacts" / "features") == bytes_of(prepared.features)


def test_second_writer_is_refused(prepared: Project, cli: Cli) -> None:
    with prepared.writing(prepared.features):
        done = cli("extract", "--project", prepared.root, code=2)
    assert "another process is writing" in done.stderr
    cli("extract", "--project", prepared.root)


def test_changed_and_deleted_images_are_named(prepared: Project, images: Path) -> None:
    layers = [parse_layer("pool1:avg", "vgg11")]
    victim = images / "green" / "03.png"
    original = victim.read_bytes()
    Image.new("RGB", (40, 40), "black").save(victim)
    with pytest.raises(BadInput, match=r"03\.png has changed.*prepare"):
        extract(prepared, layers)
    victim.unlink()
    with pytest.raises(BadInput, match=r"03\.png is gone.*prepare"):
        extract(prepared, layers)
    victim.write_bytes(original)
    extract(prepared, layers)


def test_overflow_names_layer_image_and_remedy(prepared: Project, cli: Cli) -> None:
    # Weights a thousandfold: beyond float16 after three layers
    file = prepared.root / "large.safetensors"
    tensors = load_file(prepared.weights_folder / "vgg11.safetensors")
    save_file({k: v * 1000 if "weight" in k else v for k, v in tensors.items()}, file)
    options = ["--project", prepared.root, "-S", "weights.sources=[file]", "-S", f"weights.file={file}"]
    cli("weights", *options)
    done = cli("extract", "--layer", "pool3", *options, code=2)
    assert (
        "pool3 of blue/00.png holds a value that float16 cannot; set extract.dtype to float32" in done.stderr
    )
    cli("extract", "--layer", "pool3", *options, "-S", "extract.dtype=float32")
    options += ["-S", "extract.dtype=float32", "-S", "extract.precision=fp16"]
    done = cli("extract", "--layer", "pool3", *options, code=2)
    assert "cannot; set extract.precision to bf16 or fp32, or check the weights" in done.stderr


def test_damaged_block_is_computed_again(prepared: Project, capsys: pytest.CaptureFixture[str]) -> None:
    layer = parse_layer("pool5", "vgg11")
    extract(prepared, [layer])
    want = bytes_of(prepared.features)
    plan = extraction_of(prepared, prepared.read_manifest(), [layer])
    rows = next(plan.blocks["pool5", "none"].folder.glob("*/rows.npy"))
    data = bytearray(rows.read_bytes())
    data[-5] ^= 4
    rows.write_bytes(data)
    delete(prepared.features / "pool5.zarr")
    extract(prepared, [layer])
    assert "is damaged; its images will be computed again" in capsys.readouterr().out
    assert run_through_network(prepared) == 60
    assert bytes_of(prepared.features) == want


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path, vgg11_weights: Path) -> None:
    peaks = []
    for number in (1, 6):
        root = tmp_path / f"{number}"
        rng = np.random.default_rng(number)
        for name in "ab":
            (root / name).mkdir(parents=True)
            for k in range(200 * number):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / name / f"{k}.png")
        folder = make_project(
            tmp_path / f"p{number}", [*QUICK, "dataset.name=folder", f"dataset.root={root}"]
        )
        ready(folder, vgg11_weights)
        code = (
            "import resource, sys; sys.argv[1:] = ['extract', '--layer', 'pool2', '--project', sys.argv[1]]\n"
            "import cli\n"
            "try: cli.main()\n"
            "except SystemExit: pass\n"
            "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout.rsplit("peak ", 1)[1]))
    # 2,000 images more: their rows are 64 MB as computed, 32 MB as stored, in one shard
    assert peaks[1] - peaks[0] < 50_000  # kB


def test_the_same_bytes_whatever_the_size_of_blocks_and_the_number_of_workers(
    prepared: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(prepared, prepared.layers)
    want = bytes_of(prepared.features)
    for number, (images, workers) in enumerate(((64, 1), (1, 3))):
        monkeypatch.setenv("PENULTIMATE_CACHE", str(tmp_path / f"cache {number}"))
        monkeypatch.setattr("features.forward.BLOCK_IMAGES", images)
        monkeypatch.setattr("features.batches.DECODERS", workers)
        monkeypatch.setattr("features.batches.AHEAD", workers)
        for layer in prepared.layers:
            delete(prepared.features / f"{layer.stem}.zarr")
        extract(prepared, prepared.layers)
        assert run_through_network(prepared) == 60
        assert bytes_of(prepared.features) == want


def test_what_is_no_number_never_reaches_the_store(prepared: Project, cli: Cli) -> None:
    # Finite weights, and an infinite activation: beyond float32 after a few layers
    file = prepared.root / "huge.safetensors"
    tensors = load_file(prepared.weights_folder / "vgg11.safetensors")
    save_file({k: v * np.float32(1e12) if "weight" in k else v for k, v in tensors.items()}, file)
    options = ["--project", prepared.root, "-S", "weights.sources=[file]", "-S", f"weights.file={file}"]
    cli("weights", *options)
    done = cli("extract", "--layer", "pool5", "-S", "extract.dtype=float32", *options, code=2)
    assert "pool5 of blue/00.png holds a value that float32 cannot; check the weights" in done.stderr
    assert not (prepared.features / "pool5.zarr").exists()


def test_profile_says_where_the_time_went(prepared: Project, cli: Cli) -> None:
    command = ["extract", "--layer", "pool1", "--layer", "pool2", "--profile", "--project", prepared.root]
    shown = cli(*command).stdout
    record = json.loads(prepared.extract_record.read_text("utf-8"))
    seconds = record["seconds_by_stage"]
    for stage in ("load", "decode", "forward", "write", "publish"):
        assert seconds[stage] > 0
        assert f"{stage:>9s}{seconds[stage]:10.2f} s" in shown
    passed = seconds["load"] + seconds["waiting"] + seconds["forward"] + seconds["blocked"]
    assert passed <= record["seconds"] <= passed + 0.5
    # vgg11 up to pool2 at 32 px: conv1_1 on 32 × 32, conv2_1 on 16 × 16
    gflop = 60 * 2 * 9 * (3 * 64 * 32**2 + 64 * 128 * 16**2) / 1e9
    assert record["gflops_per_second"] == pytest.approx(
        gflop / (seconds["waiting"] + seconds["forward"]), rel=0.05
    )
    assert f"of the {record['peak_gflops_per_second']:.0f} that one large matrix product" in shown
    before = prepared.extract_record.read_bytes()
    assert "nothing to do" in cli(*command).stdout
    assert prepared.extract_record.read_bytes() == before
