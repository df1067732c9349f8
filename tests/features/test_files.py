"""Files that appear whole or not at all: what a folder holds after success, after an error, and over old."""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from features import files
from features.errors import BadInput
from features.files import (
    TRANSIENT,
    load_tensors,
    naming,
    of_machine,
    patiently,
    read_bytes,
    read_text,
    remove,
    replace,
    save_tensors,
    sha256_file,
    sync,
    write_json,
    written_aside,
)
from pipeline.project import read_json
from tests.conftest import bytes_of

Make = Callable[[Path], object]


def make_file(path: Path) -> None:
    path.write_bytes(b"new")


def make_folder(path: Path) -> None:
    (path / "below").mkdir(parents=True)
    (path / "below" / "part").write_bytes(b"new")


def old_file(path: Path) -> None:
    path.write_bytes(b"old")


def old_folder(path: Path) -> None:
    path.mkdir()
    (path / "of before").write_bytes(b"old")


MADE = {make_file: {"target": b"new"}, make_folder: {"target/below/part": b"new"}}
OLD: dict[Make, dict[str, bytes]] = {
    lambda path: None: {}, old_file: {"target": b"old"}, old_folder: {"target/of before": b"old"},
}  # fmt: skip
# rename(2) puts no folder in a file's place
PAIRS = [(make, old) for make in MADE for old in OLD if not (make is make_folder and old is old_file)]


@pytest.mark.parametrize(("make", "old"), PAIRS)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_success_leaves_the_new_and_nothing_else(
    make: Make, old: Make, elsewhere: bool, tmp_path: Path
) -> None:
    old(tmp_path / "target")
    with written_aside(tmp_path / "target", scratch=tmp_path / "scratch" if elsewhere else None) as aside:
        assert aside.parent == (tmp_path / "scratch" if elsewhere else tmp_path)
        make(aside)
        assert bytes_of(tmp_path).items() >= OLD[old].items()  # nothing is seen of it before the end
    assert bytes_of(tmp_path) == MADE[make]
    assert {path.name for path in tmp_path.iterdir()} == {"target", *(["scratch"] if elsewhere else [])}


@pytest.mark.parametrize(("make", "old"), PAIRS)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_the_old_is_there_and_nothing_else(
    make: Make, old: Make, error: type[BaseException], tmp_path: Path
) -> None:
    old(tmp_path / "target")

    def failing() -> None:
        with written_aside(tmp_path / "target") as aside:
            make(aside)
            raise error

    with pytest.raises(error):
        failing()
    assert bytes_of(tmp_path) == OLD[old]
    assert len(list(tmp_path.iterdir())) == len(OLD[old])


def test_a_block_that_makes_nothing_is_an_error_that_names_the_target(tmp_path: Path) -> None:
    old_file(tmp_path / "target")
    with pytest.raises(FileNotFoundError), written_aside(tmp_path / "target"):
        pass
    assert bytes_of(tmp_path) == {"target": b"old"}


def test_what_the_system_says_without_a_name_gets_the_targets(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="No space") as caught,
        written_aside(tmp_path / "deep" / "target"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(tmp_path / "deep" / "target")
    assert list((tmp_path / "deep").iterdir()) == []
    with pytest.raises(OSError, match="other") as caught, naming(tmp_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), "other")
    assert caught.value.filename == "other"  # which had one keeps it


def test_everything_is_flushed_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of real system calls: the parts and their folder, the renaming, the folder around."""
    said: list[object] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        said.append(os.fstat(descriptor).st_ino)

    def noted_rename(self: Path, target: Path) -> Path:
        said.append("renamed")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    monkeypatch.setattr(Path, "replace", noted_rename)
    with written_aside(tmp_path / "target") as aside:
        make_folder(aside)
    parts = [path.stat().st_ino for path in (tmp_path / "target").rglob("*")]
    at = said.index("renamed")
    assert set(said[:at]) == {*parts, (tmp_path / "target").stat().st_ino}
    assert said[at + 1 :] == [tmp_path.stat().st_ino]


def test_sync_says_which_part_it_is_about(tmp_path: Path) -> None:
    make_folder(tmp_path / "folder")
    (tmp_path / "folder" / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError) as caught:
        sync(tmp_path / "folder")
    assert caught.value.filename == str(tmp_path / "folder" / "gone")


def test_replace_puts_a_folder_in_place_of_a_link_to_one(tmp_path: Path) -> None:
    old_folder(tmp_path / "kept")
    (tmp_path / "target").symlink_to(tmp_path / "kept")
    make_file(tmp_path / "new")
    replace(tmp_path / "new", tmp_path / "target")
    assert bytes_of(tmp_path) == {"kept/of before": b"old", "target": b"new"}
    assert not (tmp_path / "target").is_symlink()


def test_remove_deletes_what_there_is_and_follows_no_link(tmp_path: Path) -> None:
    old_folder(tmp_path / "kept")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    make_folder(tmp_path / "folder")
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "kept")
    make_file(tmp_path / "file")
    for name in ("link", "broken", "folder", "file", "never there"):
        remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert bytes_of(tmp_path) == {"kept/of before": b"old"}


class Drive:
    """Reads a file, but fails the first times."""

    def __init__(self, number: int, times: int) -> None:
        self.number, self.left, self.reads = number, times, 0

    def __call__(self, path: Path) -> bytes:
        self.reads += 1
        if self.reads <= self.left:
            raise OSError(self.number, os.strerror(self.number))
        return path.read_bytes()


@pytest.mark.parametrize("number", sorted(TRANSIENT))
def test_what_may_pass_is_tried_again_and_then_named(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0, 0.0))  # seconds
    old_file(tmp_path / "file")
    assert patiently(tmp_path / "file", Drive(number, 3)) == b"old"
    drive = Drive(number, 4)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        patiently(tmp_path / "file", drive)
    assert drive.reads == 4
    assert caught.value.filename == str(tmp_path / "file")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EMFILE, errno.EISDIR])
def test_what_does_not_pass_is_said_at_once(number: int, tmp_path: Path) -> None:
    drive = Drive(number, 1)
    with pytest.raises(OSError, match=os.strerror(number)):
        patiently(tmp_path, drive)
    assert drive.reads == 1
    assert of_machine(OSError(number, "")) == (number in (errno.EACCES, errno.EMFILE))


def test_an_error_while_reading_names_its_file_and_keeps_its_type(broken: Path) -> None:
    for read in (read_bytes, read_json):
        with pytest.raises(OSError, match="Input/output error") as caught:
            read(broken)
        assert caught.value.filename == str(broken)
        assert not isinstance(caught.value, BadInput)
        assert of_machine(caught.value)


def test_json_is_what_python_reads_and_people_too(tmp_path: Path) -> None:
    content = {"name": "猫 \u2028", "values": [0.1, None, True]}
    write_json(tmp_path / "a.json", content)
    text = read_text(tmp_path / "a.json")
    assert json.loads(text) == content
    assert "猫" in text
    assert text.endswith("}\n")
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"no": object()})
    assert bytes_of(tmp_path) == {"a.json": text.encode()}


def test_tensors_come_back_and_everyone_may_read_them(tmp_path: Path) -> None:
    file, tensor = tmp_path / "a.safetensors", np.arange(6, dtype=np.float32).reshape(2, 3)
    save_tensors({"one": tensor}, file, {"by": "me"})
    np.testing.assert_array_equal(load_tensors(file)["one"], tensor)
    assert file.stat().st_mode & 0o777 == 0o644
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(SafetensorError):
        load_tensors(file)
    with pytest.raises(FileNotFoundError) as caught:
        load_tensors(tmp_path / "none")
    assert caught.value.filename == str(tmp_path / "none")
    with pytest.raises(FileNotFoundError) as caught:
        save_tensors({"one": tensor}, tmp_path / "none" / "a.safetensors")
    assert caught.value.filename == str(tmp_path / "none" / "a.safetensors")


@pytest.mark.parametrize("size", [0, 1, files.BUFFER, files.BUFFER + 1])
def test_digest_is_hashlibs_whatever_the_buffer(size: int, tmp_path: Path) -> None:
    data = np.random.default_rng(size).bytes(size)
    (tmp_path / "file").write_bytes(data)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()
