"""The published feature store, open for reading: one zarr v3 group per layer, read strictly.

    store = FeatureStore("fc7")                         # artifacts/features/fc7.zarr
    X = store.rows(store.where("train"))                # (n, 4096) float32
    make_pipeline(FeatureStore("fc7"), LogisticRegression()).fit(store.where("train"), y)

How it is laid out stands in `features.publish`. Any zarr v3 reader opens it, too:
`xarray.open_zarr(path, consolidated=False)` gives named dimensions.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray

from features import digests
from features.errors import BadInput
from features.files import naming, of_machine
from features.manifest import SPLITS
from features.publish import COORDINATES, SCHEMA

if TYPE_CHECKING:
    from dask.array import Array as DaskArray


REMEDY = "run `python cli.py extract`, which makes that part again, or `python cli.py verify`"

LAZY_CHUNK = 32 * 2**20  # bytes of float32: training in mini-batches mixes the rows of several

Positions = NDArray[np.intp]  # row numbers
Features = NDArray[np.float32]


class FeatureStore:
    """A published store; also a scikit-learn transformer from row numbers or image ids to features.

    Parameters
    ----------
    layer : str or Path
        A layer's name (`pool5:avg`), or the path of a store (`…/pool5-avg.zarr`).
    project : str or Path
        Folder that holds `artifacts/`, for a layer's name.
    view : int
        Which view `transform` returns where there are several; `rows` returns all of them.

    Raises
    ------
    BadInput
        On first use, where the store is absent, unfinished or damaged.
    """

    def __init__(self, layer: str | Path, project: str | Path = ".", view: int = 0) -> None:
        self.layer = layer
        self.project = project
        self.view = view

    @classmethod
    def open(cls, path: Path) -> "FeatureStore":
        """Open the store at `path` now, not on first use."""
        return cls(path).fit()

    @property
    def path(self) -> Path:
        """The group's folder."""
        if isinstance(self.layer, Path) or self.layer.endswith(".zarr"):
            return Path(self.layer)
        return Path(self.project) / "artifacts" / "features" / f"{self.layer.replace(':', '-')}.zarr"

    @cached_property
    def group(self) -> zarr.Group:
        """The zarr group, after every file's size and every small file's digest were compared."""
        stem = self.path.stem
        for name, recorded in digests.read(self.path).items():
            shard = name.startswith(f"{stem}/c/")
            if damage := digests.damage(self.path / name, recorded, content=not shard):
                raise BadInput(f"{self.path} is damaged: {name} {damage}; {REMEDY}")
        try:
            with naming(self.path):
                group = zarr.open_group(str(self.path), mode="r", zarr_format=3)
                names = set(group.array_keys())
        except (OSError, ValueError, KeyError) as error:
            if of_machine(error):
                raise
            raise BadInput(f"{self.path} is damaged ({error}); {REMEDY}") from error
        if group.attrs.get("schema") != SCHEMA or names != {stem, *COORDINATES}:
            raise BadInput(
                f"{self.path} is not a feature store of schema {SCHEMA}; delete it and run `extract`"
            )
        return group

    @property
    def attributes(self) -> dict[str, Any]:
        """What the store says of itself."""
        return dict(self.group.attrs)

    @property
    def features(self) -> zarr.Array[Any]:
        """The array (image, feature) or (image, view, feature), in the store's dtype."""
        return self.array(self.path.stem)

    def array(self, name: str) -> zarr.Array[Any]:
        """One of the group's arrays: the features, or a coordinate."""
        array = self.group[name]
        assert isinstance(array, zarr.Array)  # noqa: S101 - narrows the type; `group` has checked
        return array

    def __len__(self) -> int:
        return int(self.features.shape[0])

    def dask(self, rows: int | None = None) -> "DaskArray":
        """Return the features as a lazy dask array; one chunk is one shard, or so many rows.

        For what is larger than memory. Reads are not checked for holes, as `rows` does.
        """
        import dask.array  # noqa: PLC0415 - slow to import, and seldom needed

        # Whole shards: by default dask would read each of their inner chunks by itself
        shape = self.features.shards or self.features.chunks
        chunks = shape if rows is None else (rows, *shape[1:])
        lazy: DaskArray = dask.array.from_zarr(self.features, chunks=chunks)
        return lazy

    def lazy_rows(self, positions: Positions) -> "DaskArray":
        """Return ascending rows as a dask array: (n, width) or (n, views, width) float32.

        Its chunks are of about `LAZY_CHUNK` bytes, and checked for holes when they are read.
        """
        array = self.features
        inner = int(array.chunks[0])
        row = 4 * int(np.prod(array.shape[1:]))
        stored = self.dask(max(LAZY_CHUNK // row // inner, 1) * inner)
        lazy: DaskArray = stored[positions].map_blocks(self._finite, dtype=np.float32)
        return lazy

    def _finite(self, stored: NDArray[Any]) -> Features:
        rows = stored.astype(np.float32, copy=False)
        if not np.isfinite(rows).all():
            raise BadInput(f"{self.path} has a row without valid features (a missing chunk); {REMEDY}")
        return rows

    def where(self, split: str) -> Positions:
        """Row numbers of one split, ascending."""
        return np.flatnonzero(np.asarray(self.array("split")[:]) == SPLITS.index(split))

    @property
    def labels(self) -> NDArray[np.int32]:
        """Class numbers, (n_images,) int32; names in the attribute `classes`."""
        return np.asarray(self.array("label")[:], np.int32)

    @cached_property
    def ids(self) -> list[str]:
        """Image ids in order."""
        return [bytes(row).rstrip(b"\0").decode() for row in np.asarray(self.array("id")[:], np.uint8)]

    @property
    def keys(self) -> NDArray[np.uint8]:
        """The images' sha256, (n_images, 32) uint8."""
        return np.asarray(self.array("sha256")[:], np.uint8)

    def rows(self, positions: NDArray[Any], view: int | None = None) -> Features:
        """Read rows, cast to float32 once.

        Parameters
        ----------
        positions : (n,) row numbers, in any order
        view : int, optional
            Only this view where there are several.

        Returns
        -------
        (n, width), or (n, views, width) where there are several and none is asked for

        Raises
        ------
        BadInput
            When a chunk is missing, damaged or holds what is not a finite number.
        """
        positions = np.asarray(positions)
        shape = self.features.shape[2:] if self._picked(view) else self.features.shape[1:]
        rows = np.empty((len(positions), *shape), np.float32)
        order = np.argsort(positions, kind="stable")
        start = 0
        for _, part in self.stream(positions[order], view):
            rows[order[start : start + len(part)]] = part
            start += len(part)
        return rows

    def stream(self, positions: Positions, view: int | None = None) -> Iterator[tuple[Positions, Features]]:
        """Read ascending rows a shard at a time, for what is larger than memory: (row numbers, rows).

        Only chunks that hold a row asked for are decoded (see `rows` for the rest).
        """
        array = self.features
        shard, chunk = (array.shards or array.chunks)[0], array.chunks[0]
        for part in _runs(positions, positions // shard):
            # Neighbouring chunks are decoded in one call, which spreads them over the cores
            for run in _runs(part, np.cumsum(np.diff(part // chunk, prepend=part[0] // chunk) > 1)):
                start = int(run[0]) // chunk * chunk
                stop = min((int(run[-1]) // chunk + 1) * chunk, len(self))
                yield run, self._read(start, stop, run - start, view)

    def _picked(self, view: int | None) -> bool:
        return view is not None and self.features.ndim == 3

    def _read(self, start: int, stop: int, local: Positions, view: int | None) -> Features:
        try:
            with naming(self.path):
                stored = np.asarray(self.features[start:stop])
        except (RuntimeError, OSError, ValueError) as error:
            if of_machine(error):
                raise
            raise BadInput(
                f"{self.path} is damaged in rows {start} to {stop - 1} ({error}); {REMEDY}"
            ) from error
        if self._picked(view):
            stored = stored[:, view]
        if len(local) < len(stored):
            stored = stored[local]
        rows = stored.astype(np.float32, copy=False)
        if not np.isfinite(rows).all():
            bad = start + local[np.flatnonzero(~np.isfinite(rows).reshape(len(rows), -1).all(axis=1))[0]]
            raise BadInput(f"{self.path} has no valid features in row {bad} (a missing chunk); {REMEDY}")
        return rows

    # What scikit-learn asks of a transformer; importing its base class would cost every command a second.

    def fit(self, X: object = None, y: object = None) -> Self:
        """Open the store; there is nothing to learn."""
        _ = self.group
        return self

    def transform(self, X: NDArray[Any]) -> Features:
        """Look up features, (n, width) float32, by row numbers or image ids, (n,) or (n, 1)."""
        asked = np.asarray(X).reshape(-1)
        if asked.dtype.kind not in "iu":
            number = {name: position for position, name in enumerate(self.ids)}
            try:
                asked = np.array([number[str(name)] for name in asked], np.intp)
            except KeyError as error:
                raise BadInput(
                    f"{self.path} has no image {error}; its ids are paths below the root"
                ) from None
        if len(asked) and not 0 <= asked.min() <= asked.max() < len(self):
            raise BadInput(
                f"{self.path} has rows 0 to {len(self) - 1}; asked were {asked.min()} to {asked.max()}"
            )
        return self.rows(asked, view=self.view)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"layer": self.layer, "project": self.project, "view": self.view}

    def set_params(self, **parameters: Any) -> Self:
        """Change constructor arguments; the store is opened anew on next use."""
        self.__dict__ = self.get_params() | parameters
        return self

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags  # noqa: PLC0415 - see above

        tags = InputTags(one_d_array=True, string=True)
        return Tags(None, TargetTags(required=False), TransformerTags(), input_tags=tags, requires_fit=False)


def _runs(positions: Positions, groups: NDArray[Any]) -> list[Positions]:
    """Split where the group changes; none for no positions."""
    return np.split(positions, np.flatnonzero(np.diff(groups)) + 1) if len(positions) else []
