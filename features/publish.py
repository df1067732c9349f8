"""Write a store: one zarr v3 group per layer, whole, beside its final place, then visible at once.

    publish(folder / "fc7.zarr", scratch=scratch, manifest=manifest, rows=rows, ...)

Layout: `<stem>` (image, feature), or (image, view, feature) where there are several
views; `id` uint8 (image, byte) UTF-8, padded with zeros; `label` int32; `split` int8,
positions in the attribute `splits`; `sha256` uint8 (image, digest). Beside the group,
`<stem>.sha256` vouches for every file in it and is written last (`features.digests`).

Shards are put together here, chunk by chunk, and not by zarr, which takes a shard as
one array and holds it several times: memory stays flat and all cores encode. The bytes
are those that zarr writes; a test holds them together.

References
----------
The zarr v3 sharding codec: chunks one after the other, then for each its offset and its
length as little-endian uint64, then the crc32c of these.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from features import digests
from features.cores import cores
from features.digests import Recorded
from features.errors import BadInput
from features.files import naming, remove, sha256_file, written_aside
from features.manifest import Manifest
from features.progress import Progress

SCHEMA = 1
COORDINATES = ("id", "label", "split", "sha256")
SHARD_BYTES = 128 << 20  # of rows: few large files, which object stores, DVC and disks all like
CHUNK_BYTES = 1 << 20  # the least that is decoded at once
LEVEL = 1  # of zstd: writes twice as fast as the default for 2 % more bytes
WAITING = 2  # threads beyond the cores: some are always waiting for the disk
ABSENT = np.uint64(2**64 - 1)  # offset and length of a chunk beyond the last image

RowRange = Callable[[int, int], NDArray[Any]]  # (start, stop) → rows of these images


@dataclass(frozen=True)
class Shards:
    """Images per shard and per inner chunk."""

    shard: int
    chunk: int

    @classmethod
    def of(cls, n_images: int, image_bytes: int) -> "Shards":
        """A shard holds whole chunks; one shard where everything fits into it."""
        chunk = max(1, min(n_images, -(-CHUNK_BYTES // image_bytes)))
        chunks = max(1, min(SHARD_BYTES // (chunk * image_bytes), -(-n_images // chunk)))
        return cls(chunk * chunks, chunk)


def publish(
    target: Path,
    *,
    scratch: Path,
    manifest: Manifest,
    rows: RowRange,
    shape: tuple[int, ...],
    dtype: str,
    attributes: Mapping[str, Any],
    shards: Shards | None = None,
    reuse: bool = True,
) -> None:
    """Write a store beside its final place and make it appear whole.

    Parameters
    ----------
    target : Path
        `…/fc7.zarr`; the array inside bears the stem's name.
    scratch : Path
        Folder for the unfinished store, on the same file system.
    rows : callable (start, stop) → (stop - start, *shape) array of `dtype`
        Called from several threads at once.
    shape : (width,) or (views, width)
    attributes : mapping
        What the store says of itself besides its schema version; `manifest` and
        `fingerprint` say which content it has.
    reuse : bool
        Take over shards of the store that stands there, where it has the same
        content and they are sound.
    """
    n = len(manifest)
    shards = shards or Shards.of(n, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    with written_aside(target, scratch=scratch) as aside:
        group = zarr.create_group(str(aside), zarr_format=3, attributes={"schema": SCHEMA, **attributes})
        views = ("view",) if len(shape) == 2 else ()
        _create(group, target.stem, (n, *shape), dtype, ("image", *views, "feature"), shards)
        _write_coordinates(group, manifest)
        earlier = _same_content(target, aside) if reuse else {}
        records = _write_shards(aside, target, rows, (n, shards.chunk, *shape), shards, earlier)
        for name, file in digests.files(aside).items():
            if name not in records:
                records[name] = Recorded(sha256_file(file), file.stat().st_size)
        # From here on the old store is no longer vouched for
        digests.digest_file(target).unlink(missing_ok=True)
    with written_aside(digests.digest_file(target), scratch=scratch) as aside:
        aside.write_text(digests.text_of(target, records), "utf-8")


def _create(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    dimensions: tuple[str, ...],
    shards: Shards | None = None,
) -> zarr.Array[Any]:
    rest = shape[1:]
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(shards.chunk, *rest) if shards else shape,
        shards=(shards.shard, *rest) if shards else None,
        # NaN: a hole must not look like a feature
        fill_value=float("nan") if dtype.startswith("float") else 0,
        compressors=ZstdCodec(level=LEVEL, checksum=True),
        dimension_names=dimensions,
        config={"write_empty_chunks": True},
    )


def _write_coordinates(group: zarr.Group, manifest: Manifest) -> None:
    encoded = [row.id.encode() for row in manifest.rows]
    longest = max(len(text) for text in encoded)
    padded = b"".join(text.ljust(longest, b"\0") for text in encoded)
    columns: dict[str, tuple[NDArray[Any], tuple[str, ...]]] = {
        "id": (np.frombuffer(padded, np.uint8).reshape(-1, longest), ("image", "byte")),
        "label": (manifest.labels, ("image",)),
        "split": (manifest.splits, ("image",)),
        "sha256": (manifest.keys, ("image", "digest")),
    }
    for name, (values, dimensions) in columns.items():
        _create(group, name, values.shape, str(values.dtype), dimensions)[...] = values


def _same_content(earlier: Path, now: Path) -> dict[str, Recorded]:
    """Records of the shards of a store that stands there already, if it would be written the same."""
    try:
        records = digests.read(earlier)
        metadata = f"{earlier.stem}/zarr.json"
        attributes = [
            json.loads((store / "zarr.json").read_bytes())["attributes"] for store in (earlier, now)
        ]
        same = all(attributes[0].get(key) == attributes[1].get(key) for key in ("manifest", "fingerprint"))
        same &= (earlier / metadata).read_bytes() == (now / metadata).read_bytes()
    except (BadInput, OSError, ValueError, KeyError, TypeError):
        return {}
    return {name: record for name, record in records.items() if "/c/" in name} if same else {}


def _write_shards(
    aside: Path,
    target: Path,
    rows: RowRange,
    bounds: tuple[int, ...],
    shards: Shards,
    earlier: Mapping[str, Recorded],
) -> dict[str, Recorded]:
    """Write the shards, several side by side, or link the earlier store's where they are sound.

    `bounds` is (n_images, *chunk's shape); returns the files' records by their names in the store.
    """
    n, *chunk = bounds
    one_shard = ["0"] * (len(chunk) - 1)  # a shard spans all views and features

    def write(start: int) -> tuple[str, Recorded]:
        name = "/".join([target.stem, "c", str(start // shards.shard), *one_shard])
        file = aside / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name in earlier and not digests.damage(target / name, earlier[name], content=True):
            _link(target / name, file)
            return name, earlier[name]
        stop = min(n, start + shards.shard)
        parts = (rows(i, min(stop, i + shards.chunk)) for i in range(start, stop, shards.chunk))
        return name, write_shard(file, parts, tuple(chunk), shards.shard // shards.chunk)

    with (
        ThreadPoolExecutor(cores() + WAITING) as pool,
        Progress(f"publish {target.stem}", n, "images") as progress,
    ):
        records = {}
        for name, record in pool.map(write, range(0, n, shards.shard)):
            records[name] = record
            progress.advance(min(shards.shard, n - progress.done))
    return records


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)  # nothing is edited in place, so both names may share the bytes
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def write_shard(file: Path, parts: Iterator[NDArray[Any]], chunk: tuple[int, ...], count: int) -> Recorded:
    """Write one shard, a chunk at a time, and flush it to disk.

    Parameters
    ----------
    parts : iterator of (n ≤ chunk[0], *chunk[1:]) arrays
        A short one is padded with NaN, as zarr does.
    count : int
        Chunks that a shard has room for; those not given are marked absent.
    """
    codec, digest = Zstd(level=LEVEL, checksum=True), sha256()
    index = np.full((count, 2), ABSENT, "<u8")
    file.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with naming(file), file.open("wb") as opened:
        for number, part in enumerate(parts):
            missing = np.full((chunk[0] - len(part), *chunk[1:]), np.nan, part.dtype)
            full = np.concatenate([part, missing]) if len(missing) else np.ascontiguousarray(part)
            encoded = codec.encode(full)
            index[number] = size, len(encoded)
            size += opened.write(encoded)
            digest.update(encoded)
        table = index.tobytes()
        table += google_crc32c.value(table).to_bytes(4, "little")
        size += opened.write(table)
        digest.update(table)
        opened.flush()
        os.fsync(opened.fileno())
    return Recorded(digest.hexdigest(), size)


def delete(target: Path) -> None:
    """Remove a store and what vouches for it."""
    digests.digest_file(target).unlink(missing_ok=True)
    remove(target)
