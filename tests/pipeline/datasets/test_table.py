"""Tables of images: `dataset.name: csv`."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from features.errors import BadInput
from features.images import ImageFolder
from features.manifest import COLUMNS, Manifest
from pipeline.datasets.catalogue import source
from pipeline.datasets.names import twins
from pipeline.datasets.prepare import prepare
from pipeline.project import Project
from tests.conftest import QUICK, make_project
from tests.pipeline.datasets.test_prepare import picture, problems

COUNT = 120
PATHS = [f"some/{number:03}.png" for number in range(COUNT)]
LABELS = ["even", "odd"] * (COUNT // 2)
GROUPS = [f"patient {number // 4}" for number in range(COUNT)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pictures that no table names yet."""
    for number, path in enumerate(PATHS):
        picture(tmp_path / "root" / path, number)
    return tmp_path / "root"


def write(file: Path, **columns: Sequence[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([tuple(columns), *zip(*columns.values(), strict=True)])


def opened(root: Path, *more: str) -> Project:
    overrides = [*QUICK, "dataset.name=csv", f"dataset.root={root}", *more]
    return Project.open(make_project(root.parent / "project", overrides))


def splits(root: Path, *more: str) -> dict[str, str]:
    return {row.path: row.split for row in prepare(opened(root, *more)).rows}


def test_paths_and_labels_are_enough(root: Path) -> None:
    picture(root / "some" / "unlisted.png", 999)
    write(root / "images.csv", label=LABELS, path=PATHS)
    project = opened(root)
    manifest = prepare(project)
    assert [row.path for row in manifest.rows] == PATHS
    assert [row.label for row in manifest.rows] == LABELS
    assert {row.split for row in manifest.rows} == {"train", "validation", "test"}
    assert not problems(project)
    # As the same images in a folder: the same splits, and no column that nobody filled
    assert project.manifest.read_text("utf-8").startswith(",".join(COLUMNS) + "\n")
    row = manifest.rows[5]
    images = source("csv", project.dataset_root)
    assert isinstance(images, ImageFolder)
    assert images.image(row.path, row.sha256).size == (16, 16)


def test_splits_are_those_of_the_same_images_in_a_folder(root: Path) -> None:
    write(root / "images.csv", path=PATHS, label=LABELS)
    by_table = splits(root)
    for path, label in zip(PATHS, LABELS, strict=True):
        (root / label).mkdir(exist_ok=True)
        (root / path).rename(root / label / Path(path).name)
    (root / "some").rmdir()
    by_folder = splits(root, "dataset.name=folder")
    assert {Path(path).name: split for path, split in by_folder.items()} == {
        Path(path).name: split for path, split in by_table.items()
    }


def test_given_splits_are_kept_and_empty_ones_are_drawn(root: Path) -> None:
    given = ["test"] * 20 + [""] * 100
    write(root / "images.csv", path=PATHS, label=LABELS, split=given)
    found = splits(root)
    assert {found[path] for path in PATHS[:20]} == {"test"}
    assert {found[path] for path in PATHS[20:]} == {"train", "validation"}
    given = ["test"] * 20 + ["val"] * 20 + ["validation"] * 20 + ["train"] * 60
    write(root / "images.csv", path=PATHS, label=LABELS, split=given)
    expected = ["test"] * 20 + ["validation"] * 40 + ["train"] * 60
    assert splits(root) == dict(zip(PATHS, expected, strict=True))


def test_groups_stay_together_for_every_seed(root: Path) -> None:
    write(root / "images.csv", path=PATHS, label=LABELS, group=GROUPS)
    seen = set()
    for seed in range(12):
        project = opened(root, f"dataset.seed={seed}")
        manifest = prepare(project)
        by_group: dict[str, set[str]] = {}
        for row in manifest.rows:
            by_group.setdefault(row.group, set()).add(row.split)
        assert len(by_group) == COUNT // 4
        assert all(len(found) == 1 for found in by_group.values())
        seen.add(manifest.digest)
        assert Manifest.read(project.manifest) == manifest == project.read_manifest()
        assert project.manifest.read_text("utf-8").startswith(",".join([*COLUMNS, "group"]) + "\n")
    assert len(seen) == 12


def test_rows_without_a_group_move_nobody(root: Path) -> None:
    write(root / "images.csv", path=PATHS, label=LABELS, group=GROUPS)
    before = splits(root)
    new = [f"new/{number}.png" for number in range(60)]
    for number, path in enumerate(new):
        picture(root / path, 1000 + number if number % 2 else number)  # every other one is a copy
    labels = [LABELS[number] if number % 2 == 0 else "odd" for number in range(60)]
    write(root / "images.csv", path=new + PATHS, label=labels + LABELS, group=[""] * 60 + GROUPS)
    after = splits(root)
    assert len(after) == 180
    assert {path: after[path] for path in PATHS} == before


def test_what_cannot_be_used_is_set_aside_and_listed(root: Path) -> None:
    (root / "link.png").symlink_to(root / PATHS[3])
    (root / "linked").symlink_to(root / "some")
    (root / "half.png").write_bytes((root / PATHS[0]).read_bytes()[:40])
    os.mkfifo(root / "pipe.png")
    odd = [
        "gone.png", "link.png", "linked/001.png", "half.png", "some", "pipe.png", r"some\001.png", "x" * 300,
    ]  # fmt: skip
    picture(root / "spaced.png", 900)
    odd += ["spaced.png ", "some/050.PNG", "nothing.png"]
    (root / "nothing.png").symlink_to("nowhere")
    write(
        root / "images.csv",
        path=[*PATHS, *odd],
        label=[*LABELS, *["odd"] * len(odd)],
        note=["hm"] * (COUNT + 11),
    )
    project = opened(root)
    assert len(prepare(project)) == COUNT
    found = problems(project)
    assert found.pop("images.csv") == ("the column 'note' is none of path, label, split, group", "ignored")
    assert found.pop("link.png") == (f"a link to {PATHS[3]}, which is used", "ignored")
    assert found.pop("linked/001.png") == (f"a link to {PATHS[1]}, which is used", "ignored")
    assert {action for _, action in found.values()} == {"set aside"}
    assert {path: problem for path, (problem, _) in found.items() if path != "half.png"} == {
        "gone.png": "there is no such file",
        "nothing.png": "a link to nothing",
        "some": "a folder, no image file",
        "pipe.png": "a pipe, no regular file",
        r"some\001.png": "there is no such file; folders are separated by / here: some/001.png",
        "spaced.png ": "there is no such file, but 'spaced.png'",
        "some/050.PNG": "there is no such file, but 'some/050.png'",
        "x" * 300: "cannot be read (File name too long)",
    }
    with pytest.raises(BadInput, match="--strict: 9 images are not usable: 4 missing"):
        prepare(project, strict=True)


def test_a_missing_file_does_not_take_its_split_away(root: Path) -> None:
    given = ["train"] * 60 + [""] * 60
    write(root / "images.csv", path=[*PATHS, "gone.png"], label=[*LABELS, "odd"], split=[*given, "test"])
    with pytest.raises(
        BadInput, match="none in test; put images of each such class into test, or give no such split"
    ):
        splits(root)


def test_copies_and_doubtful_labels(root: Path) -> None:
    for name, number in (("copy", 4), ("doubt", 6)):
        picture(root / f"{name}.png", number)
    write(
        root / "images.csv",
        path=[*PATHS, "copy.png", "doubt.png"],
        label=[*LABELS, "even", "odd"],
        split=["train"] * 60 + ["val"] * 30 + ["test"] * 32,
    )
    project = opened(root)
    paths = {row.path for row in prepare(project).rows}
    assert "copy.png" in paths
    assert not {PATHS[4], PATHS[6], "doubt.png"} & paths
    assert problems(project)[PATHS[4]] == ("the same image as copy.png", "set aside")
    assert problems(project)["doubt.png"][0] == "the same image stands under the labels even and odd"


def test_names_are_data(root: Path) -> None:
    names = [
        "<img src=x onerror=alert(1)>",
        "a,b\"c'd",
        "line\nbreak",
        "猫",
        "$(touch canary)",
        "a\rb",
        "=1+1",
    ]
    odd = [f"odd/{number} {name.replace('/', '')}.png" for number, name in enumerate(names)]
    for number, path in enumerate(odd):
        picture(root / path, 5000 + number)
    write(
        root / "images.csv",
        path=[*PATHS, *odd],
        label=[names[number % len(names)] for number in range(COUNT + len(odd))],
        group=[*GROUPS, *names],
    )
    project = opened(root)
    manifest = prepare(project)
    assert manifest.classes == tuple(sorted(names))
    assert set(odd) <= {row.path for row in manifest.rows}
    assert Manifest.read(project.manifest) == manifest


def test_unicode_twins_are_refused_among_groups_too(root: Path) -> None:
    groups = [*GROUPS[:-2], "caf\u00e9", "cafe\u0301"]
    write(root / "images.csv", path=PATHS, label=LABELS, group=groups)
    with pytest.raises(BadInput, match=r"the groups .* differ in Unicode form only"):
        splits(root)


def test_spreadsheets_are_understood(root: Path) -> None:
    text = "\r\n".join(
        ["path, label ,split", "", *(f"./{p}, {n} ," for p, n in zip(PATHS, LABELS, strict=True))]
    )
    (root / "my table.csv").write_bytes(
        b"\xef\xbb\xbf" + text.encode()
    )  # a byte order mark, no last line end
    manifest = prepare(opened(root, "dataset.csv='my table.csv'"))
    assert [row.path for row in manifest.rows] == PATHS
    assert manifest.classes == ("even", "odd")


@pytest.mark.parametrize(
    "first",
    [
        "PATH,Label ,SPLIT,Group",
        "path;label;split;group",
        "Path\tLABEL\tsplit\t group ",
        "\ufeffpath,label,Split,GROUP",
    ],
)
def test_columns_in_any_case_and_with_any_separator(first: str, root: Path) -> None:
    separator = next(each for each in ",;\t" if each in first)
    names = ["Training", "valid", "TEST", "dev", "trn", "tst", "", "Val", "testing", "validation"]
    means = [
        "train",
        "validation",
        "test",
        "validation",
        "train",
        "test",
        "",
        "validation",
        "test",
        "validation",
    ]
    cells = [(PATHS[k], LABELS[k // 10], names[k % 10], f"one, {k}") for k in range(COUNT)]
    rows = [separator.join(f'"{cell}"' for cell in row) for row in cells]
    (root / "images.csv").write_text("\n".join([first, *rows]), "utf-8")
    manifest = prepare(opened(root))
    assert [row.group for row in manifest.rows] == [f"one, {k}" for k in range(COUNT)]
    assert [row.split for row in manifest.rows] == [means[k % 10] or "train" for k in range(COUNT)]


def test_other_columns_are_ignored_and_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ages = [str(number) for number in range(COUNT)]
    write(root / "images.csv", path=PATHS, label=LABELS, patient=GROUPS, age=ages, group=GROUPS, groups=ages)
    prepare(opened(root))
    said = capsys.readouterr().out
    assert "3 other entries passed over: 1 column 'patient', 1 column 'age', 1 column 'groups'" in said


def test_a_name_in_another_unicode_form_is_found(root: Path) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    for number, path in enumerate((f"{apart}/{apart}.png", f"{composed}1.png")):
        picture(root / path, 800 + number)
    odd = [f"{composed}/{composed}.png", f"{apart}1.png"]
    write(root / "images.csv", path=[*PATHS, *odd], label=[*LABELS, "odd", "odd"])
    project = opened(root)
    lying = {f"{apart}/{apart}.png", f"{composed}1.png"}
    assert {row.path for row in prepare(project).rows} == {*PATHS, *lying}
    assert problems(project) == dict.fromkeys(
        lying, ("its name has another Unicode form on the disk", "kept")
    )


def test_one_file_by_two_paths_is_used_once(root: Path) -> None:
    (root / "links").mkdir()
    (root / "links" / "3.png").symlink_to(f"../{PATHS[3]}")
    (root / "all").symlink_to("some")
    write(root / "images.csv", path=["links/3.png", "all/003.png", *PATHS], label=["odd", "odd", *LABELS])
    project = opened(root)
    assert [row.path for row in prepare(project).rows] == PATHS
    said = (f"a link to {PATHS[3]}, which is used", "ignored")
    assert problems(project) == {"links/3.png": said, "all/003.png": said}


def test_images_outside_are_reached_by_links(root: Path, tmp_path: Path) -> None:
    (root / "some").rename(tmp_path / "elsewhere")
    (root / "some").symlink_to(tmp_path / "elsewhere")
    write(root / "images.csv", path=PATHS, label=LABELS)
    project = opened(root)
    assert len(prepare(project)) == COUNT
    assert not problems(project)


def test_groups_that_differ_in_case_are_refused(root: Path) -> None:
    write(root / "images.csv", path=PATHS, label=LABELS, group=[*GROUPS[:-1], "Patient 2"])
    with pytest.raises(BadInput, match="the groups 'Patient 2' and 'patient 2' differ in upper and lower"):
        splits(root)


@pytest.mark.parametrize("other", ["07", "7.0"])
@pytest.mark.parametrize("column", ["label", "group"])
def test_a_number_in_two_spellings_is_refused(column: str, other: str, root: Path) -> None:
    labels = [other if number == 4 else "70" if number % 2 else "7" for number in range(COUNT)]
    columns = {"label": labels} if column == "label" else {"label": LABELS, "group": labels}
    write(root / "images.csv", path=PATHS, **columns)
    with pytest.raises(
        BadInput, match=rf"the {'classe' if column == 'label' else 'group'}s .* in how the number"
    ):
        splits(root)


def test_numbers_that_differ_are_no_twins() -> None:
    assert not list(twins(["0", "1", "10", "100", "1.5", "1.50x", "v01", "v1"]))


def test_a_class_whose_files_are_all_missing_is_refused(root: Path) -> None:
    write(root / "images.csv", path=[*PATHS, "gone.png"], label=[*LABELS, "rare"])
    with pytest.raises(
        BadInput, match=r"1 of 3 classes have no usable image, the first 'rare': 1 missing \(gone"
    ):
        splits(root)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"has no column 'path'; line 1 should name path, label"),
        ("path,label\n", r"images\.csv has no rows"),
        ("path|label\na.png|x\n", r"has no column 'path'.* tabs between, and is 'path\|label'"),
        ("path,split\na.png,train\n", "has no column 'label'"),
        ("path,label,label\na.png,x,y\n", "has the column 'label' twice"),
        ("path,label\na.png,x\nb.png, \n", r"images\.csv, line 3: b\.png has no label; give it one"),
        ("path,label\n" + "a,\n" * 9, r"line 2: a has no label \(the first of 9 such lines\); give it one"),
        (
            "path,label\na.png,x\n\n./a.png,x\na.png,x\nb.png,\n",
            r"line 4: a\.png stands in line 2 already \(the first of 2 such lines\) "
            r"\(1 more line has another fault\); delete one",
        ),
        ("path,label\na.png,x\nb.png,nan\n", "line 3: b.png has the label 'nan', .* missing; give it one"),
        ("path,label,group\na.png,x,NaN\nb.png,y,NaN\n", "the group 'NaN', .*2 such lines.*; leave it empty"),
        ("path,label,split\na.png,x,eval\n", r"line 2: the split 'eval' should be one of train, .*test"),
        ("path,label,groups\na.png,x,1\n", "'groups', which may be meant as 'group'.* rename it to group"),
        ("path,label,Patient_Group\na.png,x,1\n", "'Patient_Group', which may be meant as 'group'"),
        ("path,label,spilt\na.png,x,test\n", "'spilt', which may be meant as 'split'"),
        ("path,label,usage\na.png,x,Test\n", "'usage', which may be meant as 'split'"),
        ("filename,label\na.png,x\n", "no column 'path', and 'filename' is nearly that"),
        ("path,Class\na.png,x\n", "no column 'label', and 'Class' is nearly that"),
        ("imagePath,label\na.png,x\n", "no column 'path', and 'imagePath' is nearly that"),
        ("path,label\na.png\n", "line 2: 1 cells where line 1 names 2 columns"),
        ("path,label\na.png,x,y\n", "line 2: 3 cells where line 1 names 2 columns"),
        ("path,label\n/etc/passwd,x\n", r"line 2: the path '/etc/passwd' should be that of a file below"),
        ("path,label\nb/../../a.png,x\n", r"line 2: the path 'b/\.\./\.\./a\.png' should be"),
        ("path,label\n,x\n", "line 2: the path '' should be"),
        ("path,label\na\0.png,x\n", "line 2: .*(path|NUL)"),
        ('path,label\n"a.png,x\n', r"line \d: not valid CSV"),
    ],
)  # fmt: skip
def test_faults_are_named_with_line_and_remedy(text: str, said: str, root: Path) -> None:
    (root / "images.csv").write_text(text, "utf-8")
    with pytest.raises(BadInput, match=said):
        splits(root)


def test_table_that_is_not_utf8_or_not_there(root: Path) -> None:
    with pytest.raises(BadInput, match=r"dataset\.csv: there is no table .*images\.csv; put it there"):
        splits(root)
    (root / "images.csv").write_bytes("path,label\ncafé.png,x\n".encode("latin-1"))
    with pytest.raises(BadInput, match=r"images\.csv is not UTF-8 .*save it as UTF-8"):
        splits(root)


def test_only_what_was_read_makes_a_manifest_stale(root: Path) -> None:
    write(root / "images.csv", path=PATHS, label=LABELS)
    prepare(opened(root))
    opened(root, "dataset.download=true").read_manifest()
    with pytest.raises(BadInput, match=r"made with dataset\.csv"):
        opened(root, "dataset.csv=other.csv").read_manifest()
