"""Published sets, in files written here byte by byte, and the real MNIST."""

import functools
import gzip
import hashlib
import http.server
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torchvision
from numpy.typing import NDArray

from features.errors import BadInput
from features.images import ImageArrays
from pipeline.datasets import cifar, mnist
from pipeline.datasets.base import Listing
from pipeline.datasets.catalogue import listing, source
from pipeline.datasets.prepare import prepare
from pipeline.params import AUTO_SIZE
from pipeline.project import Project
from tests.conftest import QUICK, REPOSITORY, make_project
from tests.pipeline.datasets.test_prepare import problems


def opened(tmp_path: Path, name: str, root: Path, *more: str) -> Project:
    overrides = [*QUICK, f"dataset.name={name}", f"dataset.root={root}", *more]
    return Project.open(make_project(tmp_path / "project", overrides))


def idx(values: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_idx(folder: Path, *, packed: bool, train: int = 40, test: int = 20) -> dict[str, NDArray[np.uint8]]:
    """Four idx files of noise; all ten labels are in both parts."""
    folder.mkdir(parents=True, exist_ok=True)
    content, random = {}, np.random.default_rng(0)
    for stem, count in (("train", train), ("t10k", test)):
        content[f"{stem}-images-idx3-ubyte"] = random.integers(0, 256, (count, 28, 28), np.uint8)
        content[f"{stem}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    for name, values in content.items():
        file = folder / (f"{name}.gz" if packed else name)
        file.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    return content


def pixels(listed: Listing, path: str) -> NDArray[np.uint8]:
    assert isinstance(listed.source, ImageArrays)
    return listed.source.arrays[path]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder that a local server offers, and its address."""
    folder = tmp_path / "web"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{listening.server_port}/"
        listening.shutdown()


def test_every_set_has_a_size_and_a_parameter(tmp_path: Path) -> None:
    assert AUTO_SIZE == {
        "digits": (48, 48), "mnist": (32, 32), "fashion-mnist": (32, 32), "cifar10": (32, 32),
        "folder": (224, 224), "csv": (224, 224),
    }  # fmt: skip
    for name, size in AUTO_SIZE.items():
        assert opened(tmp_path, name, tmp_path, "extract.image_size=auto").image_size == size


# --- MNIST and Fashion-MNIST ---------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("name", "folder"),
    [("mnist", ""), ("mnist", "MNIST/raw"), ("fashion-mnist", ""), ("fashion-mnist", "FashionMNIST/raw")],
)
def test_idx_files_are_found_in_both_layouts(name: str, folder: str, packed: bool, tmp_path: Path) -> None:
    content = write_idx(tmp_path / folder, packed=packed)
    listed = listing(name, tmp_path)
    assert listed.given_splits == {"train", "test"}
    for split, stem in (("train", "train"), ("test", "t10k")):
        found = [image for image in listed.found if image.split == split]
        labels = content[f"{stem}-labels-idx1-ubyte"]
        classes = (mnist.MNIST if name == "mnist" else mnist.FASHION).classes
        assert [image.label for image in found] == [classes[label] for label in labels]
        for number, image in enumerate(found):
            assert image.path == f"{split}/{number:05}"
            np.testing.assert_array_equal(
                pixels(listed, image.path), content[f"{stem}-images-idx3-ubyte"][number]
            )
    images = source(name, tmp_path)
    assert isinstance(images, ImageArrays)
    assert images.arrays.keys() == {image.path for image in listed.found}


def test_idx_and_torchvision_read_the_same(tmp_path: Path) -> None:
    for name, theirs in (
        ("mnist", torchvision.datasets.MNIST),
        ("fashion-mnist", torchvision.datasets.FashionMNIST),
    ):
        write_idx(tmp_path / theirs.__name__ / "raw", packed=False)
        listed = listing(name, tmp_path)
        for split in ("train", "test"):
            reference = theirs(tmp_path, train=split == "train")
            ours = [image for image in listed.found if image.split == split]
            assert len(ours) == len(reference)
            for number, (image, label) in enumerate(reference):
                np.testing.assert_array_equal(pixels(listed, ours[number].path), np.array(image))
                assert reference.classes[label].split(" - ")[0] == ours[number].label
        published = {name.removesuffix(".gz"): md5 for name, md5 in theirs.resources}
        which = mnist.MNIST if name == "mnist" else mnist.FASHION
        assert which.md5 == published
        assert which.mirrors == tuple(theirs.mirrors)


def test_real_mnist(assets: Path, tmp_path: Path) -> None:
    project = opened(tmp_path, "mnist", assets / "mnist")
    manifest = prepare(project)
    assert len(manifest) == 70_000
    splits = Counter(row.split for row in manifest.rows)
    assert splits["test"] == 10_000
    assert splits["validation"] == pytest.approx(0.2 * 60_000, rel=0.03)
    train = Counter(row.label for row in manifest.rows if row.split != "test")
    assert [train[label] for label in "0123456789"] == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949
    ]  # fmt: skip
    assert [row.path for row in manifest.rows[:2]] == ["test/00000", "test/00001"]
    assert manifest.rows[-1].path == "train/59999"
    assert manifest.rows[10_000].label == "5"  # the first train digit, as everyone knows it
    assert not problems(project)
    row = manifest.rows[123]
    assert source("mnist", project.dataset_root).image(row.path, row.sha256).size == (28, 28)


FAULTS = {
    "cut short": (lambda data: data[:-5], "announces 31,360 values and 31,355 follow"),
    "too long": (lambda data: data + b"x", "announces 31,360 values and more follow"),
    "text": (
        lambda data: b"hello, world, this is no idx",
        "should begin with 00000803 and begins with 68656c6c",
    ),
    "empty": (lambda data: b"", "begins with nothing"),
    "header cut": (lambda data: data[:9], "ends within its header"),
    "labels": (lambda data: idx(np.zeros(40, np.uint8)), "should begin with 00000803"),
    "float": (lambda data: b"\0\0\x0d\3" + data[4:], "should begin with 00000803"),
    "little endian": (lambda data: data[:4] + data[7:3:-1] + data[8:], "its header announces"),
    "no sides": (lambda data: data[:8] + bytes(8), "announces 40 × 0 × 0"),
    "no images": (lambda data: struct.pack(">BBBB3I", 0, 0, 8, 3, 0, 28, 28), "announces 0 × 28 × 28"),
    "fewer": (lambda data: idx(np.zeros((39, 28, 28), np.uint8)), "39 images and .* 40 labels"),
}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_idx_files_are_named(fault: str, packed: bool, tmp_path: Path) -> None:
    content = write_idx(tmp_path, packed=packed)
    damage, said = FAULTS[fault]
    data = damage(idx(content["train-images-idx3-ubyte"]))
    file = tmp_path / f"train-images-idx3-ubyte{'.gz' if packed else ''}"
    file.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(BadInput, match=rf"train-images-idx3-ubyte.*{said}.*replace"):
        listing("mnist", tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-40], lambda data: b"no gzip", lambda data: data[:300]]
)
def test_damaged_gzip_is_named(damage, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_idx(tmp_path, packed=True)
    file = tmp_path / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(BadInput, match=r"t10k-images-idx3-ubyte\.gz is damaged or no idx file"):
        listing("mnist", tmp_path)


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path, packed=False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(20, 10, np.uint8)))
    with pytest.raises(BadInput, match=r"t10k-labels-idx1-ubyte holds the label 10, .* end at 9"):
        listing("mnist", tmp_path)


def test_a_packed_file_of_the_other_set_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path, packed=True)
    digest = hashlib.md5((tmp_path / "train-images-idx3-ubyte.gz").read_bytes()).hexdigest()
    monkeypatch.setitem(mnist.KNOWN, digest, "train-images-idx3-ubyte.gz of mnist")
    listing("mnist", tmp_path)
    with pytest.raises(BadInput, match=r"is in truth train-images-idx3-ubyte\.gz of mnist"):
        listing("fashion-mnist", tmp_path)


def test_missing_files_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        listing("mnist", tmp_path)
    for said in (*mnist.MNIST.md5, f"{tmp_path / 'MNIST/raw'} or {tmp_path};", "dataset.download=true"):
        assert said in str(refused.value)
    write_idx(tmp_path, packed=True)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(BadInput, match=r"^mnist: t10k-labels-idx1-ubyte \(or with \.gz\) not found"):
        listing("mnist", tmp_path)


def published_idx(folder: Path, url: str) -> mnist.IdxSet:
    write_idx(folder, packed=True)
    md5 = {name: hashlib.md5((folder / f"{name}.gz").read_bytes()).hexdigest() for name in mnist.MNIST.md5}
    return replace(mnist.MNIST, mirrors=(f"{url}nowhere/", url), md5=md5)


def test_missing_files_are_downloaded_from_the_next_mirror(web: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = web
    which = published_idx(folder, url)
    root = tmp_path / "root"
    parts = mnist.read(which, root, True)
    assert [len(part.images) for part in parts] == [40, 20]
    assert sorted(file.name for file in (root / "MNIST" / "raw").iterdir()) == sorted(
        file.name for file in folder.iterdir()
    )
    for file in folder.iterdir():
        file.unlink()
    np.testing.assert_array_equal(mnist.read(which, root, True)[0].images, parts[0].images)  # asks nobody


def test_a_file_that_is_not_the_published_one_is_not_kept(web: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = web
    which = published_idx(folder, url)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"something else")
    with pytest.raises(BadInput) as refused:
        mnist.read(which, tmp_path / "root", True)
    for said in ("train-images-idx3-ubyte.gz could not be downloaded", "404", "md5", "by other means"):
        assert said in str(refused.value)
    assert not [*(tmp_path / "root").rglob("train-images*")]
    assert not [*(tmp_path / "root").rglob("*.partial")]


def test_no_server_is_a_sentence(tmp_path: Path) -> None:
    which = replace(mnist.MNIST, mirrors=("http://127.0.0.1:9/",))
    with pytest.raises(BadInput, match=r"could not be reached .*put the file into .* by other means"):
        mnist.read(which, tmp_path, True)


# --- CIFAR-10 ------------------------------------------------------------------------------------


def cifar_batches(count: int = 20) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Images (n, 32, 32, 3) and labels by batch."""
    random = np.random.default_rng(1)  # its own: the split is drawn from the pixels
    return {
        name: (
            random.integers(0, 256, (count, 32, 32, 3), np.uint8),
            (np.arange(count) % 10).astype(np.uint8),
        )
        for name in cifar.NAMES
    }


def planes(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([images[..., channel].reshape(len(images), -1) for channel in range(3)], 1).reshape(
        len(images), 3072
    )


def binary(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> bytes:
    return b"".join(
        bytes([label]) + image.tobytes() for image, label in zip(planes(images), labels, strict=True)
    )


def python2(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> bytes:
    """What Python 2's cPickle wrote, protocol 2, without its memo."""
    data = planes(images)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\1b\x87R"
        b"(K\1" + b"(M%bM%bt" % tuple(struct.pack("<H", side) for side in data.shape)
        + b"cnumpy\ndtype\nU\2u1K\0K\1\x87R(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
        b"\x89T" + struct.pack("<i", data.nbytes) + data.tobytes() + b"tb"
    )  # fmt: skip
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\2}(U\x0bbatch_labelU\4testU\6labels" + numbers + b"U\4data" + array + b"u."


def write_cifar(root: Path, version: cifar.Version, monkeypatch: pytest.MonkeyPatch | None = None, **changed):  # type: ignore[no-untyped-def]
    """The six files of a version; where asked, their md5 become the published ones."""
    folder = root / version.folder
    folder.mkdir(parents=True, exist_ok=True)
    batches = cifar_batches()
    for name, batch in batches.items():
        content = changed.get(name) or (binary if version.suffix else python2)(*batch)
        (folder / f"{name}{version.suffix}").write_bytes(content)
        if monkeypatch:
            monkeypatch.setitem(cifar.MD5, name, hashlib.md5(content).hexdigest())
    return batches


def pack(root: Path, version: cifar.Version, target: Path | None = None) -> Path:
    """Put a version's folder into its archive, and the folder away."""
    folder, archive = root / version.folder, (target or root) / version.archive
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, version.folder)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return archive


def check_cifar(root: Path, batches: dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> None:
    listed = listing("cifar10", root)
    assert listed.given_splits == {"train", "test"}
    for split, names in cifar.BATCHES.items():
        images = np.concatenate([batches[name][0] for name in names])
        labels = np.concatenate([batches[name][1] for name in names])
        found = [image for image in listed.found if image.split == split]
        assert [image.label for image in found] == [cifar.CLASSES[label] for label in labels]
        for number, image in enumerate(found):
            assert image.path == f"{split}/{number:05}"
            np.testing.assert_array_equal(pixels(listed, image.path), images[number])


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("version", [cifar.BINARY, cifar.PYTHON], ids=["binary", "python"])
def test_cifar_versions_and_layouts(
    version: cifar.Version, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = write_cifar(tmp_path, version, monkeypatch)
    if packed:
        pack(tmp_path, version)
    before = sorted(tmp_path.rglob("*"))
    check_cifar(tmp_path, batches)
    if not packed:
        check_cifar(tmp_path / version.folder, batches)  # the root itself
    assert sorted(tmp_path.rglob("*")) == before  # nothing is unpacked


def test_cifar_and_torchvision_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = torchvision.datasets.CIFAR10
    assert dict(theirs.train_list + theirs.test_list) == cifar.MD5
    write_cifar(tmp_path, cifar.PYTHON, monkeypatch)
    names = pickle.dumps({"label_names": list(cifar.CLASSES)}, 2)
    (tmp_path / cifar.PYTHON.folder / "batches.meta").write_bytes(names)

    class Ours(theirs):  # type: ignore[misc, valid-type]
        train_list = [[name, cifar.MD5[name]] for name in cifar.BATCHES["train"]]  # noqa: RUF012
        test_list = [["test_batch", cifar.MD5["test_batch"]]]  # noqa: RUF012
        meta = {**theirs.meta, "md5": hashlib.md5(names).hexdigest()}  # noqa: RUF012

    listed = listing("cifar10", tmp_path)
    for split in ("train", "test"):
        found = [image for image in listed.found if image.split == split]
        reference = Ours(tmp_path, train=split == "train")
        assert len(found) == len(reference)
        for number, (image, label) in enumerate(reference):
            np.testing.assert_array_equal(pixels(listed, found[number].path), np.array(image))
            assert reference.classes[label] == found[number].label


def test_the_binary_version_is_preferred(tmp_path: Path) -> None:
    write_cifar(tmp_path, cifar.PYTHON)  # other md5s than the published ones: would be refused
    check_cifar(tmp_path, write_cifar(tmp_path, cifar.BINARY))


class Bomb:
    """Pickles to a call that leaves a canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_a_pickle_never_runs_code(
    known: bool, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    bomb = pickle.dumps({"data": Bomb(canary), "labels": []}, 2)
    pickle.loads(bomb)
    canary.rmdir()  # it does go off where it is let
    write_cifar(tmp_path, cifar.PYTHON, monkeypatch if known else None, data_batch_1=bomb)
    if packed:
        pack(tmp_path, cifar.PYTHON)
    said = "it asks for posix.mkdir" if known else "its md5 is .* can run code"
    with pytest.raises(BadInput, match=rf"data_batch_1: {said}"):
        listing("cifar10", tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x" * 3072, "3,072 bytes are not a whole number of records"),
        (b"\x0a" + bytes(3072), "holds the label 10"),
        (b"", "not a whole number"),
    ],
)
def test_damaged_binary_batches_are_named(content: bytes, said: str, tmp_path: Path) -> None:
    write_cifar(tmp_path, cifar.BINARY)
    (tmp_path / cifar.BINARY.folder / "data_batch_3.bin").write_bytes(content)
    with pytest.raises(BadInput, match=rf"data_batch_3\.bin: .*{said}.*replace"):
        listing("cifar10", tmp_path)


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    write_cifar(tmp_path, cifar.BINARY)
    (tmp_path / cifar.BINARY.folder / "test_batch.bin").unlink()
    archive = pack(tmp_path, cifar.BINARY)
    with pytest.raises(BadInput, match=r"cifar-10-binary\.tar\.gz lacks test_batch"):
        listing("cifar10", tmp_path)
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(BadInput, match=r"cifar-10-binary\.tar\.gz is damaged"):
        listing("cifar10", tmp_path)
    archive.write_bytes(b"hello")
    with pytest.raises(BadInput, match=r"cifar-10-binary\.tar\.gz is damaged"):
        listing("cifar10", tmp_path)


def test_links_in_an_archive_are_not_followed(tmp_path: Path) -> None:
    write_cifar(tmp_path, cifar.BINARY)
    secret = (tmp_path / cifar.BINARY.folder / "test_batch.bin").rename(tmp_path / "secret.bin")
    (tmp_path / cifar.BINARY.folder / "test_batch.bin").symlink_to(secret)
    pack(tmp_path, cifar.BINARY)
    with pytest.raises(BadInput, match="lacks test_batch"):
        listing("cifar10", tmp_path)


def test_cifar_is_downloaded_and_read_from_its_archive(
    web: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = web
    root = tmp_path / "root"
    with pytest.raises(BadInput, match=r"cifar-10-batches-bin.*data_batch_1.*dataset\.download=true"):
        listing("cifar10", root)
    batches = write_cifar(tmp_path, cifar.BINARY)
    archive = pack(tmp_path, cifar.BINARY, folder)
    monkeypatch.setattr(cifar, "URL", f"{url}{archive.name}")
    with pytest.raises(BadInput, match="not the published file"):
        listing("cifar10", root, download=True)
    assert not [*root.iterdir()]
    monkeypatch.setattr(cifar, "URL_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    listing("cifar10", root, download=True)
    assert [file.name for file in root.iterdir()] == [archive.name]
    check_cifar(root, batches)


def test_cifar_through_prepare(tmp_path: Path) -> None:
    write_cifar(tmp_path / "root", cifar.BINARY)
    project = opened(tmp_path, "cifar10", tmp_path / "root", "dataset.validation_fraction=0.3")
    manifest = prepare(project)
    assert Counter(row.split for row in manifest.rows)["test"] == 20
    assert manifest.classes == tuple(sorted(cifar.CLASSES))
    row = manifest.rows[-1]
    assert source("cifar10", project.dataset_root).image(row.path, row.sha256).size == (32, 32)


def test_the_data_sets_import_nothing_heavy() -> None:
    code = "import sys, pipeline.datasets; sys.exit(bool({'torch', 'sklearn'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
