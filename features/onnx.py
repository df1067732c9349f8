"""Preprocessing and network as ONNX operators.

    graph = Graph()
    pixels = preprocess(graph, "image", preprocessing, ("none",))    # (1, 3, H, W)
    rows = network(graph, pixels, [layer], tensors, normalisation, size)

Pillow's antialiased bilinear resize is written out as two matrix products, with its 22-bit weights
and its rounding after each pass, so that pixels are equal to the last bit. ONNX's own `Resize`
leaves weights and rounding to the runtime: onnxruntime's differs from Pillow by up to 14 of 255
levels, and others have no antialiasing at all.

References
----------
Pillow, src/libImaging/Resample.c (`precompute_coeffs`, `ImagingResample`);
https://github.com/python-pillow/Pillow/pull/9549 (the order of the passes, from Pillow 13 on).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from features.images import CROP_RATIO, Preprocessing
from features.network import PIXELS_SIZE, POOLED, Layer, Size, Step, deepest
from features.pooling import averaging_matrix
from features.views import CORNERS
from features.weights import RGB, Array

DOWN_FIRST = int(PIL.__version__.partition(".")[0]) >= 13  # where a height shrinks by far more than a width
FIXED = 2.0**22  # Pillow's weights are multiples of 1 / FIXED
FLOAT, DOUBLE, HALF, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64

Value = str | NDArray[Any]  # the name of a value in the graph, or a constant


class Graph:
    """Collects the operators and constants of a model; values are known by their names."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def add(self, operator: str, *inputs: Value, name: str = "", **attributes: Any) -> str:
        """Add an operator with one output; returns that one's name. Arrays become constants."""
        name = name or f"{self.prefix}{operator.lower()}_{len(self.nodes)}"
        names = [
            value if isinstance(value, str) else self.constant(f"{name}_{position}", value)
            for position, value in enumerate(inputs)
        ]
        self.nodes.append(helper.make_node(operator, names, [name], name=name, **attributes))
        return name

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Keep a constant under a name; returns the name."""
        self.constants[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def choose(self, condition: str, yes: Callable[["Graph"], str], no: Callable[["Graph"], str]) -> str:
        """Add a choice between two branches, of which one is computed; both give float64."""
        branches = {}
        for branch, build in (("then_branch", yes), ("else_branch", no)):
            inner = Graph(f"{self.prefix}{branch}_{len(self.nodes)}_")
            result = helper.make_tensor_value_info(build(inner), DOUBLE, None)
            branches[branch] = helper.make_graph(
                inner.nodes, branch, [], [result], list(inner.constants.values())
            )
        return self.add("If", condition, **branches)

    def cast(self, value: str, to: int) -> str:
        """Add a conversion to another type."""
        return self.add("Cast", value, to=to)


def preprocess(graph: Graph, image: str, preprocessing: Preprocessing, views: Sequence[str]) -> str:
    """Map an image (h, w, 3) uint8, upright RGB, to its views, (views, 3, H, W) float64 in 0 … 255.

    The same numbers as `Preprocessing.pixels`, for the views that need no random draw.
    """
    shape = graph.add("Shape", image)
    sides = [graph.add("Gather", shape, np.array(axis), axis=0) for axis in (0, 1)]  # h, w
    planes = graph.cast(graph.add("Transpose", image, perm=[2, 0, 1]), DOUBLE)  # (3, h, w)
    found: dict[str, str] = {}
    if preprocessing.crop or set(views) & set(CORNERS):
        covering = _covering(graph, sides, preprocessing.size)
        resized = resize(graph, planes, sides, covering)
        found["none"] = _cut(graph, resized, covering, preprocessing.size, None)
        found |= {
            name: _cut(graph, resized, covering, preprocessing.size, (down, right))
            for name, (right, down) in CORNERS.items()
            if name in views
        }
    if not preprocessing.crop:
        target = [np.array(side, np.int64) for side in preprocessing.size]
        found["none"] = resize(graph, planes, sides, target)
    if "flip" in views:
        found["flip"] = _slice(graph, found["none"], np.array([-1]), np.array([-(2**31)]), [2], [-1])
    return graph.add("Concat", *(_lifted(graph, found[view]) for view in views), axis=0)


def _lifted(graph: Graph, value: Value, axis: int = 0) -> str:
    return graph.add("Unsqueeze", value, np.array([axis]))


def _covering(graph: Graph, sides: Sequence[str], size: Size) -> list[str]:
    """Height and width that keep the aspect ratio and just cover size × 256/224 (see `Preprocessing`)."""
    high, wide = (np.array(round(side * CROP_RATIO), np.int64) for side in size)
    free_height = graph.add("Div", graph.add("Mul", sides[0], wide), sides[1])
    free_width = graph.add("Div", graph.add("Mul", sides[1], high), sides[0])
    return [graph.add("Max", high, free_height), graph.add("Max", wide, free_width)]


def _cut(
    graph: Graph, planes: str, sides: Sequence[Value], size: Size, corner: tuple[int, int] | None
) -> str:
    """Cut (3, H, W) out of the centre of (3, h, w), or of a corner, given as shares (0 or 1) of the room."""
    room = [graph.add("Sub", side, np.array(own)) for side, own in zip(sides, size, strict=True)]
    if corner:
        starts = [graph.add("Mul", one, np.array(share)) for one, share in zip(room, corner, strict=True)]
    else:  # `Round` takes halves to the even number, as Python does
        halves = [
            graph.add("Round", graph.add("Mul", graph.cast(one, DOUBLE), np.array(0.5))) for one in room
        ]
        starts = [graph.cast(half, INT64) for half in halves]
    ends = [graph.add("Add", start, np.array(own)) for start, own in zip(starts, size, strict=True)]
    first, last = (graph.add("Concat", *(_lifted(graph, v) for v in of), axis=0) for of in (starts, ends))
    return _slice(graph, planes, first, last, [1, 2], [1, 1])


def _slice(graph: Graph, x: str, first: Value, last: Value, axes: list[int], steps: list[int]) -> str:
    return graph.add("Slice", x, first, last, np.array(axes), np.array(steps))


def resize(graph: Graph, planes: str, sides: Sequence[Value], target: Sequence[Value]) -> str:
    """Resize (…, h, w) float64, whole numbers in 0 … 255, as Pillow does: rounded after each pass."""
    down, across = (_weights(graph, *pair) for pair in zip(sides, target, strict=True))
    across = graph.add("Transpose", across, perm=[1, 0])

    def across_first(g: Graph) -> str:
        return _rounded(g, g.add("MatMul", down, _rounded(g, g.add("MatMul", planes, across))))

    def down_first(g: Graph) -> str:
        return _rounded(g, g.add("MatMul", _rounded(g, g.add("MatMul", down, planes)), across))

    if not DOWN_FIRST:
        return across_first(graph)
    lost = [graph.add("Sub", *pair) for pair in zip(sides, target, strict=True)]  # rows, columns
    shrinks = graph.add("Greater", lost[0], np.array(0))
    more = graph.add("Greater", lost[0], graph.add("Mul", lost[1], np.array(2)))
    return graph.choose(graph.add("And", shrinks, more), down_first, across_first)


def _rounded(graph: Graph, sums: str) -> str:
    scaled = graph.add("Mul", sums, np.array(1 / FIXED))  # exact: a power of two
    return graph.add("Floor", graph.add("Add", scaled, np.array(0.5)))


def _weights(graph: Graph, inputs: Value, outputs: Value) -> str:
    """Weights (outputs, inputs) of one pass, as whole multiples of 1 / FIXED.

    A triangle around each output's centre, as wide as two inputs, or two outputs where there are fewer.
    """
    n, m = (graph.add("Cast", side, to=DOUBLE) for side in (inputs, outputs))
    i, o = (
        _lifted(graph, graph.add("Range", np.array(0.0), count, np.array(1.0)), axis)
        for count, axis in ((n, 0), (m, 1))
    )
    scale = graph.add("Div", n, m)
    narrow = graph.add("Div", np.array(1.0), graph.add("Max", scale, np.array(1.0)))
    centre = graph.add("Mul", graph.add("Add", o, np.array(0.5)), scale)  # (outputs, 1)
    distance = graph.add("Add", graph.add("Sub", i, centre), np.array(0.5))
    distance = graph.add("Abs", graph.add("Mul", distance, narrow))  # (outputs, inputs)
    triangle = graph.add("Max", graph.add("Sub", np.array(1.0), distance), np.array(0.0))
    share = graph.add("Div", triangle, graph.add("ReduceSum", triangle, np.array([1])))
    return graph.add("Floor", graph.add("Add", graph.add("Mul", share, np.array(FIXED)), np.array(0.5)))


def network(
    graph: Graph,
    pixels: str,
    layers: Sequence[Layer],
    tensors: Mapping[str, Array],
    normalisation: tuple[RGB, RGB],
    size: Size,
) -> dict[str, str]:
    """Map (k, 3, H, W) to, per layer name, (k, width) float32.

    Parameters
    ----------
    tensors : mapping of str to float32 array
        Weight and bias of each step by torchvision's names, batch norm folded in.
    """
    rows = {layer.name: _control(graph, pixels, size) for layer in layers if not layer.needs_network}
    path = deepest(layers).steps
    if not path:
        return rows
    mean, std = (np.array(values, np.float32)[:, None, None] for values in normalisation)
    x = graph.add("Div", graph.add("Sub", graph.cast(pixels, FLOAT), mean), std)
    for position, step in enumerate(path):
        x = _step(graph, x, step, tensors, size, path[:position])
        tapped = [layer for layer in layers if layer.step == step.name]
        rows |= {layer.name: _pooled(graph, x, layer) for layer in tapped if layer.pre}
        if step.relu and step.kind != "pool":
            x = graph.add("Relu", x)
        rows |= {layer.name: _pooled(graph, x, layer) for layer in tapped if not layer.pre}
    return rows


def _step(
    graph: Graph, x: str, step: Step, tensors: Mapping[str, Array], size: Size, before: Sequence[Step]
) -> str:
    """One step without its ReLU."""
    if step.kind == "pool":
        return graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    weight, bias = (graph.constant(name, tensors[name]) for name in step.tensors)
    if step.kind == "conv":
        return graph.add("Conv", x, weight, bias, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    if step.name == "fc6":
        shrink = 2 ** sum(one.kind == "pool" for one in before)
        if (size[0] // shrink, size[1] // shrink) != (POOLED, POOLED):
            down, across = (averaging_matrix(side // shrink, POOLED) for side in size)
            x = graph.add("MatMul", graph.add("MatMul", down, x), across.T)  # (k, C, 7, 7)
        x = graph.add("Flatten", x)
    return graph.add("Gemm", x, weight, bias, transB=1)


def _pooled(graph: Graph, x: str, layer: Layer) -> str:
    if layer.pooling:
        operator = {"avg": "ReduceMean", "max": "ReduceMax"}[layer.pooling]
        return graph.add(operator, x, np.array([2, 3]), keepdims=0)
    return graph.add("Flatten", x)


def _control(graph: Graph, pixels: str, size: Size) -> str:
    """The layer `pixels` (see `features.images.control_pixels`)."""
    sides, target = ([np.array(side, np.int64) for side in of] for of in (size, PIXELS_SIZE))
    small = graph.add("Transpose", resize(graph, pixels, sides, target), perm=[0, 2, 3, 1])
    return graph.add("Div", graph.cast(graph.add("Flatten", small), FLOAT), np.array(255, np.float32))
