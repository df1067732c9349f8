"""The CPU engine: ncnn's Winograd convolutions, then the dense layers as batched torch products.

ncnn takes one image at a time and uses all cores for it. Dense layers image by
image would be bound by memory (411 MB of weights each), so torch does them for
the whole batch.

References
----------
Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import ncnn
import numpy as np
import torch
from numpy.typing import NDArray

from features.engines import Rows, batch_size
from features.engines.pytorch import child, pooled
from features.images import Preprocessing
from features.modules import build
from features.network import Layer, Step
from features.weights import Array, Weights


class WinogradEngine:
    """Convolutions by ncnn, dense layers by torch (see `features.engines.Engine`)."""

    def __init__(self, layers: Sequence[Layer], weights: Weights, preprocessing: Preprocessing) -> None:
        self.layers = tuple(layers)
        self.batch = batch_size(preprocessing.size)
        path = max((layer.steps for layer in layers), key=len)
        tensors = weights.tensors(path)
        self.spatial = [step for step in path if step.kind != "dense"]
        self.dense = [step for step in path if step.kind == "dense"]
        self.net = ncnn.Net()
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(self.net.opt, option, False)
        self.net.opt.num_threads = torch.get_num_threads()
        # Without light mode every tapped blob stays valid until the image is done.
        self.net.opt.lightmode = False
        keep_pre = frozenset(layer.step for layer in layers if layer.pre)
        _load(self.net, self.spatial, tensors, keep_pre)
        self.tail = build(self.dense, tensors, keep_pre=keep_pre).eval().requires_grad_(False)
        mean, std = weights.normalisation
        self.mean = np.array(mean, np.float32)[:, None, None]
        self.std = np.array(std, np.float32)[:, None, None]

    def stream(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Rows]:
        """Run batch after batch, in order."""
        return map(self.run, batches)

    @torch.inference_mode()
    def run(self, images: NDArray[np.uint8]) -> Rows:
        """Map (batch, H, W, 3) uint8 to, per layer name, (batch, width) float32."""
        taps = [layer for layer in self.layers if layer.steps[-1].kind != "dense"]
        last = self.spatial[-1].name
        kept: dict[str, list[torch.Tensor]] = {layer.name: [] for layer in taps}
        ends = []
        for image in images:
            chw = np.ascontiguousarray((image.transpose(2, 0, 1) - self.mean) / self.std)  # (3, H, W)
            extractor = self.net.create_extractor()
            extractor.input("image", ncnn.Mat(chw))
            for layer in taps:
                blob = torch.from_numpy(_extract(extractor, child(layer)))[None]  # (1, C, h, w)
                kept[layer.name].append(pooled(blob, layer))
            if self.dense:
                ends.append(_extract(extractor, last))
        rows: Rows = {name: torch.cat(parts).numpy() for name, parts in kept.items()}
        if self.dense:
            x = torch.from_numpy(np.stack(ends))  # (B, 512, h, w)
            for name, module in self.tail.named_children():
                x = module(x)
                for layer in self.layers:
                    if name == child(layer):
                        rows[layer.name] = pooled(x, layer).numpy()
        return rows


def _extract(extractor: ncnn.Extractor, blob: str) -> NDArray[np.float32]:
    code, mat = extractor.extract(blob)
    if code:
        raise RuntimeError(f"ncnn could not compute {blob} (code {code})")
    return np.array(mat)  # a copy: the blob's memory belongs to the extractor


def _load(
    net: ncnn.Net, path: Sequence[Step], tensors: Mapping[str, Array], keep_pre: frozenset[str]
) -> None:
    """Describe the steps in ncnn's text format and give it their weights.

    A convolution's ReLU is fused, except where the value before it is tapped.
    """
    lines = ["Input image 0 1 image"]
    before = "image"
    for step in path:
        if step.kind == "pool":
            # 2 × 2 maximum, stride 2, no padding (5=1: an odd last row is dropped, as in torch)
            lines.append(f"Pooling {step.name} 1 1 {before} {step.name} 0=0 1=2 2=2 5=1")
            before = step.name
            continue
        after, fused = f"{step.name}_relu", step.name not in keep_pre
        output = after if fused else step.name
        size = step.outputs * step.inputs * 9
        lines.append(
            f"Convolution {step.name} 1 1 {before} {output} "
            f"0={step.outputs} 1=3 4=1 5=1 6={size} 9={int(fused)}"
        )
        if not fused:
            lines.append(f"ReLU {after} 1 1 {step.name} {after}")
        before = after
    text = "\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines]) + "\n"
    with tempfile.TemporaryDirectory() as scratch:
        binary = Path(scratch) / "weights.bin"
        with binary.open("wb") as file:
            for step in path:
                if step.kind == "conv":
                    file.write(bytes(4))  # tag 0: float32 follows
                    for name in step.tensors:
                        file.write(tensors[name].tobytes())
        if net.load_param_mem(text) or net.load_model(str(binary)):
            raise RuntimeError("ncnn refused the network")
