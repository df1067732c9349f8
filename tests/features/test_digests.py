"""What vouches for a store: what `sha256sum` says of it, and each way in which it can be wrong."""

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest

from features import digests
from features.digests import Recorded
from features.errors import BadInput
from features.publish import Shards
from tests.conftest import bytes_of
from tests.features.test_publish import published

CONTENT = {"zarr.json": b"{}", "x/c/0/0": b"rows", "odd name  with spaces": b""}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder with its digests beside it, as they are written."""
    folder = tmp_path / "x.zarr"
    for name, content in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    records = {name: Recorded(hashlib.sha256(data).hexdigest(), len(data)) for name, data in CONTENT.items()}
    digests.digest_file(folder).write_text(digests.text_of(folder, records), "utf-8")
    return folder


def test_they_are_what_sha256sum_checks(tmp_path: Path) -> None:
    target, _ = published(tmp_path, np.zeros((9, 5), np.float16), Shards(8, 4))
    check = ["sha256sum", "--check", "--strict", "x.sha256"]
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.count(": OK") == len(bytes_of(target))
    recorded = digests.read(target)
    assert {name: record.size for name, record in recorded.items()} == {
        name: len(content) for name, content in bytes_of(target).items()
    }


def test_what_was_written_is_read(store: Path) -> None:
    assert digests.digest_file(store) == store.parent / "x.sha256"
    assert list(digests.files(store)) == sorted(CONTENT)
    found = digests.read(store)
    assert {name: (each.sha256, each.size) for name, each in found.items()} == {
        name: (hashlib.sha256(data).hexdigest(), len(data)) for name, data in CONTENT.items()
    }
    assert all(not digests.damage(store / name, each, content=True) for name, each in found.items())


def test_an_unfinished_store_is_none(store: Path) -> None:
    digests.digest_file(store).unlink()
    with pytest.raises(BadInput, match=r"its digests, x\.sha256, are not beside it; run `extract` first"):
        digests.read(store)
    with pytest.raises(BadInput, match=r"no finished store \S*y\.zarr; run `extract` first"):
        digests.read(store.with_name("y.zarr"))


def test_digests_of_another_store_are_told_from_damaged_ones(store: Path) -> None:
    moved = store.rename(store.with_name("y.zarr"))
    digests.digest_file(store).rename(digests.digest_file(moved))
    with pytest.raises(BadInput, match=r"is of x\.zarr, not of y\.zarr.*rename both back"):
        digests.read(moved)


D, E = "0" * 64, "# 3 bytes  x.zarr/a\n"


@pytest.mark.parametrize(
    "text",
    [
        "hello\n",
        f"{D}  x.zarr/a\n",  # without its size
        f"{E}{D[:-1]}  x.zarr/a\n",
        f"{E}{D.replace('0', 'g')}  x.zarr/a\n",
        f"{E}{D} x.zarr/a\n",
        *(f"# 3 bytes  {name}\n{D}  {name}\n" for name in (
            "x.zarr", "x.zarr/", "x.zarr/../secret", "x.zarr/./a", "x.zarr//a",
        )),
    ],
)  # fmt: skip
def test_what_is_not_digests_is_refused_and_leads_nowhere_else(text: str, store: Path) -> None:
    digests.digest_file(store).write_text(text, "utf-8")
    with pytest.raises(BadInput, match=r"x\.sha256 is damaged .*; run `extract` again"):
        digests.read(store)


def test_bytes_that_are_no_text_are_damage(store: Path) -> None:
    digests.digest_file(store).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="is damaged"):
        digests.read(store)


def test_each_kind_of_damage_has_its_words(store: Path) -> None:
    file, recorded = store / "x" / "c" / "0" / "0", digests.read(store)["x/c/0/0"]
    file.write_bytes(b"rowz")
    assert digests.damage(file, recorded, content=False) == ""  # the same size
    assert digests.damage(file, recorded, content=True) == "is not what its sha256 says"
    file.write_bytes(b"row")
    assert digests.damage(file, recorded, content=False) == "has 3 of 4 bytes"
    file.unlink()
    assert digests.damage(file, recorded, content=True) == "is missing"
    file.symlink_to(store / "zarr.json")  # a link is not what was published, wherever it leads
    assert digests.damage(file, recorded, content=False) == "is missing"
    file.unlink()
    file.mkdir()
    assert digests.damage(file, recorded, content=False) == "is missing"
