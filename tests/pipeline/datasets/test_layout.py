"""Folders: what is a split, a class, an image; what is passed over, and that it is said."""

import errno
import os
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from features.errors import BadInput
from pipeline.datasets.base import Listing
from pipeline.datasets.catalogue import listing
from pipeline.datasets.faults import checked
from pipeline.datasets.prepare import prepare
from pipeline.project import Project
from tests.conftest import Cli, refusal
from tests.pipeline.datasets.test_prepare import opened, picture, problems

PHOTOGRAPH = b"\xff\xd8\xff\xe0\0\x10JFIF"


def lay(root: Path, *folders: str, images: int = 3) -> Path:
    """Make folders of files that are images by their names; listing does not look into them."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            (root / folder / f"{number}.png").touch()
    return root


def both(*splits: str) -> list[str]:
    return [f"{split}/{label}" for split in splits for label in ("cat", "dog")]


def counted(listed: Listing) -> dict[tuple[str, str], int]:
    return dict(Counter((image.split, image.label) for image in listed.found))


def said(listed: Listing) -> dict[str, tuple[str, str]]:
    return {problem.path: (problem.kind, problem.action) for problem in listed.problems}


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two classes, `cat` and `dog`, of three images each."""
    return lay(tmp_path / "photos", "cat", "dog")


# --- what folders mean ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Training", "Valid", "TESTING"),
        ("trn", "dev", "tst"),
        ("seg_train", "validation_set", "test-images"),
        ("train2017", "val2017", "Test images"),
        ("trainset", "valset", "testset"),
        ("data/train", "data/validation", "data/test"),
        ("archive/my photos/train", "archive/my photos/val", "archive/my photos/test"),
        ("seg_train/seg_train", "seg_val/seg_val", "seg_test/seg_test"),
        ("train/images", "val/images", "test/images"),
    ],
)
def test_split_folders_by_any_usual_name(names: tuple[str, str, str], tmp_path: Path) -> None:
    listed = listing("folder", lay(tmp_path, *both(*names)))
    splits = ("train", "validation", "test")
    assert counted(listed) == {(split, label): 3 for split in splits for label in ("cat", "dog")}
    assert listed.given_splits == set(splits)
    assert not listed.problems


@pytest.mark.parametrize("names", [("Training", "Testing"), ("train", "test")])
def test_a_split_that_is_not_there_is_drawn(names: tuple[str, ...], tmp_path: Path) -> None:
    assert listing("folder", lay(tmp_path, *both(*names))).given_splits == {"train", "test"}
    assert listing("folder", lay(tmp_path / "alone", *both("Train"))).given_splits == {"train"}


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (both("train", "val", "valid"), "has both val and valid for validation; keep one"),
        (both("Train", "train", "test"), "has both Train and train for train; keep one"),
        (both("train", "eval"), "eval may be validation or test; rename it"),
        (both("val", "test"), "test and val have the names of splits, and there is no train"),
        (both("Monday", "Tuesday"), r"Monday and Tuesday hold the same folders \(cat, dog\)"),
        (both("train/A", "train/B", "test/A", "test/B"), "A and B hold the same folders"),
        (["cat/train", "cat/test", "dog/train", "dog/test"], "cat and dog hold splits .* as train/cat"),
        (["train", "val", "test"], r"test has the name of a split, .* no class folders \(2 images\); sort"),
        ([*both("train"), "test"], r"test has the name .*, or move test out of"),
        (["train/steam", "train/diesel", "plane"], "train may be .* split, with diesel .* beside plane"),
        (["train_cats", "train_dogs", "test_cats", "test_dogs"], "test_cats and train_cats .* train/cats"),
        (["trainA", "testA"], "testA and trainA look like splits of one class; arrange them as test/a"),
        (["fold0", "fold1", "fold2"], "fold0 and fold1 have the names of parts .*; list"),
        (["train_1", "train_2"], "train_1 and train_2 have the names of parts"),
        (["only"], r"there is one class only, 'only'"),
    ],
)  # fmt: skip
def test_two_readings_are_refused(folders: list[str], words: str, tmp_path: Path) -> None:
    for folder in folders:
        for number in range(2):
            picture(tmp_path / "p" / folder / f"{number}.png", 10 * folders.index(folder) + number)
    with pytest.raises(BadInput, match=words):
        prepare(opened(tmp_path, tmp_path / "p"))


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (["train", "plane"], {"train", "plane"}),  # vehicles
        (["test/deep", "plane"], {"test", "plane"}),
        (["photos/cat", "photos/dog"], {"cat", "dog"}),  # one folder that holds all
        (["cat/raw", "cat/edited", "dog/raw"], {"cat", "dog"}),
        (["cat/images", "dog/images"], {"cat", "dog"}),
        (["cat/thumbs", "cat", "dog/thumbs", "dog", "dog/x", "cat/x"], {"cat", "dog"}),
        (["trains", "contest", "invalid"], {"trains", "contest", "invalid"}),
        (["train station", "test tube"], {"train station", "test tube"}),
    ],
)
def test_what_is_a_class(folders: list[str], classes: set[str], tmp_path: Path) -> None:
    assert {label for _, label in counted(listing("folder", lay(tmp_path, *folders)))} == classes


def test_a_stray_file_decides_nothing_and_is_listed(tmp_path: Path) -> None:
    root = lay(tmp_path, *both("train", "valid", "test"), "more")
    for name in ("train/montage.png", "0.png"):
        (root / name).touch()
    (root / "README.md").touch()
    (root / "docs").mkdir()
    listed = listing("folder", root)
    assert len(listed.found) == 18
    assert said(listed) == {
        "train/montage.png": ("outside class folders", "set aside"),
        "0.png": ("outside class folders", "set aside"),
        "more": ("in other folders", "set aside"),
        "README.md": (".md", "ignored"),
        "docs": ("without images", "ignored"),
    }


# --- what is passed over -------------------------------------------------------------------------

SYSTEM = (
    "@eaDir", "lost+found", ".git", ".ipynb_checkpoints", "__MACOSX", "$RECYCLE.BIN",
    "System Volume Information", ".thumbnails", "#recycle", ".Trash-1000", ".AppleDouble",
)  # fmt: skip


def test_folders_and_files_of_systems_never_join_a_class(two: Path) -> None:
    lay(two, *SYSTEM, *(f"cat/{name}" for name in SYSTEM), "cat/@eaDir/photo.jpg")
    files = ("Thumbs.db", ".DS_Store", "._0.png", "desktop.ini", "dog/._1.png")
    for name in files:
        (two / name).touch()
    listed = listing("folder", two)
    assert counted(listed) == {("", "cat"): 3, ("", "dog"): 3}
    expected = {*SYSTEM, *(f"cat/{name}" for name in SYSTEM), *files}
    assert said(listed) == dict.fromkeys(expected, ("of the system", "ignored"))


def test_what_may_be_an_image_is_counted_by_kind_and_strict_refuses_it(
    two: Path, tmp_path: Path, cli: Cli
) -> None:
    for number, folder in enumerate(("cat", "dog")):
        for k in range(3):
            picture(two / folder / f"{k}.png", 10 * number + k)
    for number in range(10):
        (two / "cat" / f"{number}.JXL").touch()
    for name in ("d.jpg?w=200", "x.JPG_large", "none"):
        (two / "dog" / name).write_bytes(PHOTOGRAPH)
    lay(two, ".net", "cat/thumbs")
    for number in range(5):
        (two / f"{number}.jpg").touch()
    (two / "cat" / ".hidden.png").touch()
    (two / "cat" / "labels.txt").touch()
    project = opened(tmp_path, two)
    done = cli("prepare", "--project", project.root)
    assert (
        "21 images set aside: 10 .jxl, 5 outside class folders, 3 without a known extension, "
        "1 in hidden folders, 1 hidden, 1 in folders of thumbnails (the first .net: a hidden folder, which "
        "holds 3 images; rename it to use them)"
    ) in done.stdout
    assert (
        "1 other entries passed over: 1 .txt; all are listed in project/artifacts/problems.csv" in done.stdout
    )
    assert (tmp_path / "project/artifacts/problems.csv").exists()  # from where `cli` stands
    assert problems(project)["dog/x.JPG_large"] == (
        "JPEG, though its name has no extension of an image; rename it to use it", "set aside"
    )  # fmt: skip
    assert "21 images are not usable: 10 .jxl" in refusal(
        cli("prepare", "--strict", "--project", project.root, code=2)
    )


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.jxl", "b.jxl", "n.txt"], "2 .jxl, 1 .txt"),
        (["a"], "1 without a known extension"),
        ([], ""),
    ],
)
def test_a_class_folder_without_images_says_what_it_holds(names: list[str], words: str, two: Path) -> None:
    (two / "empty").mkdir()
    for name in names:
        (two / "empty" / name).write_bytes(b"text" if name.endswith("txt") else PHOTOGRAPH)
    with pytest.raises(BadInput) as refused:
        listing("folder", two)
    but = f" that can be used, but {words}" if words else ""
    assert f"the class folder {two}/empty holds no images{but}; fill it" in str(refused.value)


# --- links, and what is no regular file ----------------------------------------------------------


def test_links_are_followed_and_no_image_comes_twice(two: Path, tmp_path: Path) -> None:
    away = lay(tmp_path / "away", "cat", "deep/down", images=2)
    (two / "cat" / "one.png").symlink_to(away / "cat" / "0.png")
    (two / "cat" / "two.png").symlink_to("one.png")  # the same file
    (two / "cat" / "0 again.png").symlink_to("0.png")
    (two / "dog" / "more").symlink_to(away / "deep")
    (two / "dog" / "again").symlink_to(away / "deep" / "down")
    (two / "bird").symlink_to(away / "cat")
    listed = listing("folder", two)
    paths = {image.path for image in listed.found}
    own = {f"{label}/{k}.png" for label in ("cat", "dog") for k in range(3)}
    assert own < paths
    assert paths - own == {
        "cat/one.png", "dog/again/0.png", "dog/again/1.png", "bird/0.png", "bird/1.png"
    }  # fmt: skip
    found = {problem.path: problem.problem for problem in listed.problems}
    assert found["cat/0 again.png"] == "a link to cat/0.png, which is used"
    assert found["cat/two.png"] == "a link to cat/one.png, which is used"
    assert set(said(listed).values()) == {("linked twice", "ignored")}
    assert not paths & found.keys()


def test_links_in_circles_end(two: Path, tmp_path: Path) -> None:
    away = lay(tmp_path, "away") / "away"
    links = {
        "cat/self": ".", "cat/up": "..", "cat/all": "/", "dog/away": str(away), "dog/cat": "../cat/self",
    }  # fmt: skip
    for link, target in links.items():
        (two / link).symlink_to(target)
    (away / "back").symlink_to(two)
    (two / "cat" / "loop.png").symlink_to("loop.png")
    (two / "cat" / "gone.png").symlink_to("nowhere.png")
    listed = listing("folder", two)
    kinds = said(listed)
    assert kinds["cat/loop.png"] == ("unreadable", "set aside")
    assert kinds["cat/gone.png"] == ("linked to nothing", "set aside")
    for link in ("cat/self", "cat/up", "cat/all", "dog/away/back"):
        assert kinds[link] == ("linked in a circle", "ignored")
    assert counted(listed) == {("", "cat"): 3, ("", "dog"): 9}  # and, by links, the cats' and those away


def test_folders_that_are_linked_to_each_other_end(tmp_path: Path) -> None:
    one, other = lay(tmp_path, "one", images=0) / "one", lay(tmp_path, "other") / "other"
    (one / "there").symlink_to(other)
    (other / "back").symlink_to(one)
    assert counted(listing("folder", one)) == {("", "back"): 3}


def test_a_linked_split_is_used_and_nothing_of_it_is_set_aside(tmp_path: Path) -> None:
    away = lay(tmp_path / "away", "cat", "dog")
    root = lay(tmp_path / "root", *both("train", "test"))
    (root / "val").symlink_to(away)
    listed = listing("folder", root)
    assert counted(listed)["validation", "cat"] == 3
    assert not listed.problems


@pytest.mark.parametrize(("name", "target"), [("kitty", "cat"), ("train/kitty", "cat"), ("val", "test")])
def test_one_folder_under_two_names_is_refused(name: str, target: str, tmp_path: Path) -> None:
    root = lay(tmp_path, *(both("train", "test") if "/" in name or name == "val" else ["cat", "dog"]))
    (root / name).symlink_to(target)
    with pytest.raises(BadInput, match="are one folder by a link; delete the link"):
        listing("folder", root)


def test_what_is_no_regular_file_is_never_opened(two: Path, tmp_path: Path) -> None:
    os.mkfifo(two / "cat" / "pipe.png")
    (two / "dog" / "device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        before = Path.cwd()
        os.chdir(two / "dog")  # a socket's path may not be long
        listening.bind("socket.png")
        os.chdir(before)
        listed = listing("folder", two)
    assert said(listed) == dict.fromkeys(
        ("cat/pipe.png", "dog/device.png", "dog/socket.png"), ("not regular", "set aside")
    )


# --- disks and permissions -----------------------------------------------------------------------


@pytest.fixture
def drawn(tmp_path: Path) -> Project:
    """Two classes of ten images."""
    for number, label in enumerate(("cat", "dog")):
        for k in range(10):
            picture(tmp_path / "photos" / label / f"{k}.png", 100 * number + k)
    return opened(tmp_path, tmp_path / "photos")


def test_a_data_set_does_not_shrink_because_a_disk_fails(drawn: Project, cli: Cli) -> None:
    broken = drawn.dataset_root / "cat" / "broken.png"
    broken.symlink_to("/proc/self/mem")  # reading it is an input/output error
    said = refusal(cli("prepare", "--project", drawn.root, code=2))
    assert f"{broken} cannot be read (Input/output error); run again when it can" in said
    assert not drawn.manifest.exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EMFILE])
def test_what_may_pass_is_refused_and_what_lasts_is_a_reason(number: int) -> None:
    with pytest.raises(
        BadInput, match=rf"^a\\xe9\\n\.png cannot be read \({os.strerror(number)}\); run again"
    ):
        checked(os.fsdecode(b"a\xe9\n.png"), OSError(number, os.strerror(number)))
    assert checked("a.png", PermissionError(errno.EACCES, "denied")) == "cannot be read (denied)"


@pytest.fixture
def locked(drawn: Project) -> Iterator[Path]:
    """A folder within a class that nobody may read."""
    folder = drawn.dataset_root / "cat" / "locked"
    picture(folder / "0.png", 5000)
    folder.chmod(0)
    yield folder
    folder.chmod(0o755)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_listed(drawn: Project, locked: Path) -> None:
    assert len(prepare(drawn)) == 20
    assert problems(drawn)["cat/locked"] == ("cannot be read (Permission denied)", "set aside")
    with pytest.raises(BadInput, match="1 in unreadable folders"):
        prepare(drawn, strict=True)


# --- names that people cannot tell apart ---------------------------------------------------------


def test_case_twins(tmp_path: Path, drawn: Project) -> None:
    root = drawn.dataset_root
    picture(root / "cat" / "0.PNG", 700)
    prepare(drawn)
    assert problems(drawn)["cat/0.png"] == (
        "this and cat/0.PNG differ in upper and lower case only", "kept"
    )  # fmt: skip
    (root / "Cat").mkdir()
    picture(root / "Cat" / "9.png", 701)
    with pytest.raises(BadInput, match="the classes 'Cat' and 'cat' differ in upper and lower case only"):
        prepare(drawn)
    (root / "Cat").rename(root / "cat ")
    with pytest.raises(BadInput, match="the classes 'cat' and 'cat ' differ in spaces only"):
        prepare(drawn)


def test_a_class_of_which_no_image_is_left_is_refused(drawn: Project) -> None:
    (drawn.dataset_root / "bird").mkdir()
    for number in range(3):
        (drawn.dataset_root / "bird" / f"{number}.png").write_bytes(b"")
    with pytest.raises(BadInput, match="1 of 3 classes have no usable image, the first 'bird': 3 not decod"):
        prepare(drawn)
