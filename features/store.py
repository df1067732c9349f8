"""The published feature store: one zarr v3 group per layer, written whole, read strictly.

    store = FeatureStore.open(Path("artifacts/features/fc7.zarr"))
    X = store.rows(store.where("train"))          # (n, 4096) float32

Layout: `<stem>` (image, feature); `id` uint8 (image, width) UTF-8, padded with
zeros; `label` int32; `split` int8, positions in the attribute `splits`;
`sha256` uint8 (image, 32). Beside the group, `<stem>.sha256` lists the digest of
every file in it, in the format of `sha256sum`, and is written last.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from features.errors import BadInput
from features.files import remove, sha256_file, written_aside
from features.manifest import SPLITS, Manifest

if TYPE_CHECKING:
    import dask.array

SCHEMA = 1
SHARD_BYTES = 128 << 20  # few large files: object stores, DVC and disks all like them
CHUNK_BYTES = 1 << 20  # the least that is decoded at once


@dataclass(frozen=True)
class Layout:
    """Rows per shard and per inner chunk for rows of a given size."""

    shard: int
    chunk: int

    @classmethod
    def of(cls, n_images: int, row_bytes: int) -> "Layout":
        """A shard holds whole chunks; one shard where everything fits into it."""
        chunk = max(1, min(n_images, -(-CHUNK_BYTES // row_bytes)))
        chunks = max(1, min(SHARD_BYTES // (chunk * row_bytes), -(-n_images // chunk)))
        return cls(chunk * chunks, chunk)


def publish(
    target: Path,
    *,
    scratch: Path,
    manifest: Manifest,
    shards: Iterator[NDArray[Any]],
    layout: Layout,
    width: int,
    dtype: str,
    attributes: Mapping[str, Any],
) -> None:
    """Write a store beside its final place and make it appear whole.

    Parameters
    ----------
    target : Path
        `…/fc7.zarr`; the array inside bears the stem's name.
    scratch : Path
        Folder for the unfinished store, on the same file system.
    shards : iterator of (layout.shard, width) arrays, the last one shorter
    attributes : mapping
        What the store says of itself besides its schema version.
    """
    digests = digest_file(target)
    digests.unlink(missing_ok=True)  # from here on the old store is no longer vouched for
    with written_aside(target, scratch=scratch) as aside:
        group = zarr.create_group(str(aside), zarr_format=3, attributes={"schema": SCHEMA, **attributes})
        array = _create(group, target.stem, (len(manifest), width), dtype, ("image", "feature"), layout)
        start = 0
        for rows in shards:
            array[start : start + len(rows)] = rows
            start += len(rows)
        if start != len(manifest):
            raise RuntimeError(f"{target}: {start} rows were given for {len(manifest)} images")
        _write_coordinates(group, manifest)
        # "./" beside the name: what `sha256sum --check` run in the folder expects
        listed = [f"{sha256_file(file)}  {target.name}/{name}\n" for name, file in _files(aside)]
    with written_aside(digests, scratch=scratch) as aside:
        aside.write_text("".join(listed), "utf-8")


def _create(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    dimensions: tuple[str, ...],
    layout: Layout | None = None,
) -> zarr.Array[Any]:
    rest = shape[1:]
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(layout.chunk, *rest) if layout else shape,
        shards=(layout.shard, *rest) if layout else None,
        # NaN: a hole must not look like a feature. Level 1 writes twice as fast
        # as the default for two per cent more bytes.
        fill_value=float("nan") if dtype.startswith("float") else 0,
        compressors=ZstdCodec(level=1, checksum=True),
        dimension_names=dimensions,
        config={"write_empty_chunks": True},
    )


def _write_coordinates(group: zarr.Group, manifest: Manifest) -> None:
    encoded = [row.id.encode() for row in manifest.rows]
    longest = max(len(text) for text in encoded)
    ids = np.array([list(text.ljust(longest, b"\0")) for text in encoded], np.uint8)
    keys = np.frombuffer(b"".join(manifest.keys), np.uint8).reshape(len(manifest), -1)
    columns: dict[str, tuple[NDArray[Any], tuple[str, ...]]] = {
        "id": (ids, ("image", "byte")),
        "label": (manifest.labels, ("image",)),
        "split": (manifest.splits, ("image",)),
        "sha256": (keys, ("image", "digest")),
    }
    for name, (values, dimensions) in columns.items():
        _create(group, name, values.shape, str(values.dtype), dimensions)[...] = values


def digest_file(target: Path) -> Path:
    """`fc7.zarr` → `fc7.sha256`, beside it."""
    return target.with_suffix(".sha256")


def _files(store: Path) -> list[tuple[str, Path]]:
    found = [Path(folder) / name for folder, _, names in os.walk(store) for name in names]
    return sorted((file.relative_to(store).as_posix(), file) for file in found)


def delete(target: Path) -> None:
    """Remove a store and its digests."""
    digest_file(target).unlink(missing_ok=True)
    remove(target)


@dataclass(frozen=True)
class FeatureStore:
    """A published store, open for reading."""

    path: Path
    group: zarr.Group

    @classmethod
    def open(cls, path: Path) -> "FeatureStore":
        """Open a store that is whole.

        Raises
        ------
        BadInput
            Where it is absent, unfinished, or its metadata cannot be read.
        """
        if not digest_file(path).exists() or not path.is_dir():
            raise BadInput(f"there is no finished store {path}; run `extract` first")
        try:
            group = zarr.open_group(str(path), mode="r", zarr_format=3)
            names = set(group.array_keys())
        except (OSError, ValueError, KeyError) as error:
            raise BadInput(f"{path} is damaged ({error}); delete it and run `extract` again") from error
        if group.attrs.get("schema") != SCHEMA or path.stem not in names:
            raise BadInput(f"{path} is not a feature store of schema {SCHEMA}; delete it and run `extract`")
        return cls(path, group)

    @property
    def attributes(self) -> dict[str, Any]:
        """What the store says of itself."""
        return dict(self.group.attrs)

    @property
    def features(self) -> zarr.Array[Any]:
        """The array (image, feature), in the store's dtype."""
        return self._array(self.path.stem)

    def _array(self, name: str) -> zarr.Array[Any]:
        array = self.group[name]
        assert isinstance(array, zarr.Array)  # noqa: S101 - narrows the type; `open` has checked
        return array

    def dask(self) -> "dask.array.Array":
        """Return the features as a lazy (image, feature) dask array; one chunk is one shard.

        For what is larger than memory. Reads are not checked for holes, as `rows` does.
        """
        import dask.array  # noqa: PLC0415 - slow to import, and seldom needed

        # Whole shards: by default dask would read each of their inner chunks by itself
        lazy: dask.array.Array = dask.array.from_zarr(self.features, chunks=self.features.shards)
        return lazy

    def where(self, split: str) -> NDArray[np.intp]:
        """Row numbers of one split, ascending."""
        return np.flatnonzero(np.asarray(self._array("split")[:]) == SPLITS.index(split))

    @property
    def labels(self) -> NDArray[np.int32]:
        """Class numbers, (n_images,) int32; names in the attribute `classes`."""
        return np.asarray(self._array("label")[:], np.int32)

    @property
    def ids(self) -> list[str]:
        """Image ids in order."""
        return [bytes(row).rstrip(b"\0").decode() for row in np.asarray(self._array("id")[:], np.uint8)]

    def rows(self, positions: NDArray[np.intp]) -> NDArray[np.float32]:
        """Read rows, cast to float32 once.

        Parameters
        ----------
        positions : (n,) ascending row numbers

        Raises
        ------
        BadInput
            When a chunk is missing, damaged or holds what is not a finite number.
        """
        array = self.features
        try:
            rows = np.asarray(array.oindex[positions]).astype(np.float32, copy=False)
        except (RuntimeError, OSError, ValueError) as error:
            raise BadInput(f"{self.path} is damaged ({error}); delete it and run `extract` again") from error
        if not np.isfinite(rows).all():
            bad = positions[np.flatnonzero(~np.isfinite(rows).all(axis=1))[0]]
            raise BadInput(
                f"{self.path} has no valid features in row {bad} (a missing chunk); "
                "delete it and run `extract` again"
            )
        return rows
