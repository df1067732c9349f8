"""The baseline: where it starts, what it keeps, that nothing is trained twice."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression

from features.cache import run_flaw
from features.errors import BadInput
from features.network import parse_layer
from features.store import FeatureStore
from pipeline.finetuning import finetune
from pipeline.finetuning.network import CutNetwork
from pipeline.finetuning.plan import Plan
from pipeline.finetuning.start import GRID, StartingModel
from pipeline.params import parse, read_yaml
from pipeline.project import Project
from pipeline.stores.extract import extract
from pipeline.stores.recipe import extraction_of


def with_settings(project: Project, **changes: object) -> Project:
    content = read_yaml(project.root / "params.yaml")
    content["finetune"].update(changes)
    return Project(project.root, parse(content, "params.yaml"))


@pytest.fixture
def extracted(prepared: Project) -> Project:
    extract(prepared, prepared.layers)
    return prepared


def test_starts_as_the_logistic_regression_on_frozen_features(extracted: Project) -> None:
    manifest, top = extracted.read_manifest(), parse_layer("pool5", "vgg11")
    extraction = extraction_of(extracted, manifest, [top])
    model = StartingModel(Plan(extracted, manifest, "full"), extraction, torch.device("cpu"))().eval()
    images = [extraction.source.image(row.path, row.sha256) for row in manifest.rows[:5]]
    pixels = np.stack([extraction.recipe.preprocessing.pixels(image) for image in images])
    with torch.inference_mode():
        logits = model(torch.from_numpy(pixels)).numpy()
    frozen = extracted.store(top, manifest).rows(np.arange(5))
    weight, bias = model.output.weight.detach().numpy(), model.output.bias.detach().numpy()
    want = (frozen - model.feature_mean.numpy()) / model.feature_scale.numpy() @ weight.T + bias
    np.testing.assert_allclose(logits, want, rtol=1e-2, atol=1e-2)  # the store has float16
    assert np.abs(weight).max() > 0


@pytest.mark.parametrize("rare", [False, True])
def test_starts_with_the_scale_that_validation_rows_prefer(extracted: Project, rare: bool) -> None:
    """Columns that say something, and columns that are noise: rare ones need one scale for all."""
    manifest, top = extracted.read_manifest(), parse_layer("pool5", "vgg11")
    rng = np.random.default_rng(0)
    width = top.width(extracted.image_size)
    X = rng.normal(size=(len(manifest), width)).astype(np.float32)
    telling = np.arange(width) < 60
    X[:, telling] += 0.8 * (np.arange(60) % 3 == manifest.labels[:, None])
    X[:, ~telling if rare else telling] *= 0.01
    extraction = extraction_of(extracted, manifest, [top])
    start = StartingModel(Plan(extracted, manifest, "full"), extraction, torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureStore, "rows", lambda store, numbers, view: X[numbers])
        assert start.head is not None
        coef, intercept, mean, scale = start.head
    train, validation = manifest.where("train"), manifest.where("validation")
    right = ((X - mean) / scale @ coef.T + intercept).argmax(axis=1) == manifest.labels
    deviations = X[train].std(axis=0)
    for scales in (deviations, np.sqrt((deviations**2).mean())):
        scaled = (X - X[train].mean(axis=0)) / scales
        best = max(
            LogisticRegression(C=C, max_iter=2000).fit(scaled[train], manifest.labels[train])
            .score(scaled[validation], manifest.labels[validation])
            for C in GRID["C"]
        )  # fmt: skip
        assert right[validation].mean() >= best - 1e-6
    assert (np.ptp(scale) == 0) == rare


def test_trains_publishes_and_never_trains_twice(
    extracted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune.finetune(extracted, ("full",))
    folder = extracted.finetune_folder("full")
    card = json.loads((folder / "card.json").read_text("utf-8"))
    assert card["top"] == "pool5"
    assert card["weights"] == "random"
    assert {file.name for file in folder.iterdir()} == {
        "card.json", "history.csv", "model.safetensors", "predictions.npz"
    }  # fmt: skip
    trained = load_file(folder / "model.safetensors")
    start = extracted.read_weights().tensors(parse_layer("pool5", "vgg11"))
    history = (folder / "history.csv").read_text("utf-8").splitlines()
    assert [line.split(",")[3] for line in history] == ["epoch", "0", "1"]
    moved = not np.array_equal(trained["network.conv1_1.weight"].numpy(), start["features.0.weight"])
    assert moved == (card["chosen"]["epoch"] == 1)  # every layer is trained; epoch 0 is the start
    first = {file.name: file.read_bytes() for file in folder.iterdir()}
    capsys.readouterr()
    finetune.finetune(extracted, ("full",))
    assert "was trained before" in capsys.readouterr().out
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first


def test_a_damaged_run_is_trained_again(extracted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    finetune.finetune(extracted, ("full",))
    published = extracted.finetune_folder("full")
    first = load_file(published / "model.safetensors")
    run = Plan(extracted, extracted.read_manifest(), "full").folder
    for name in finetune.FILES:
        whole = (run / name).read_bytes()
        (run / name).write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        assert name in run_flaw(run)
        (run / name).write_bytes(whole)
    (run / "model.safetensors").write_bytes(b"")
    capsys.readouterr()
    finetune.finetune(extracted, ("full",))
    assert "is damaged and will be trained again (model.safetensors does not" in capsys.readouterr().out
    again = load_file(published / "model.safetensors")
    assert all(torch.equal(again[tensor], first[tensor]) for tensor in first)
    (run / "notes.txt").write_text("a foreign file")
    finetune.finetune(extracted, ("full",))
    assert "was trained before" in capsys.readouterr().out
    assert {file.name for file in published.iterdir()} == set(finetune.FILES)


def test_same_seed_same_weights(extracted: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project = with_settings(extracted, head_start="random", learning_rate=0.01)
    runs = []
    for name in "ab":
        monkeypatch.setenv("PENULTIMATE_CACHE", str(extracted.root / f"cache {name}"))
        finetune.finetune(project, ("full",))
        runs.append((project.finetune_folder("full") / "model.safetensors").read_bytes())
    assert runs[0] == runs[1]


def test_dense_layers_are_kept_where_asked(extracted: Project) -> None:
    project = with_settings(extracted, top="fc7", epochs=1)
    manifest = project.read_manifest()
    assert Plan(project, manifest, "full").top.name == "fc7"
    assert Plan(extracted, manifest, "full").top.name == "pool5"  # random weights are not trained
    top, weights = parse_layer("fc7", "vgg11"), project.read_weights()
    width = top.width(project.image_size)
    model = CutNetwork(top, "pixels", weights.state(top), weights.normalisation, 3, width)
    assert sum(isinstance(module, torch.nn.Dropout) for module in model.modules()) == 2
    pixels = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    assert model(pixels).shape == (2, 3)


def test_divergence_and_too_large_batches_are_refused(extracted: Project) -> None:
    with pytest.raises(BadInput, match=r"diverged.*learning_rate"):
        finetune.finetune(with_settings(extracted, learning_rate=1e30, epochs=3, warmup=0), ("full",))
    with pytest.raises(BadInput, match=r"batch_size is 4096, but there are \d+ train images"):
        finetune.finetune(with_settings(extracted, batch_size=4096), ("full",))
    assert not extracted.finetune_folder("full").exists()
