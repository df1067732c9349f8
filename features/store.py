"""The published feature store, open for reading: one zarr v3 group per layer, read strictly.

    store = FeatureStore("fc7")                         # artifacts/features/fc7.zarr
    X = store.rows(store.where("train"))                # (n, 4096) float32
    make_pipeline(FeatureStore("fc7"), LogisticRegression()).fit(store.where("train"), y)

How it is laid out stands in `features.publish`. Any zarr v3 reader opens it, too:
`xarray.open_zarr(path, consolidated=False)` gives named dimensions.
"""

import difflib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray

from features.errors import BadInput
from features.manifest import SPLITS
from features.opening import opened
from features.positions import Positions, array_of, positions, view_of
from features.reading import Features, finite, streamed
from features.transformer import Transformer

if TYPE_CHECKING:
    from dask.array import Array as DaskArray


LAZY_CHUNK = 32 * 2**20  # bytes of float32: training in mini-batches mixes the rows of several


class FeatureStore(Transformer):
    """A published store; also a scikit-learn transformer from row numbers or image ids to features.

    From any thread and any process: a forked or spawned one reads the same store. Once another process
    publishes it anew, reading goes on with the old content or is refused; `fit` opens it again.
    Rows are asked for as in NumPy (see `features.positions`).

    Parameters
    ----------
    layer : str or Path
        A layer's name (`pool5:avg`), or the path of a store (`…/pool5-avg.zarr`).
    project : str or Path
        Folder that holds `artifacts/`, for a layer's name.
    view : int
        Which view `transform` returns where there are several; `rows` returns all of them.

    Attributes
    ----------
    n_features_in_ : int
        After `fit`: 1, a column of row numbers or ids.

    Raises
    ------
    BadInput
        On first use, where the store is absent, unfinished or damaged; on any use once it was made anew.
    """

    def __init__(self, layer: str | Path, project: str | Path = ".", view: int = 0) -> None:
        self.layer = layer
        self.project = project
        self.view = view

    def __setattr__(self, name: str, value: object) -> None:
        """Another layer is another store, which is opened on next use."""
        super().__setattr__(name, value)
        if name in ("layer", "project"):
            self._close()

    def _close(self) -> None:
        for name in ("_path", "_group", "_features", "ids"):
            self.__dict__.pop(name, None)

    @classmethod
    def open(cls, path: Path) -> "FeatureStore":
        """Open the store at `path` now, not on first use."""
        return cls(path).fit()

    @property
    def path(self) -> Path:
        """The group's folder, as it is named from where it is asked for first: `os.chdir` moves no store."""
        return self._path

    @cached_property
    def _path(self) -> Path:
        if not isinstance(self.layer, str | os.PathLike):
            raise BadInput(f"layer should be a layer's name or a store's path, not {self.layer!r}")
        if not isinstance(self.project, str | os.PathLike):
            raise BadInput(f"project should be a project's folder, not {self.project!r}")
        if isinstance(self.layer, os.PathLike) or Path(self.layer).suffix == ".zarr":
            path = Path(self.layer)
        else:
            path = Path(self.project, "artifacts", "features", f"{self.layer.replace(':', '-')}.zarr")
        try:
            return path.resolve()  # its digests stand beside the folder itself, not beside a link to it
        except ValueError:
            raise BadInput(f"no store has a NUL in its path, as {str(path)!r} has") from None

    @property
    def group(self) -> zarr.Group:
        """The zarr group; what is read of it is what was there when it was opened (`features.vouched`)."""
        return self._group

    @cached_property
    def _group(self) -> zarr.Group:
        return opened(self.path)

    @property
    def attributes(self) -> dict[str, Any]:
        """What the store says of itself."""
        return dict(self.group.attrs)

    @property
    def features(self) -> zarr.Array[Any]:
        """The array (image, feature) or (image, view, feature), in the store's dtype."""
        return self._features

    @cached_property
    def _features(self) -> zarr.Array[Any]:
        return self.array(self.path.stem)

    def array(self, name: str) -> zarr.Array[Any]:
        """One of the group's arrays: the features, or a coordinate."""
        array = self.group[name]
        assert isinstance(array, zarr.Array)  # noqa: S101 - narrows the type; `group` has checked
        return array

    def __len__(self) -> int:
        return int(self.features.shape[0])

    @property
    def views(self) -> int:
        """How many views of each image it holds."""
        return _views(self.features)

    def numbers(self, asked: Any) -> Positions:
        """Row numbers that are asked for (see `features.positions`)."""
        return positions(asked, len(self), self.path)

    def dask(self, rows: int | None = None) -> "DaskArray":
        """Return the features as a lazy dask array; one chunk is one shard, or so many rows.

        For what is larger than memory. Reads are not checked for holes, as `rows` does.
        """
        import dask.array  # noqa: PLC0415 - slow to import, and seldom needed

        if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 1):
            raise BadInput(f"rows of a chunk should be a whole number of at least 1, not {rows!r}")
        # Whole shards: by default dask would read each of their inner chunks by itself
        features = self.features
        shape = features.shards or features.chunks
        chunks = shape if rows is None else (rows, *shape[1:])
        lazy: DaskArray = dask.array.from_zarr(features, chunks=chunks)
        return lazy

    def lazy_rows(self, asked: Any) -> "DaskArray":
        """Return rows as a dask array: (n, width) or (n, views, width) float32.

        Its chunks are of about `LAZY_CHUNK` bytes, and checked for holes when they are read.
        """
        array = self.features
        inner = int(array.chunks[0])
        row = 4 * int(np.prod(array.shape[1:]))
        stored = self.dask(max(LAZY_CHUNK // row // inner, 1) * inner)
        lazy: DaskArray = stored[self.numbers(asked)].map_blocks(finite, path=self.path, dtype=np.float32)
        return lazy

    def where(self, split: str) -> Positions:
        """Row numbers of one split, ascending; BadInput for a name that is none."""
        if not isinstance(split, str) or split not in SPLITS:
            near = difflib.get_close_matches(str(split), SPLITS, n=1, cutoff=0.0)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            raise BadInput(f"a split is one of {', '.join(SPLITS)}, not {split!r}{guess}")
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

    def rows(self, asked: Any, view: int | None = None) -> Features:
        """Read rows, cast to float32 once.

        Parameters
        ----------
        asked : (n,) row numbers, in any order; or as `features.positions` has it
        view : int, optional
            Only this view where there are several.

        Returns
        -------
        (n, width), or (n, views, width) where there are several and none is asked for

        Raises
        ------
        BadInput
            When there is no such row or view; when a chunk is missing, damaged or holds what is not a
            finite number; when the store was made anew since it was opened.
        """
        features = self.features
        numbers, view = positions(asked, features.shape[0], self.path), self._picked(features, view)
        shape = features.shape[1:] if view is None else features.shape[2:]
        rows = np.empty((len(numbers), *shape), np.float32)
        order = np.argsort(numbers, kind="stable")
        start = 0
        for _, part in streamed(features, numbers[order], view, self.path):
            rows[order[start : start + len(part)]] = part
            start += len(part)
        return rows

    def stream(self, asked: Any, view: int | None = None) -> Iterator[tuple[Positions, Features]]:
        """Read ascending rows a shard at a time, for what is larger than memory: (row numbers, rows).

        Only chunks that hold a row asked for are decoded (see `rows` for the rest).
        """
        features = self.features
        numbers, view = positions(asked, features.shape[0], self.path), self._picked(features, view)
        if (np.diff(numbers) < 0).any():
            raise BadInput(f"{self.path}: stream takes ascending row numbers; sort them, or use rows")
        return streamed(features, numbers, view, self.path)

    def _picked(self, features: zarr.Array[Any], view: int | None) -> int | None:
        """Which of several views is meant; None where all are, or where there is one."""
        number = None if view is None else view_of(view, _views(features), self.path)
        return number if features.ndim == 3 else None

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Open the store as it is now; there is nothing to learn."""
        self._close()
        self._picked(self.features, self.view)
        self.n_features_in_ = 1
        return self

    def transform(self, X: Any) -> Features:
        """Look up features, (n, width) float32, by row numbers or image ids, (n,) or (n, 1)."""
        asked = array_of(X, len(self), self.path)
        if asked.ndim == 2 and asked.shape[1] == 1:
            asked = asked[:, 0]
        if asked.dtype.kind == "O" and all(type(one) is int or isinstance(one, np.integer) for one in asked):
            asked = asked.astype(np.intp)  # as a data frame of several types gives row numbers
        if asked.dtype.kind in "OSUT" and asked.ndim == 1:
            number = {name: position for position, name in enumerate(self.ids)}
            try:
                asked = np.array([number[str(name)] for name in asked], np.intp)
            except KeyError as error:
                raise BadInput(
                    f"{self.path} has no image {error}; its ids are paths below the root"
                ) from None
        elif asked.dtype.kind == "b":
            raise BadInput(f"{self.path} transforms row numbers or ids, one for each sample, not bools")
        return self.rows(asked, view=self.view)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of what `transform` gives, (width,): `fc7_0`, `fc7_1`, …."""
        width, layer = self.features.shape[-1], self.attributes.get("layer", self.path.stem)
        return np.array([f"{layer}_{number}" for number in range(width)], object)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags  # noqa: PLC0415 - slow

        tags = InputTags(one_d_array=True, string=True)
        return Tags(None, TargetTags(required=False), TransformerTags(), input_tags=tags, requires_fit=False)


def _views(features: zarr.Array[Any]) -> int:
    return int(features.shape[1]) if features.ndim == 3 else 1
