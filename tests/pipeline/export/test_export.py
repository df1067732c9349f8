"""Exported files, run by onnxruntime: the same as predict, as Pillow, as torchvision."""

import json
import sys
from pathlib import Path

import dask.array
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.models.vgg import cfgs, make_layers

from cli import main
from features.errors import BadInput
from features.images import Preprocessing, decode
from features.network import parse_layer, tensor_shapes
from features.onnx import Graph, network, preprocess
from pipeline.export.export import export
from pipeline.export.heads import classify
from pipeline.export.model import to_onnx
from pipeline.finetuning.network import CutNetwork, arrays
from pipeline.heads import HEADS
from pipeline.heads.base import Head
from pipeline.heads.classifier import Classifier
from pipeline.heads.normalisation import Normalisation
from pipeline.predict.finetuned import rebuilt, steps_of
from pipeline.predict.opening import trained
from pipeline.predict.predictor import Predictor
from pipeline.project import Project, read_json
from pipeline.records.predictions import Predictions
from pipeline.stores.extract import extract
from pipeline.tuning.train import train
from tests.conftest import as_trained
from tests.pipeline.conftest import NASTY
from tests.pipeline.heads.test_heads import GRIDS

UINT8, FLOAT = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
HEAD = "pool5.logreg"


def session(model: onnx.ModelProto | Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    given = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def runs(
    graph: Graph, inputs: dict[str, np.ndarray], output: str, shape: list[int], kind: int = FLOAT
) -> np.ndarray:
    """What a graph gives for inputs of any size."""
    declared = [
        onnx.helper.make_tensor_value_info(
            name,
            onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
            [f"{name}{axis}" for axis in range(array.ndim)],
        )
        for name, array in inputs.items()
    ]
    found = onnx.helper.make_tensor_value_info(output, kind, shape)
    built = onnx.helper.make_graph(graph.nodes, "test", declared, [found], list(graph.constants.values()))
    model = onnx.helper.make_model(built, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return np.asarray(session(model).run([output], inputs)[0])


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize(
    "shape", [(48, 64), (301, 200), (8, 8), (600, 700), (5, 97), (97, 5), (377, 114), (37, 37), (4, 80)]
)
def test_pixels_are_pillows_to_the_last_bit(shape: tuple[int, int], crop: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    preprocessing = Preprocessing((32, 48), crop, (0, 0, 0), (1, 1, 1))
    views = ("none", "flip", "top-left", "top-right", "bottom-left", "bottom-right")
    graph = Graph()
    output = preprocess(graph, "image", preprocessing, views)
    found = runs(graph, {"image": image}, output, [6, 3, 32, 48], onnx.TensorProto.DOUBLE)
    expected = [preprocessing.pixels(Image.fromarray(image), view) for view in views]
    np.testing.assert_array_equal(found.transpose(0, 2, 3, 1), expected)


@pytest.mark.parametrize("size", [(64, 96), (224, 224)])
def test_the_network_is_torchvisions(size: tuple[int, int]) -> None:
    features = make_layers(cfgs["A"])
    # 16 of fc6's 4,096 units: the file would take half a gigabyte
    fc6 = torch.nn.Linear(25088, 16)
    top = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(7), torch.nn.Flatten(), fc6, torch.nn.ReLU())
    tensors = {f"features.{name}": tensor.numpy() for name, tensor in features.state_dict().items()}
    tensors |= {f"classifier.0.{name}": tensor.numpy() for name, tensor in fc6.state_dict().items()}
    layers = [
        parse_layer(name, "vgg11") for name in ("conv2_1:pre", "conv3_2:avg", "pool5:max", "pool5", "fc6")
    ]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, *size)).astype(np.float64)
    normalisation = ((120.0, 110.0, 100.0), (60.0, 50.0, 40.0))
    with torch.inference_mode():
        mean, std = (torch.tensor(values)[:, None, None] for values in normalisation)
        x = (torch.from_numpy(pixels).float() - mean) / std
        conv2_1, conv3_2, pool5 = features[:4](x), features[:10](x), features(x)
        expected = [
            conv2_1.flatten(1), conv3_2.mean((2, 3)), pool5.amax((2, 3)), pool5.flatten(1), top(pool5),
        ]  # fmt: skip
    for layer, values in zip(layers, expected, strict=True):
        graph = Graph()
        rows = network(graph, "pixels", [layer], tensors, normalisation, size)
        found = runs(graph, {"pixels": pixels}, rows[layer.name], list(values.shape))
        np.testing.assert_allclose(found, values, atol=2e-5 * float(values.abs().max()), err_msg=layer.name)


def fitted(name: str, n_classes: int) -> tuple[Head, np.ndarray]:
    """A head on digits, and rows to score, (n, 64) float32."""
    X, y = load_digits(n_class=n_classes, return_X_y=True)
    X = (X / 16).astype(np.float32)
    if name == "nyström":
        rows = dask.array.from_array(X[:150], chunks=(50, 64))
        return next(head for _, head in HEADS["rbf-svm"].path(rows, y[:150], GRIDS["rbf-svm"])), X[150:180]
    return next(head for _, head in HEADS[name].path(X[:150], y[:150], GRIDS[name])), X[150:180]


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("name", ["logreg", "linear-svm", "mlp", "rbf-svm", "nyström"])
def test_each_head_says_the_same(name: str, n_classes: int) -> None:
    head, X = fitted(name, n_classes)
    for kind in ("none", "l2", "standard"):
        X[0] = 0  # of length zero
        classifier = Classifier(Normalisation(kind).fit(X), head, 0.7, tuple("abcde"[:n_classes]))
        graph = Graph()
        proba = classify(graph, "rows", classifier, "float16")
        rounded = X.astype(np.float16).astype(np.float32)
        for views in (X[:1], X[:3]):
            found = runs(graph, {"rows": views}, proba, [n_classes], onnx.TensorProto.DOUBLE)
            expected = classifier.predict_proba(rounded[None, : len(views)])[0]
            np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=kind)


EXPORTED = [f"{layer}.{head}" for layer in ("pool5", "conv3_2:avg", "pixels") for head in HEADS]
EXPORTED = [name for name in EXPORTED if not name.endswith(("knn", "majority"))]


def test_every_exportable_method_says_of_the_test_images_what_the_comparison_has(
    finished: Project, tmp_path: Path
) -> None:
    manifest = finished.read_manifest()
    rows = [manifest.rows[number] for number in manifest.where("test")]
    images = [np.asarray(decode((finished.dataset_root / row.path).read_bytes()).image) for row in rows]
    for method in [*EXPORTED, "ensemble", "finetune.full"]:
        file = tmp_path / "method.onnx"
        assert export(finished, method=method, output=file)
        onnx.checker.check_model(file, full_check=True)
        opened = session(file)
        expected = Predictions.read(finished.predictions / f"{method.replace(':', '-')}.npz").proba
        for image, proba in zip(images, expected, strict=True):
            probabilities, label = opened.run(["probabilities", "label"], {"image": image})
            np.testing.assert_allclose(probabilities, proba, atol=1e-3, err_msg=method)
            assert label == probabilities.argmax()
        words = opened.get_modelmeta().custom_metadata_map
        assert json.loads(words["classes"]) == list(NASTY)
        assert words["method"] == method
        if not method.startswith("pixels"):
            assert words["weights"] == "random"
            assert "UNTRAINED" in words["weights_note"]
        members = json.loads(words["members"])
        assert set(json.loads(words["sha256"])) == set(members)
        assert (len(members) == 2) == (method == "ensemble")


@pytest.mark.parametrize("shape", [(40, 300), (300, 40), (4, 4), (500, 400)])
def test_images_of_other_sizes(finished: Project, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    predictor = Predictor(finished, "conv3_2:avg.logreg")
    (probabilities,) = session(to_onnx(predictor.method, {})).run(["probabilities"], {"image": image})
    np.testing.assert_allclose(probabilities, predictor.predict_proba([image])[0], atol=1e-4)


def test_views_without_a_draw_are_averaged_and_random_crops_refused(
    prepared: Project, tmp_path: Path
) -> None:
    for views in ("five-crop", "flip", "crops:2"):
        settings = ["extract.layers=[conv2_1:avg]", f"extract.views={views}", "extract.pixels=false"]
        project = Project.open(prepared.root, settings)
        extract(project, project.layers)
        train(project, "logreg")
        if views == "crops:2":
            with pytest.raises(BadInput, match="averages over random crops"):
                export(project, method="conv2_1:avg.logreg", output=tmp_path / "model.onnx")
        else:
            assert export(
                project, method="conv2_1:avg.logreg", output=tmp_path / "model.onnx", tolerance=1e-4
            )


def test_a_network_with_batch_norm_is_put_together_again() -> None:
    layer = parse_layer("conv2_1", "vgg11_bn")
    rng = np.random.default_rng(0)
    shapes = {
        name: shape for name, shape in tensor_shapes("vgg11_bn").items() if name.startswith("features.")
    }
    state = {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    as_trained(state)
    normalisation = ((120.0, 110.0, 100.0), (60.0, 50.0, 40.0))
    width = layer.width((32, 32))
    model = CutNetwork(layer, "conv1_1", state, normalisation, 3, width).eval()
    saved = arrays(model.state_dict())
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model(pixels)
        found = rebuilt(layer, "conv1_1", saved, 3, width)(pixels)
    np.testing.assert_array_equal(found, expected)
    for name, tensor in steps_of(layer, saved).items():
        np.testing.assert_array_equal(tensor, state[name])


@pytest.mark.parametrize(
    ("method", "words"), [("pool5.knn", "train images' features"), ("majority", "the same")]
)
def test_heads_that_no_graph_suits_are_refused(
    finished: Project, tmp_path: Path, method: str, words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        export(finished, method=method, output=tmp_path / "model.onnx")


def test_a_file_that_differs_is_not_left_behind(finished: Project, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    arguments = ["export", "--project", str(finished.root), "--method", HEAD, "--output", str(file)]
    done = CliRunner().invoke(main, [*arguments, "--tolerance", "0"])
    assert done.exit_code == 1
    assert "differs from predict" in done.stdout
    assert list(tmp_path.iterdir()) == []
    done = CliRunner().invoke(main, [*arguments, "--images", str(finished.dataset_root)])
    assert done.exit_code == 0, done.output
    assert "60 of 60 labels agree" in done.stdout
    assert "[random weights]" in done.stdout


def test_without_onnxruntime_there_is_a_remedy(finished: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BadInput, match="pip install onnxruntime"):
        export(finished, method=HEAD)


def test_a_folder_without_images_is_refused(finished: Project, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(BadInput, match="no image there can be read"):
        export(finished, method=HEAD, output=tmp_path / "model.onnx", images=tmp_path)


def test_a_head_alone_is_a_folder_that_loads(finished: Project, tmp_path: Path) -> None:
    arguments = ["export", "--head-only", "--project", str(finished.root), "--method"]
    done = CliRunner().invoke(main, [*arguments, HEAD, "--output", str(tmp_path / "head")])
    assert done.exit_code == 0, done.output
    assert {file.name for file in (tmp_path / "head").iterdir()} == {
        "head.safetensors",
        "card.json",
        "README.md",
    }
    assert Classifier.load(tmp_path / "head").classes == NASTY
    assert read_json(tmp_path / "head" / "card.json") == read_json(trained(finished)[HEAD] / "card.json")
    for wrong in (["ensemble", "--output", str(tmp_path / "x")], [HEAD]):
        assert CliRunner().invoke(main, [*arguments, *wrong]).exit_code == 2
