"""Writing a store: zarr's own bytes, whole or not at all, nothing written twice."""

import os
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import ZstdCodec

from features import digests
from features.manifest import Manifest, Row
from features.publish import LEVEL, Shards, publish
from features.store import FeatureStore
from tests.conftest import bytes_of


def manifest(n: int) -> Manifest:
    splits = ("train", "validation", "test")
    return Manifest(
        tuple(Row(f"{i:05}", f"{i:05}", "ab"[i % 2], splits[i % 3], f"{i:064x}", 9, 9) for i in range(n))
    )


def published(
    folder: Path, rows: np.ndarray, shards: Shards | None = None, fingerprint: str = "f", stem: str = "x"
) -> tuple[Path, list[int]]:
    """Publish `rows` as `<stem>.zarr`; also the numbers of the rows that were asked for."""
    asked: list[int] = []

    def some(start: int, stop: int) -> np.ndarray:
        asked.extend(range(start, stop))
        return rows[start:stop]

    publish(
        folder / f"{stem}.zarr", scratch=folder / "scratch", manifest=manifest(len(rows)), rows=some,
        shape=rows.shape[1:], dtype=str(rows.dtype), shards=shards,
        attributes={"manifest": "m", "fingerprint": fingerprint},
    )  # fmt: skip
    return folder / f"{stem}.zarr", sorted(asked)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("n", [1, 3, 7, 8, 9, 24, 25])
@pytest.mark.parametrize("shape", [(5,), (3, 5)])
def test_shards_are_the_bytes_that_zarr_writes(
    n: int, shape: tuple[int, ...], dtype: str, tmp_path: Path
) -> None:
    rows = np.random.default_rng(n).normal(size=(n, *shape)).astype(dtype)
    rows[: min(n, 5)] = 0  # a chunk of zeros is written like any other
    target, _ = published(tmp_path, rows, Shards(8, 4))
    views = ("view",) if len(shape) == 2 else ()
    array = zarr.create_group(str(tmp_path / "zarr"), zarr_format=3).create_array(
        "x", shape=rows.shape, dtype=dtype, chunks=(4, *shape), shards=(8, *shape), fill_value=np.nan,
        compressors=ZstdCodec(level=LEVEL, checksum=True), config={"write_empty_chunks": True},
        dimension_names=("image", *views, "feature"),
    )  # fmt: skip
    array[...] = rows
    assert bytes_of(target / "x") == bytes_of(tmp_path / "zarr" / "x")


@pytest.mark.parametrize("n", [1, 8, 25])
def test_store_of_any_length_round_trips(n: int, tmp_path: Path) -> None:
    rows = np.random.default_rng(n).normal(size=(n, 5)).astype(np.float16)
    opened = FeatureStore.open(published(tmp_path, rows, Shards(8, 4))[0])
    np.testing.assert_array_equal(opened.rows(np.arange(n)), rows.astype(np.float32))
    assert opened.features.shape == (n, 5)


def test_layout_is_whole_chunks_in_bounds() -> None:
    for n, row_bytes in ((10, 1024), (60_000, 8192), (1_000_000, 50_176), (50, 6_422_528), (3, 100)):
        shards = Shards.of(n, row_bytes)
        assert shards.shard % shards.chunk == 0
        assert shards.chunk * row_bytes >= min(1 << 20, n * row_bytes)
        assert shards.shard * row_bytes <= max(256 << 20, row_bytes)
        if n * row_bytes > 256 << 20:
            assert shards.shard * row_bytes >= 64 << 20


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "none"])
def test_sound_shards_of_the_same_content_are_taken_over(damage: str, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(30, 50)).astype(np.float16)
    target, asked = published(tmp_path, rows, Shards(8, 4))
    assert asked == list(range(30))
    want = bytes_of(tmp_path)
    shard = target / "x" / "c" / "1" / "0"
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 16
    if damage == "missing":
        shard.unlink()
    elif damage == "truncated":
        shard.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        shard.write_bytes(data)
    _, asked = published(tmp_path, rows, Shards(8, 4))
    assert asked == ([] if damage == "none" else list(range(8, 16)))
    assert bytes_of(tmp_path) == want


def test_shards_of_other_content_are_not_taken_over(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(30, 50)).astype(np.float16)
    published(tmp_path, rows, Shards(8, 4))
    for shards, fingerprint in ((Shards(8, 4), "another"), (Shards(16, 4), "another")):
        _, asked = published(tmp_path, rows, shards, fingerprint)
        assert asked == list(range(30))


def test_a_failure_leaves_the_old_store_as_it_was(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(30, 50)).astype(np.float16)
    target, _ = published(tmp_path, rows, Shards(8, 4))
    want = bytes_of(tmp_path)

    def failing(start: int, stop: int) -> np.ndarray:
        if start >= 16:
            raise OSError(28, "No space left on device")
        return rows[start:stop]

    with pytest.raises(OSError, match="No space"):
        publish(
            target, scratch=tmp_path / "scratch", manifest=manifest(30), rows=failing, shape=(50,),
            dtype="float16", shards=Shards(8, 4), attributes={"manifest": "m", "fingerprint": "g"},
        )  # fmt: skip
    assert bytes_of(tmp_path) == want


def test_everything_is_on_the_disk_before_it_is_vouched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power may fail at any time: each file is flushed, then the folder that names it, then the digests."""
    flushed: list[int] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        fsync(descriptor)
        flushed.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", recorded)
    target, _ = published(tmp_path, np.ones((30, 50), np.float16), Shards(8, 4))
    last = digests.digest_file(target).stat().st_ino
    assert {file.stat().st_ino for file in digests.files(target).values()} <= set(
        flushed[: flushed.index(last)]
    )
    assert tmp_path.stat().st_ino in flushed[flushed.index(last) :]
