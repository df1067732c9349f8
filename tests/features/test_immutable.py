"""Folders that appear whole and vouch for themselves: success, errors, races, and every kind of damage."""

import errno
import os
from pathlib import Path

import pytest

from features.errors import Damaged
from features.immutable import ASIDE, appearing, discard, is_digest, read_card, reading, seal, touch, unseal
from tests.conftest import bytes_of

NAME = "0" * 64
CARD = "card.json"


def make(root: Path, content: bytes = b"abc") -> Path:
    """A sealed folder of one file."""
    target = root / "runs" / NAME
    with appearing(root, target) as folder:
        (folder / "data").write_bytes(content)
        seal(folder, CARD, {"n": 3})
    return target


def unfinished(root: Path) -> list[Path]:
    return list((root / ASIDE).iterdir())


def test_a_folder_appears_at_the_end_and_whole(tmp_path: Path) -> None:
    target = tmp_path / "runs" / NAME
    with appearing(tmp_path, target) as folder:
        (folder / "data").write_bytes(b"abc")
        assert not target.exists()
        assert tmp_path / ASIDE in folder.parents
    assert bytes_of(target) == {"data": b"abc"}
    assert unfinished(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_failing_writer_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "runs" / NAME

    def failing() -> None:
        with appearing(tmp_path, target) as folder:
            (folder / "data").write_bytes(b"half")
            raise error

    with pytest.raises(error):
        failing()
    assert not target.exists()
    assert unfinished(tmp_path) == []


def test_the_first_of_two_writers_wins_and_the_other_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "runs" / NAME
    with appearing(tmp_path, target) as late:
        (late / "data").write_bytes(b"abc")
        make(tmp_path)
        before = target.stat().st_ino
    assert target.stat().st_ino == before
    assert unfinished(tmp_path) == []


def test_an_error_without_a_name_gets_the_folders(tmp_path: Path) -> None:
    target = tmp_path / "runs" / NAME
    with pytest.raises(OSError, match="No space") as caught, appearing(tmp_path, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(target)


def test_a_parent_that_is_pruned_under_a_writer_is_made_again(tmp_path: Path) -> None:
    target = tmp_path / "runs" / NAME
    target.parent.mkdir()
    with appearing(tmp_path, target) as folder:
        (folder / "data").write_bytes(b"abc")
        target.parent.rmdir()
    assert bytes_of(target) == {"data": b"abc"}


def test_a_file_where_the_parent_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(OSError, match="File exists"):
        make(tmp_path)
    assert unfinished(tmp_path) == []


def test_discard_takes_away_what_is_damaged_only(tmp_path: Path) -> None:
    target = make(tmp_path)
    want = bytes_of(target)
    discard(tmp_path, target, lambda folder: "")  # sound by now: another process made it anew
    assert bytes_of(target) == want
    discard(tmp_path, target, lambda folder: "is damaged")
    assert not target.exists()
    discard(tmp_path, target)  # gone already
    assert unfinished(tmp_path) == []
    discard(tmp_path, make(tmp_path))
    assert not target.exists()


def test_a_card_says_what_it_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"abc")
    content = {"n": 3, "loss": 0.1, "name": '猫 \u2028 "quoted"', "nested": {"b": [1, None], "a": True}}
    seal(tmp_path, CARD, content)
    read = read_card(tmp_path, CARD)
    assert {name: read[name] for name in content} == content
    text = (tmp_path / CARD).read_text("utf-8")
    for changed in (text.replace(": 3", ": 4"), text.replace("\n ", "\n  "), text + " ", "[]", "{}", ""):
        (tmp_path / CARD).write_text(changed, "utf-8")
        with pytest.raises(Damaged, match=r"card\.json"):
            read_card(tmp_path, CARD)


@pytest.mark.parametrize("name", ["data", CARD])
def test_every_flipped_bit_is_found(name: str, tmp_path: Path) -> None:
    folder = make(tmp_path)
    assert unseal(folder, CARD)["n"] == 3
    whole = (folder / name).read_bytes()
    for position in range(len(whole)):
        for bit in range(8):
            data = bytearray(whole)
            data[position] ^= 1 << bit
            (folder / name).write_bytes(data)
            with pytest.raises(Damaged, match=name):
                unseal(folder, CARD)


@pytest.mark.parametrize("name", ["data", CARD])
def test_a_file_that_is_gone_or_a_folder_is_missing(name: str, tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / name).unlink()
    with pytest.raises(Damaged, match=f"{name} is missing"):
        unseal(folder, CARD)
    (folder / name).mkdir()
    with pytest.raises(Damaged, match=f"{name} is missing"):
        unseal(folder, CARD)


def test_what_the_machine_refuses_is_no_damage_but_a_bad_sector_is() -> None:
    for number, kind in ((errno.EIO, Damaged), (errno.EACCES, PermissionError), (errno.EMFILE, OSError)):
        with pytest.raises(kind) as caught, reading("data"):
            raise OSError(number, os.strerror(number))
        assert isinstance(caught.value, Damaged) == (number == errno.EIO)


def test_touch_notes_the_time_and_minds_nothing(tmp_path: Path) -> None:
    folder = make(tmp_path)
    os.utime(folder, (1e9, 1e9))
    touch(folder)
    assert folder.stat().st_mtime > 1e9 + 1e8
    touch(tmp_path / "nothing there")


@pytest.mark.parametrize(
    ("name", "expected"),
    [(NAME, True), ("f" * 64, True), ("F" * 64, False), ("0" * 63, False), ("0" * 65, False),
     (NAME + "\n", False), ("g" * 64, False), (ASIDE, False)],
)  # fmt: skip
def test_only_digests_are_ours(name: str, expected: bool) -> None:
    assert is_digest(name) == expected
