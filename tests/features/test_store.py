"""Reading a store: the same numbers through every reader, and nothing that is not sound."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import torch
import xarray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch.utils.data import DataLoader

from features import digests
from features.dataset import FeatureDataset, ShardSampler
from features.errors import BadInput
from features.publish import Shards
from features.store import FeatureStore
from tests.conftest import REPOSITORY
from tests.features.test_publish import manifest, published
from tests.forks import fork_while_threads, in_a_fork


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(29, 6)).astype(np.float16)


@pytest.fixture
def store(tmp_path: Path, rows: np.ndarray) -> FeatureStore:
    return FeatureStore.open(published(tmp_path, rows, Shards(8, 2))[0])


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
        path, _ = published(tmp_path / str(len(shape)), rows, Shards(8, 2))
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
    store = FeatureStore.open(published(tmp_path, rows, Shards(8, 2))[0])
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
    store, _ = published(tmp_path, rows, Shards(8, 2))
    damaged(store, kind)
    with pytest.raises(BadInput, match=r"x\.(zarr|sha256).*extract") as error:
        FeatureStore.open(store).rows(np.arange(29))
    if kind.startswith("flipped bit in a"):
        assert "in rows 8 to" in str(error.value)


def test_a_chunk_that_was_never_written_is_no_row_of_zeros(tmp_path: Path, rows: np.ndarray) -> None:
    """A hole under digests that fit: what a faulty writer would leave."""
    holed = rows.copy()
    holed[10] = np.nan
    store, _ = published(tmp_path, holed, Shards(8, 2))
    with pytest.raises(BadInput, match="no valid features in row 10"):
        FeatureStore.open(store).rows(np.arange(29))


def test_names_outside_the_store_are_refused(tmp_path: Path, rows: np.ndarray) -> None:
    store, _ = published(tmp_path, rows, Shards(8, 2))
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


ASKED = [
    [-1], [-29, 28], [28, 3, 3, 0], [5, 5], [0, 0], range(4, 20, 3), (1, 2), np.uint8([7]), [],
    np.array([], np.int32), slice(None), slice(-5, None), slice(20, 2, -4), slice(100, 200),
    np.arange(29) % 3 == 1, np.zeros(29, bool),
]  # fmt: skip


@pytest.mark.parametrize("asked", ASKED, ids=repr)
def test_rows_are_asked_for_as_in_numpy(store: FeatureStore, rows: np.ndarray, asked: Any) -> None:
    index = asked if isinstance(asked, slice) else np.asarray(asked)
    expected = rows[index if isinstance(asked, slice) or len(index) else []].astype(np.float32)
    np.testing.assert_array_equal(store.rows(asked), expected)
    np.testing.assert_array_equal(store.lazy_rows(asked).compute(), expected)
    data = FeatureDataset(store, asked)
    assert len(data) == len(expected)
    for number, row in enumerate(expected):
        np.testing.assert_array_equal(data[number][0].numpy(), row)
        assert data[number][1] == store.labels[data.positions[number]]
    if (np.diff(store.numbers(asked)) >= 0).all():
        parts = [part for _, part in store.stream(asked)]
        np.testing.assert_array_equal(np.concatenate(parts) if parts else expected, expected)
    else:
        with pytest.raises(BadInput, match="ascending row numbers"):
            store.stream(asked)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([29], "has rows 0 to 28; asked were 29 to 29"),
        ([-30, 1], "asked were -30 to 1"),
        ([2**63], "asked were 9223372036854775808"),
        ([2**70], "object"),
        ([0.0, 1.0], "float64"),
        ([np.nan], "float64"),
        ([[0, 1]], r"\(1, 2\)"),
        (3, r"int \(\)"),
        ([True, False], r"one bool for each of 29 rows.*bool"),
        (["00003"], "<U5"),
        ([None], "object"),
        (None, "NoneType"),
        ([[0], [1, 2]], "names no rows"),
        (slice(0.5, 2), "names no rows"),
        (np.ma.masked_array([1, 2], [True, False]), "masked values name no rows"),
        (torch.ones(2, requires_grad=True), "names no rows"),
        ({1, 2}, "set"),
    ],
)
def test_what_names_no_rows_is_refused_everywhere(store: FeatureStore, wrong: Any, said: str) -> None:
    readers: list[Callable[[Any], object]] = [
        store.rows, store.stream, store.lazy_rows, lambda asked: FeatureDataset(store, asked)
    ]  # fmt: skip
    for read in readers:
        with pytest.raises(BadInput, match=rf"x\.zarr.*{said}"):
            read(wrong)


@pytest.mark.parametrize("asked", [[1, 2], ["00001", "00002"], [["00001"], ["00002"]]], ids=repr)
def test_what_is_behind_a_mask_is_not_looked_up(store: FeatureStore, rows: np.ndarray, asked: Any) -> None:
    np.testing.assert_array_equal(store.transform(np.ma.array(asked, mask=False)), rows[[1, 2]])
    with pytest.raises(BadInput, match="masked values name no rows"):
        store.transform(np.ma.array(asked, mask=np.reshape([True, False], np.shape(asked))))


@pytest.mark.parametrize("view", [7, -1, True, 1.0, "flip"])
@pytest.mark.parametrize(("shape", "there"), [((29, 6), "a single view, 0"), ((29, 3, 6), "views 0 to 2")])
def test_a_view_that_is_not_there_is_refused(
    tmp_path: Path, shape: tuple[int, ...], there: str, view: Any
) -> None:
    store = FeatureStore.open(published(tmp_path, np.ones(shape, np.float16), Shards(8, 2))[0])
    for read in (
        lambda: store.rows([0], view=view),
        lambda: store.stream([0], view),
        lambda: FeatureDataset(store, [0], view),
        lambda: FeatureStore(store.path, view=view).transform([0]),
        lambda: FeatureStore(store.path, view=view).fit(),
    ):
        with pytest.raises(BadInput, match=rf"x\.zarr has {there}; asked was {view!r}"):
            read()


@pytest.mark.parametrize(
    ("split", "near"), [("tset", "test"), ("val", "validation"), ("Train", "train"), (0, "")]
)
def test_a_split_that_is_not_there_is_refused_with_the_nearest(
    store: FeatureStore, split: Any, near: str
) -> None:
    with pytest.raises(BadInput, match=f"train, validation, test, not {split!r}.*{near}"):
        store.where(split)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("y", r"no finished store.*did you mean x\? there: x"),
        ("", "no finished store"),
        (3, "layer should be"),
    ],
)
def test_a_layer_that_is_not_there_is_refused_with_the_nearest(
    store: FeatureStore, layer: Any, said: str, tmp_path: Path
) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "features").symlink_to(tmp_path)
    assert len(FeatureStore("x", tmp_path)) == 29
    with pytest.raises(BadInput, match=said):
        FeatureStore(layer, tmp_path).rows([0])


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_chunks_of_no_rows_are_refused(store: FeatureStore, size: Any) -> None:
    with pytest.raises(BadInput, match="whole number of at least 1"):
        store.dask(size)


def test_threads_read_what_each_would_read_alone(store: FeatureStore, rows: np.ndarray) -> None:
    data = FeatureDataset(store, np.arange(29))  # keeps the last shard for all threads

    def read(seed: int) -> None:
        for number in np.random.default_rng(seed).integers(0, 29, 15):
            np.testing.assert_array_equal(data[number][0].numpy(), rows[number])
            np.testing.assert_array_equal(store.rows([number, 0]), rows[[number, 0]])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))


@fork_while_threads
def test_a_forked_process_reads(store: FeatureStore, rows: np.ndarray) -> None:
    lazy, data = store.lazy_rows(slice(None)), FeatureDataset(store, slice(None))
    expected = lazy.compute()  # which starts threads of dask's
    for read in (
        lambda: store.rows(slice(None)), lambda: store.fit().rows(slice(None)), lazy.compute,
        lambda: np.stack([X.numpy() for X, _ in data]),
    ):  # fmt: skip
        np.testing.assert_array_equal(in_a_fork(read), expected)
    workers = DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context="fork", timeout=60)
    np.testing.assert_array_equal(np.concatenate([X.numpy() for X, _ in workers]), rows)


# Everything that reads, given a store that is open: what of its answer tells which content it is
READERS: dict[str, Callable[[FeatureStore], Any]] = {
    "rows": lambda store: store.rows([0, 12, -1])[:, 0],
    "stream": lambda store: np.concatenate([part[:, 0] for _, part in store.stream(slice(None))]),
    "transform": lambda store: store.transform([3])[:, 0],
    "transform of ids": lambda store: store.transform(["00002", "00017"])[:, 0],
    "lazy rows": lambda store: store.lazy_rows([1, 20]).compute()[:, 0],
    "dask": lambda store: store.dask().compute()[:, 0],
    "labels": lambda store: np.unique(store.labels),
    "keys": lambda store: store.keys[:1, 0],
    "attributes": lambda store: [int(store.attributes["fingerprint"])],
    "a zarr array": lambda store: np.asarray(store.features[20:22])[:, 0],
    "where": lambda store: store.where("train")[:1],
    "a data set": lambda store: FeatureDataset(store, [4])[0][0][:1].numpy(),
    "a pickled copy": lambda store: pickle.loads(pickle.dumps(store)).rows([6])[:, 0],
}
ANEW = "was made anew since it was opened; open it again"
GONE = "was moved, removed or made anew since it was opened; open it again where it is"
PUBLISHER = """
import sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np
from features.manifest import Manifest
from features.publish import Shards, publish
from tests.features.test_publish import manifest

def content(folder, k):
    rows = np.random.default_rng(k).normal(size=(29 + k % 2, 40)).astype(np.float16)
    rows[:, 0] = k  # the same in every answer
    named = [replace(row, label=f"{k:05}", split=("train", "test")[k % 2], sha256=f"{k % 256:02x}" + "0" * 62)
             for row in manifest(len(rows)).rows]
    publish(folder / "x.zarr", scratch=folder / "scratch", manifest=Manifest(tuple(named)),
            rows=lambda start, stop: rows[start:stop], shape=(40,), dtype="float16", shards=Shards(8, 2),
            attributes={"manifest": str(k), "fingerprint": str(k)})

k, until = 0, time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    content(Path(sys.argv[1]), k := k + 1)
    if k == 1: print("there", flush=True)
"""


def test_while_another_process_publishes_the_content_is_one_or_refused(tmp_path: Path) -> None:
    answered = refused = 0
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISHER, tmp_path, "60"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as publisher:
        assert publisher.stdout is not None
        assert publisher.stdout.readline() == "there\n"
        while refused < 8:
            assert publisher.poll() is None, "it is not noticed that another content is there"
            try:
                store = FeatureStore.open(tmp_path / "x.zarr")
                content = int(store.attributes["fingerprint"])
            except BadInput as error:
                assert "made anew" in str(error) or "no finished store" in str(error)  # noqa: PT017 - both may be
                continue
            fixed = {"keys": content % 256, "labels": 0, "where": 0}  # what does not say which content it is
            names = [name for name in READERS if name != "where" or content % 2 == 0]
            for name in names[refused % len(names) :] + names * 10:
                try:
                    found = READERS[name](store)
                except BadInput as error:
                    assert str(error) in (f"{store.path} {ANEW}", f"{store.path} {GONE}")  # noqa: PT017 - or there is none
                    refused += 1
                    break
                assert set(np.asarray(found).tolist()) == {fixed.get(name, content)}, name
                answered += 1
        publisher.kill()
    assert answered > 8


@pytest.mark.parametrize("name", READERS)
def test_an_open_store_that_was_made_anew_has_the_old_content_or_is_refused(
    tmp_path: Path, name: str
) -> None:
    def publish(value: int) -> Path:
        return published(tmp_path, np.full((29, 6), value, np.float16), Shards(8, 2), str(value))[0]

    store = FeatureStore.open(publish(1))
    before = READERS[name](FeatureStore.open(publish(1)))
    lazy, stream = store.lazy_rows([1, 28]), store.stream(slice(None))
    data, pickled = FeatureDataset(store, [3, 28]), pickle.dumps(store)
    next(stream)
    publish(2)
    try:
        np.testing.assert_array_equal(READERS[name](store), before)
    except BadInput as error:
        assert str(error) == f"{store.path} {ANEW}"  # noqa: PT017 - or there is none
    for read in (
        lazy.compute, lambda: next(stream), lambda: data[0], lambda: pickle.loads(pickled).rows([0])
    ):  # fmt: skip
        with pytest.raises(BadInput, match=ANEW):
            read()
    assert store.fit().rows([0])[0, 0] == 2  # which is how it is opened again


def test_a_store_stays_itself_when_the_working_directory_changes(
    tmp_path: Path, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(tmp_path / "here", rows, Shards(8, 2))
    published(tmp_path / "there", rows[::-1], Shards(8, 2))
    monkeypatch.chdir(tmp_path / "here")
    store = FeatureStore(Path("x.zarr")).fit()
    lazy, pickled = store.dask(), pickle.dumps(store)
    monkeypatch.chdir(tmp_path / "there")
    for found in (store.rows(slice(None)), lazy.compute(), pickle.loads(pickled).rows(slice(None))):
        np.testing.assert_array_equal(found, rows)
    assert FeatureStore(Path("x.zarr")).rows([0])[0].tolist() == rows[-1].tolist()


def test_a_store_may_be_a_link_of_another_name(store: FeatureStore, rows: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    for name in ("x.zarr", "other.zarr"):
        link = tmp_path / "links" / name
        link.symlink_to(store.path)
        np.testing.assert_array_equal(FeatureStore(link).rows(slice(None)), rows)


def test_a_store_that_was_moved_says_so_and_what_to_take_along(store: FeatureStore, tmp_path: Path) -> None:
    store.rows([0])
    moved = tmp_path / "elsewhere" / "x.zarr"
    moved.parent.mkdir()
    store.path.rename(moved)
    with pytest.raises(BadInput, match=GONE):
        store.rows([0])
    with pytest.raises(BadInput, match=r"its digests, x\.sha256, are not beside .* bring that file along"):
        FeatureStore(moved).fit()
    digests.digest_file(store.path).rename(moved.with_suffix(".sha256"))
    assert len(FeatureStore(moved)) == 29  # as it was told
    moved.rename(other := moved.with_name("y.zarr"))
    moved.with_suffix(".sha256").rename(other.with_suffix(".sha256"))
    with pytest.raises(BadInput, match=r"y\.sha256 is of x\.zarr, not of y\.zarr.*rename both back"):
        FeatureStore(other).fit()


def test_a_store_that_is_linked_or_published_again_as_it_was_is_read_on(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(29, 6)).astype(np.float16)
    store = FeatureStore.open(published(tmp_path, rows, Shards(8, 2))[0])
    published(tmp_path, rows, Shards(8, 2))
    shard = store.path / "x" / "c" / "0" / "0"
    data = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(data)  # as DVC does when it checks out
    np.testing.assert_array_equal(store.rows(slice(None)), rows)
    assert store.ids[0] == "00000"
