"""Reading a store: the same numbers through every reader, and nothing that is not sound."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import xarray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch.utils.data import DataLoader

from features import digests
from features.dataset import FeatureDataset, ShardSampler
from features.errors import BadInput
from features.publish import Layout
from features.store import FeatureStore
from tests.features.test_publish import manifest, published


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(29, 6)).astype(np.float16)


@pytest.fixture
def store(tmp_path: Path, rows: np.ndarray) -> FeatureStore:
    return FeatureStore.open(published(tmp_path, rows, Layout(8, 2))[0])


def test_rows_come_in_the_order_asked(store: FeatureStore, rows: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    for positions in (np.arange(29), rng.permutation(29), np.array([28, 3, 3, 0]), np.array([], int), [7]):
        got = store.rows(np.asarray(positions))
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, rows[np.asarray(positions, int)].astype(np.float32))


def test_streaming_reads_every_row_once_and_no_more_than_a_shard(
    store: FeatureStore, rows: np.ndarray
) -> None:
    asked = np.array([0, 1, 5, 9, 10, 23, 28])
    parts = list(store.stream(asked))
    np.testing.assert_array_equal(np.concatenate([numbers for numbers, _ in parts]), asked)
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), rows[asked])
    assert all(len(set(numbers // 8)) == 1 for numbers, _ in parts)


def test_coordinates(store: FeatureStore) -> None:
    want = manifest(29)
    assert store.ids == [row.id for row in want.rows]
    np.testing.assert_array_equal(store.labels, want.labels)
    np.testing.assert_array_equal(store.where("test"), want.where("test"))
    np.testing.assert_array_equal(store.keys, want.keys)


def test_other_readers_agree_to_the_bit(tmp_path: Path) -> None:
    for shape in ((29, 6), (29, 3, 6)):
        rows = np.random.default_rng(1).normal(size=shape).astype(np.float16)
        path, _ = published(tmp_path / str(len(shape)), rows, Layout(8, 2))
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / "x")}}
        np.testing.assert_array_equal(np.asarray(tensorstore.open(spec).result().read().result()), rows)
        dataset = xarray.open_zarr(path, consolidated=False)
        assert dataset["x"].dims == ("image", *(("view",) if len(shape) == 3 else ()), "feature")
        assert dataset["label"].dims == dataset["split"].dims == ("image",)
        assert dataset["sha256"].dims == ("image", "digest")
        np.testing.assert_array_equal(dataset["x"].values, rows)
        np.testing.assert_array_equal(dataset["label"].values, manifest(29).labels)


def test_dask_chunks_are_shards_and_rechunking_is_exact(store: FeatureStore, rows: np.ndarray) -> None:
    lazy = store.dask()
    assert lazy.chunks == ((8, 8, 8, 5), (6,))
    np.testing.assert_array_equal(lazy.compute(), rows)
    np.testing.assert_array_equal(lazy.rechunk((5, 4)).compute(), rows)
    np.testing.assert_allclose(lazy.astype("float64").mean(axis=0).compute(), rows.astype(float).mean(axis=0))


def test_in_a_scikit_learn_pipeline(store: FeatureStore, rows: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "features").symlink_to(tmp_path)
    pipeline = make_pipeline(FeatureStore("x", project=tmp_path), LogisticRegression())
    y, train = store.labels, store.where("train")
    direct = LogisticRegression().fit(rows[train].astype(np.float32), y[train])
    by_number = clone(pipeline).fit(train, y[train])
    np.testing.assert_array_equal(by_number.predict_proba(np.arange(29)), direct.predict_proba(rows))
    names = np.array(store.ids)
    by_name = clone(pipeline).fit(names[train], y[train])
    np.testing.assert_array_equal(by_name.predict_proba(names), direct.predict_proba(rows))
    search = GridSearchCV(
        pipeline, {"logisticregression__C": [0.1, 1.0]}, cv=2, n_jobs=2, error_score="raise"
    )
    assert search.fit(np.arange(29)[:, None], y).best_params_
    for wrong, said in (
        (np.array([29]), "has rows 0 to 28"),
        (np.array(["none.jpg"]), "no image 'none.jpg'"),
    ):
        with pytest.raises(BadInput, match=said):
            FeatureStore("x", project=tmp_path).fit().transform(wrong)


def test_as_a_torch_data_set(store: FeatureStore, rows: np.ndarray) -> None:
    train = store.where("train")
    data = FeatureDataset(store, train)
    X, y = next(iter(DataLoader(data, batch_size=len(train))))
    np.testing.assert_array_equal(X.numpy(), rows[train].astype(np.float32))
    np.testing.assert_array_equal(y.numpy(), store.labels[train])
    sampler = ShardSampler(data, seed=3)
    passes = [list(sampler) for _ in range(3)]
    for order in passes:
        assert sorted(order) == list(range(len(train)))
        shards = data.shards[order]
        assert (np.diff(shards) != 0).sum() == len(set(shards)) - 1  # one shard after the other
    assert passes[0] != passes[1]
    again = ShardSampler(data, seed=3)
    assert [list(again) for _ in range(3)] == passes
    shuffled = list(DataLoader(data, batch_size=4, sampler=ShardSampler(data, seed=3)))
    np.testing.assert_array_equal(
        np.concatenate([X.numpy() for X, _ in shuffled]), rows[train[passes[0]]].astype(np.float32)
    )
    workers = DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context="spawn")
    np.testing.assert_array_equal(np.concatenate([X.numpy() for X, _ in workers]), rows[train])


def test_views(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(29, 3, 6)).astype(np.float16)
    store = FeatureStore.open(published(tmp_path, rows, Layout(8, 2))[0])
    positions = np.array([20, 4])
    np.testing.assert_array_equal(store.rows(positions), rows[positions])
    np.testing.assert_array_equal(store.rows(positions, view=2), rows[positions, 2])
    np.testing.assert_array_equal(FeatureStore(store.path, view=1).transform(positions), rows[positions, 1])
    X, _ = FeatureDataset(store, positions)[1]
    np.testing.assert_array_equal(X.numpy(), rows[4])


def damaged(store: Path, kind: str) -> None:
    """Damage a store in one of the ways in which disks, people and attackers do."""
    shard, metadata = store / "x" / "c" / "1" / "0", store / "x" / "zarr.json"
    data = bytearray(shard.read_bytes())
    if kind == "missing shard":
        shard.unlink()
    elif kind == "empty shard":
        shard.write_bytes(b"")
    elif kind == "truncated shard":
        shard.write_bytes(data[: len(data) // 2])
    elif kind == "flipped bit in a chunk":
        data[len(data) // 3] ^= 16
        shard.write_bytes(data)
    elif kind == "flipped bit in a shard's index":
        data[-20] ^= 16
        shard.write_bytes(data)
    elif kind == "flipped bit in the labels":
        labels = store / "label" / "c" / "0"
        labels.write_bytes(labels.read_bytes()[:-1] + b"\x00")
    elif kind == "truncated metadata":
        (store / "zarr.json").write_text('{"zarr_format": 3')
    elif kind == "inflated shape":
        content = json.loads(metadata.read_text())
        content["shape"][0] = 1000
        metadata.write_text(json.dumps(content))
    elif kind == "missing digests":
        digests.digest_file(store).unlink()
    elif kind == "foreign digests":
        digests.digest_file(store).write_text("hello\n")


KINDS = (
    "missing shard", "empty shard", "truncated shard", "flipped bit in a chunk",
    "flipped bit in a shard's index", "flipped bit in the labels", "truncated metadata", "inflated shape",
    "missing digests", "foreign digests",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_an_error_that_names_the_store_and_the_remedy(
    kind: str, tmp_path: Path, rows: np.ndarray
) -> None:
    store, _ = published(tmp_path, rows, Layout(8, 2))
    damaged(store, kind)
    with pytest.raises(BadInput, match=r"x\.(zarr|sha256).*extract") as error:
        FeatureStore.open(store).rows(np.arange(29))
    if kind.startswith("flipped bit in a"):
        assert "in rows 8 to" in str(error.value)


def test_a_chunk_that_was_never_written_is_no_row_of_zeros(tmp_path: Path, rows: np.ndarray) -> None:
    """A hole under digests that fit: what a faulty writer would leave."""
    holed = rows.copy()
    holed[10] = np.nan
    store, _ = published(tmp_path, holed, Layout(8, 2))
    with pytest.raises(BadInput, match="no valid features in row 10"):
        FeatureStore.open(store).rows(np.arange(29))


def test_names_outside_the_store_are_refused(tmp_path: Path, rows: np.ndarray) -> None:
    store, _ = published(tmp_path, rows, Layout(8, 2))
    listed = digests.digest_file(store)
    text = listed.read_text()
    (tmp_path / "outside").write_text("x")
    listed.write_text(text + f"# 1 bytes  x.zarr/../outside\n{'0' * 64}  x.zarr/../outside\n")
    with pytest.raises(BadInput, match=r"damaged.*x\.zarr/\.\./outs"):
        FeatureStore.open(store)
    listed.write_text(text)
    (store / "more").mkdir()
    (store / "more" / "zarr.json").write_bytes((store / "label" / "zarr.json").read_bytes())
    with pytest.raises(BadInput, match="not a feature store"):
        FeatureStore.open(store)
