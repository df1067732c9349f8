"""Folders of images → manifest and problems."""

import csv
import hashlib
import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from features.errors import BadInput, Unreadable
from features.manifest import Manifest
from pipeline.datasets.prepare import prepare
from pipeline.datasets.splits import draw
from pipeline.params import Dataset
from pipeline.predict import images as given
from pipeline.project import Project
from tests.conftest import QUICK, make_project


def opened(tmp_path: Path, root: Path, *more: str) -> Project:
    overrides = [*QUICK, "dataset.name=folder", f"dataset.root={root}", *more]
    return Project.open(make_project(tmp_path / "project", overrides))


def problems(project: Project) -> dict[str, tuple[str, str]]:
    with project.problems.open(newline="", encoding="utf-8") as file:
        return {row["path"]: (row["problem"], row["action"]) for row in csv.DictReader(file)}


def picture(path: Path, value: int, size: int = 16) -> None:
    """A picture of its own for every value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (value % 256, value // 256, 7)).save(path)


def test_digits(tmp_path: Path) -> None:
    project = Project.open(make_project(tmp_path / "digits", []))
    manifest = prepare(project)
    assert len(manifest) == 1797
    assert manifest.classes == tuple("0123456789")
    assert Manifest.read(project.manifest) == manifest
    # Without groups nothing of theirs is written, and stores made before there were groups stay valid
    assert manifest.digest == "ad905d5f11130e3772b3e33ec2e7595eb122948dc1066bd4e9b0d6b22a480951"
    assert {(row.width, row.height) for row in manifest.rows} == {(8, 8)}
    shares = Counter(row.split for row in manifest.rows)
    assert shares["test"] == pytest.approx(0.2 * 1797, rel=0.1)
    assert sorted(path.name for path in project.artifacts.iterdir()) == [
        "dataset.json", "manifest.csv", "problems.csv"
    ]  # fmt: skip


def test_manifest_describes_each_file(tmp_path: Path, images: Path) -> None:
    project = opened(tmp_path, images)
    manifest = prepare(project)
    assert [row.path for row in manifest.rows] == sorted(row.path for row in manifest.rows)
    for row in manifest.rows:
        assert row.label == row.path.split("/")[0]
        assert (row.width, row.height) == (48, 40)
        assert row.sha256 == hashlib.sha256((images / row.path).read_bytes()).hexdigest()


def test_adding_images_never_moves_old_ones(tmp_path: Path, images: Path) -> None:
    project = opened(tmp_path, images)
    before = {row.path: row.split for row in prepare(project).rows}
    for value in range(300):
        picture(images / "red" / f"new{value}.png", value)
    after = {row.path: row.split for row in prepare(project).rows}
    assert {path: after[path] for path in before} == before
    (images / "red" / "00.png").rename(images / "red" / "renamed.png")
    assert {row.path: row.split for row in prepare(project).rows}["red/renamed.png"] == before["red/00.png"]


def test_shares_hold_in_expectation_and_the_seed_matters() -> None:
    shares = {"validation_fraction": 0.15, "test_fraction": 0.25}
    settings = Dataset(name="digits", root="x", csv="x.csv", download=False, seed=0, at_most=None, **shares)
    other = settings.model_copy(update={"seed": 1})
    keys = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(20_000)]
    drawn = Counter(draw(key, settings, frozenset()) for key in keys)
    # Four standard deviations of a binomial
    assert abs(drawn["test"] - 5000) < 4 * (20_000 * 0.25 * 0.75) ** 0.5
    assert abs(drawn["validation"] - 3000) < 4 * (20_000 * 0.15 * 0.85) ** 0.5
    same = sum(draw(key, settings, frozenset()) == draw(key, other, frozenset()) for key in keys)
    assert same / 20_000 == pytest.approx(0.15**2 + 0.25**2 + 0.6**2, abs=0.02)


def test_given_splits_are_kept_and_validation_is_drawn_from_train(tmp_path: Path) -> None:
    root = tmp_path / "given"
    for number, (split, count) in enumerate((("train", 60), ("test", 5))):
        for label in range(2):
            for k in range(count):
                picture(root / split / f"c{label}" / f"{k}.png", 1000 * number + 100 * label + k)
    rows = prepare(opened(tmp_path, root)).rows
    assert {row.split for row in rows if row.path.startswith("test/")} == {"test"}
    drawn = Counter(row.split for row in rows if row.path.startswith("train/"))
    assert set(drawn) == {"train", "validation"}
    assert 10 < drawn["validation"] < 40
    for label in range(2):
        for k in range(6):
            picture(root / "val" / f"c{label}" / f"{k}.png", 5000 + 100 * label + k)
    rows = prepare(opened(tmp_path, root)).rows
    assert Counter((row.path.split("/")[0], row.split) for row in rows) == {
        ("train", "train"): 120, ("val", "validation"): 12, ("test", "test"): 10
    }  # fmt: skip


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    root = tmp_path / "vehicles"
    for number, label in enumerate(("train", "plane")):
        for k in range(40):
            picture(root / label / f"{k}.png", 100 * number + k)
    assert prepare(opened(tmp_path, root)).classes == ("plane", "train")


def test_a_huge_file_is_set_aside_unread(tmp_path: Path, images: Path) -> None:
    with (images / "red" / "film.jpg").open("wb") as film:
        film.truncate(1 << 40)  # takes no room on the disk; reading it would take all memory
    project = opened(tmp_path, images)
    prepare(project)
    assert problems(project)["red/film.jpg"] == (
        "1,024.0 GiB, and files of up to 2 GiB are read; save it smaller", "set aside"
    )  # fmt: skip
    with pytest.raises(Unreadable, match="files of up to 2 GiB are read"):
        given.opened(images / "red" / "film.jpg")


def test_nothing_is_dropped_in_silence(tmp_path: Path, images: Path) -> None:
    red = images / "red"
    (red / "empty.jpg").write_bytes(b"")
    (red / "text.jpg").write_text("hello")
    (red / "half.png").write_bytes((red / "00.png").read_bytes()[:3000])
    (red / "notes.txt").write_text("hello")
    (red / ".DS_Store").write_text("x")
    (images / ".hidden").mkdir()
    (images / "README.md").write_text("hello")
    (red / "link.png").symlink_to(red / "00.png")
    (red / "loop").symlink_to(images)
    (red / "copy.png").write_bytes((red / "01.png").read_bytes())
    (red / "deep").mkdir()
    picture(red / "deep" / "nested.png", 1)
    with (red / os.fsdecode(b"caf\xe9.png")).open("wb") as file:
        file.write((red / "02.png").read_bytes())
    project = opened(tmp_path, images)
    manifest = prepare(project)
    found = problems(project)
    assert found["red/empty.jpg"] == ("the file is empty", "set aside")
    assert found["red/text.jpg"][1] == found["red/half.png"][1] == "set aside"
    assert found["red/notes.txt"] == ("its extension is not that of a known image format", "ignored")
    assert found["red/.DS_Store"] == ("a file of the system or a program", "ignored")
    assert found[".hidden"] == ("a hidden folder", "ignored")
    assert found["README.md"] == found["red/notes.txt"]
    assert found["red/link.png"] == ("a link to red/00.png, which is used", "ignored")
    assert found["red/loop"] == ("a link to a folder that it lies in", "ignored")
    assert found["red/copy.png"] == ("the same image as red/01.png", "kept")
    assert found["red/caf\\xe9.png"] == ("the name is not valid UTF-8", "set aside")
    assert len(found) == 11
    assert {"red/deep/nested.png", "red/copy.png"} <= {row.path for row in manifest.rows}
    assert len(manifest) == 60 + 2
    with pytest.raises(
        BadInput, match="--strict: 4 images are not usable: 3 not decodable, 1 named not in UTF-8"
    ):
        prepare(project, strict=True)


def test_same_image_never_straddles_splits_or_labels(tmp_path: Path) -> None:
    root = tmp_path / "given"
    for number, split in enumerate(("train", "validation", "test")):
        for label in range(2):
            for k in range(4):
                picture(root / split / f"c{label}" / f"{k}.png", 1000 * number + 100 * label + k)
    for split in ("train", "test"):
        picture(root / split / "c0" / "twice.png", 9000)
    picture(root / "train" / "c0" / "both.png", 9100)
    picture(root / "train" / "c1" / "both.png", 9100)
    project = opened(tmp_path, root)
    paths = {row.path for row in prepare(project).rows}
    found = problems(project)
    assert "test/c0/twice.png" in paths
    assert found["train/c0/twice.png"] == ("the same image as test/c0/twice.png", "set aside")
    assert found["train/c0/both.png"] == found["train/c1/both.png"]
    assert found["train/c0/both.png"][0] == "the same image stands under the labels c0 and c1"
    assert not paths & {"train/c0/twice.png", "train/c0/both.png", "train/c1/both.png"}


def test_names_are_data(tmp_path: Path) -> None:
    root = tmp_path / "odd"
    names = ["<img src=x onerror=alert(1)>", "a,b\"c'd", "line\nbreak", "猫", "قط", "$(touch canary)"]
    for number, name in enumerate(names):
        for k in range(30):
            picture(root / name / f"{k}.png", 100 * number + k)
    project = opened(tmp_path, root)
    manifest = prepare(project)
    assert manifest.classes == tuple(sorted(names))
    assert Manifest.read(project.manifest) == manifest


def test_names_that_differ_in_unicode_form_only_are_refused(tmp_path: Path) -> None:
    for number, name in enumerate(("caf\u00e9", "cafe\u0301", "tea")):
        for k in range(30):
            picture(tmp_path / "twins" / name / f"{k}.png", 100 * number + k)
    with pytest.raises(BadInput, match="Unicode form only"):
        prepare(opened(tmp_path, tmp_path / "twins"))


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ({}, "no images found"),
        ({"only": 40}, "one class only, 'only'"),
        (
            {"many": 40, "few": 1, "two": 2},
            "2 of 3 classes have no image in some split, the first 'few', with 1 image and .*; add some",
        ),
        ({"many": 40, "empty": 0}, "the class folder .*empty holds no images"),
    ],
)
def test_too_little_is_refused_with_the_remedy(layout: dict[str, int], said: str, tmp_path: Path) -> None:
    root = tmp_path / "little"
    root.mkdir()
    for number, (name, count) in enumerate(layout.items()):
        (root / name).mkdir()
        for k in range(count):
            picture(root / name / f"{k}.png", 100 * number + k)
    with pytest.raises(BadInput, match=said):
        prepare(opened(tmp_path, root))


@pytest.mark.parametrize("most", [[40, 40, 1], [1, 1, 1]])  # a class is gone from one split, or from all
def test_a_class_that_at_most_leaves_out_is_named(most: list[int], tmp_path: Path) -> None:
    root = tmp_path / "many"
    for number, name in enumerate("abcd"):
        for k in range(30):
            picture(root / name / f"{k}.png", 100 * number + k)
    with pytest.raises(BadInput, match=r"dataset\.at_most leaves no image of class '[abcd]' in .*; raise it"):
        prepare(opened(tmp_path, root, f"dataset.at_most={most}"))


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"dataset\.root: there is no folder .*/nowhere"):
        prepare(opened(tmp_path, tmp_path / "nowhere"))


def test_edited_manifest_is_refused(tmp_path: Path, images: Path) -> None:
    project = opened(tmp_path, images)
    prepare(project)
    project.manifest.write_text(project.manifest.read_text("utf-8").replace(",test,", ",train,", 1), "utf-8")
    with pytest.raises(BadInput, match="was edited"):
        project.read_manifest()
