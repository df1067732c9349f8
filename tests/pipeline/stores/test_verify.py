"""`verify` and `info`: every bit that a store rests on, found and repaired; what a store holds."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from features import digests
from features.cache import Blocks
from features.errors import BadInput
from features.network import parse_layer
from features.store import FeatureStore
from features.summary import summarise
from features.verify import check_files
from pipeline.project import Project
from pipeline.stores.extract import extract
from pipeline.stores.info import info
from pipeline.stores.recipe import extraction_of
from pipeline.stores.verify import verify
from tests.conftest import QUICK, Cli, make_images, make_project, ready


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, vgg11_weights: Path) -> Path:
    """A project with its stores, its images beside it, and its cache; to be copied."""
    folder = tmp_path_factory.mktemp("extracted")
    make_images(folder / "images")
    settings = [*QUICK, "dataset.name=folder", "dataset.root=../images"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENULTIMATE_CACHE", str(folder / "cache"))
        project = ready(make_project(folder / "project", settings), vgg11_weights)
        extract(project, project.layers)
    shutil.rmtree(project.weights_folder)  # half a gigabyte, which each copy links
    return folder


@pytest.fixture
def extracted(once: Path, vgg11_weights: Path, tmp_path: Path) -> Project:
    """A copy of it, of this test alone."""
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    project = Project.open(tmp_path / "project")
    shutil.copytree(vgg11_weights, project.weights_folder, copy_function=os.link)
    return project


def flip(file: Path, position: float) -> None:
    """Turn one bit of a file around; not in place, since files may be hard links."""
    data = bytearray(file.read_bytes())
    data[int(position * (len(data) - 1))] ^= 4
    file.unlink()
    file.write_bytes(data)


def test_sound_stores(extracted: Project, cli: Cli) -> None:
    said = cli("verify", "--project", extracted.root).stdout
    for name in ("pool5", "fc7", "pixels"):
        assert f"verify: {name} is sound: 60 rows" in said
    assert said.count("8 rows computed again, largest difference 0") == 3


def test_a_flipped_bit_in_any_file_of_a_store_is_found(extracted: Project) -> None:
    store = extracted.features / "pool5.zarr"
    listed = digests.digest_file(store)
    content = {file: file.read_bytes() for file in [*digests.files(store).values(), listed]}
    assert len(content) == 12  # the group, five arrays, their shards, the digests
    assert check_files(store) == []
    for file, sound_bytes in content.items():
        for position in np.linspace(0, 1, 9):
            flip(file, position)
            found = check_files(store)
            assert found, f"{file} at {position}"
            assert file == listed or str(file) in found[0]
            file.write_bytes(sound_bytes)


@pytest.mark.parametrize("name", ["pool5/c/0/0", "label/c/0", "pool5/zarr.json"])
def test_repair_builds_the_same_bytes(
    name: str, extracted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    store = extracted.features / "pool5.zarr"
    want = {name: file.read_bytes() for name, file in digests.files(store).items()}
    flip(store / name, 0.5)
    assert not verify(extracted, ["pool5"], rows=1)
    said = capsys.readouterr().out
    assert str(store / name) in said
    assert "verify --repair" in said
    assert verify(extracted, ["pool5"], rows=1, repair=True)
    assert "was repaired and is sound" in capsys.readouterr().out
    assert {name: file.read_bytes() for name, file in digests.files(store).items()} == want


def test_a_flipped_bit_in_what_stores_rest_on_is_found(
    extracted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = [
        extracted.manifest,
        extracted.dataset_record,
        extracted.weights_folder / "provenance.json",
        extracted.weights_folder / "vgg11.safetensors",
    ]
    for file in rest:
        content = file.read_bytes()
        # Of half a gigabyte of weights, one position in the middle
        for position in np.linspace(0, 1, 13) if file.suffix != ".safetensors" else (0.5,):
            flip(file, position)
            assert not sound(extracted), f"{file} at {position}"
            said = capsys.readouterr().out
            assert file.name in said
            assert "again" in said
        file.unlink()
        file.write_bytes(content)
    assert sound(extracted)


def sound(project: Project) -> bool:
    """What `cli.py verify` makes of it: a refusal is a finding, too."""
    try:
        return verify(project, ["pool5"], rows=1)
    except BadInput as error:
        print(error)
        return False


def test_foreign_and_missing_files(extracted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    store = extracted.features / "pool5.zarr"
    (store / "pool5" / "left over.partial").write_bytes(b"x")
    (store / "label" / "c" / "0").unlink()
    (store / "link").symlink_to(store / "zarr.json")
    assert not verify(extracted, ["pool5"], rows=1)
    said = capsys.readouterr().out
    for phrase in ("left over.partial does not belong", "label/c/0 is missing", "link does not belong"):
        assert phrase in said
    assert verify(extracted, ["pool5"], rows=1, repair=True)
    assert not (store / "link").is_symlink()


def test_rows_that_the_network_did_not_compute_are_found_under_digests_that_fit(
    prepared: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = parse_layer("pool5", "vgg11")
    write = Blocks.write

    def wrong(self: Blocks, keys, rows, words) -> None:  # type: ignore[no-untyped-def]
        write(self, keys, rows * np.float16(1.01), words)  # a processor that multiplies badly

    monkeypatch.setattr(Blocks, "write", wrong)
    extract(prepared, [layer])
    monkeypatch.setattr(Blocks, "write", write)
    assert not verify(prepared, ["pool5"], rows=2)
    assert "is not what the network computes" in capsys.readouterr().out
    assert verify(prepared, ["pool5"], rows=60, repair=True)
    assert "was repaired" in capsys.readouterr().out
    plan = extraction_of(prepared, prepared.read_manifest(), [layer])
    assert plan.fill().run_through_network == 0  # and the cache is right again


def test_a_store_of_another_manifest_or_other_settings(
    extracted: Project, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Project.open(extracted.root, ["extract.dtype=float32"])
    assert not verify(other, ["pool5"], rows=1)
    assert 'extract.dtype = "float16", now it is "float32"' in capsys.readouterr().out
    (extracted.dataset_root / "red" / "00.png").unlink()
    cli("prepare", "--project", extracted.root)
    done = cli("verify", "--project", extracted.root, code=1)
    assert "has 60 rows, the manifest 59 images" in done.stdout
    assert "verify --repair" in done.stdout
    cli("verify", "--project", extracted.root, "--repair")


def test_info_describes_every_store(extracted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    info(extracted)
    said = capsys.readouterr().out
    for phrase in (
        "60 (", "3 classes", "512 × 1 × 1 = 512 numbers per view, float16", "RANDOM, vgg11 from random",
        "32 × 32 pixels", "winograd-fp32/1 on cpu", "uncompressed", "none: no network", "fc7: 4096 numbers",
    ):  # fmt: skip
        assert phrase in said, phrase
    with pytest.raises(BadInput, match="there is no finished store"):
        info(extracted, ["conv1_1"])


def test_summary_is_what_numpy_says(tmp_path: Path) -> None:
    from tests.features.test_publish import published  # noqa: PLC0415 - a helper of that test

    rng = np.random.default_rng(0)
    exact = np.maximum(rng.normal(size=(500, 40)), 0)
    exact[:, 7] = 0
    exact[:, 9] = 1e-3
    store = FeatureStore(published(tmp_path, exact.astype(np.float16))[0])
    seen = summarise(store)
    assert (seen.rows, seen.dead, seen.width) == (500, 2, 40)
    assert seen.zeros == pytest.approx((exact == 0).mean())
    lengths = np.linalg.norm(exact, axis=1)
    np.testing.assert_allclose(seen.norms, np.percentile(lengths, [5, 50, 95]), rtol=1e-3)
    error = exact.astype(np.float16) - exact
    assert seen.rounding == pytest.approx(np.sqrt((error**2).sum() / (exact**2).sum()), rel=0.05)


def test_commands_say_what_is_missing(project: Path, cli: Cli) -> None:
    where = ("--project", project)
    assert re.search(r"run `python \S+cli.py prepare .*` first", cli("verify", *where, code=2).stderr)
    cli("prepare", *where)
    assert re.search(r"run `python \S+cli.py extract .*` first", cli("verify", *where, code=2).stderr)
    assert re.search(r"run `python \S+cli.py extract .*` first", cli("info", *where, code=2).stderr)
    assert json.loads((project / "artifacts" / "dataset.json").read_text("utf-8"))
