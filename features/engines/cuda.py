"""The torch engine on CUDA: several batches in flight, so that the GPU never waits.

    decoded batch ─▶ pinned memory ─▶ device ─▶ normalise, network, pooling ─▶ pinned memory ─▶ rows
                         └ upload stream ┘ └──── compute stream ────┘ └─ download stream ─┘

A batch's tensors are held until its last copy is done. That is what keeps the caching
allocator, which knows of one stream per tensor, from handing their memory out too early.

References
----------
A guide on good usage of non_blocking and pin_memory() in PyTorch,
https://docs.pytorch.org/tutorials/intermediate/pinmem_nonblock.html
CUDA semantics, https://docs.pytorch.org/docs/stable/notes/cuda.html
"""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
import torch._dynamo.config
from numpy.typing import NDArray
from torch import Tensor

from features.engines.base import Rows, padded
from features.engines.pytorch import DTYPES, TappedNetwork
from features.errors import BadInput
from features.images import Preprocessing
from features.network import Layer, Size
from features.turns import starts_threads, turn
from features.weights import Weights

AHEAD = 2  # batches in flight behind the one that is waited for
ACTIVATION_BYTES = 2 << 30  # of the first convolution's output, the largest; two of them are alive at once
ROW_BYTES = 256 << 20  # of one batch's rows in fp32, as of the blocks that are cut from them
MOST = 1024  # images per batch: small ones fill the GPU long before they fill its memory
RECOMPILATIONS = 256  # segments × batch shapes
# Torch lets cuBLAS add up parts of a long product in fp16 or bf16: faster, and less exact
SUMS_IN_HALVES = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
# What else torch says for want of memory: a workspace of cuDNN's, a handle of cuBLAS's, pinned memory
NO_MEMORY = ("unable to find an engine", "STATUS_ALLOC_FAILED", "CUDA error: out of memory")

T = TypeVar("T")


@dataclass(frozen=True)
class Flight:
    """A part of a batch on its way.

    Attributes
    ----------
    device : list of Tensor
        What the streams still read.
    rows : dict of layer name to (n, width) Tensor
        In pinned memory; written once `done` has happened.
    """

    device: list[Tensor]
    rows: dict[str, Tensor]
    done: torch.cuda.Event


class CudaEngine:
    """Run the longest prefix and tap every layer on the way (see `features.engines.base.Engine`).

    The same device, versions and batch give the same bits: cuDNN chooses deterministic
    algorithms by rule, never by a timing. fp32 means IEEE: no TF32, neither in
    convolutions, where torch's default allows it, nor in products. In fp16, what is too
    large for it becomes infinite or NaN, and stays so in a row, which `extract` refuses.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        weights: Weights,
        preprocessing: Preprocessing,
        *,
        device: str,
        precision: str,
        compiled: Path | None = None,
    ) -> None:
        """See `Engine`; `compiled` is the folder of compiled kernels: code that runs, so the user's own."""
        self.device = torch.device(device)
        self.network = TappedNetwork(layers, weights, device=device, precision=precision)
        self.batch = batch_size(layers, preprocessing.size, DTYPES[precision])
        # numpy has float16, in which nothing is lost, but no bfloat16
        self.rows_dtype = torch.float16 if precision == "fp16" else torch.float32
        self.upload, self.compute, self.download = (torch.cuda.Stream(self.device) for _ in range(3))
        self.start = Halving(self._start, self.batch, self._give_back)
        torch.cuda.synchronize(self.device)  # the weights are there, for every stream
        self._compile(compiled, np.zeros((self.batch, *preprocessing.size, 3), np.uint8))

    def run(self, images: NDArray[np.uint8]) -> Rows:
        """Map (n, H, W, 3) uint8, n at most `batch`, to, per layer name, (n, width)."""
        return next(self.stream([images]))

    def stream(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Rows]:
        """Run batch after batch, in order, `AHEAD` of them in advance."""
        counts: deque[int] = deque()  # of images that are not padding

        def submit(images: NDArray[np.uint8]) -> list[Flight]:
            starts_threads("torch")  # and a device that was in use is lost in a forked process
            counts.append(len(images))
            staged = torch.from_numpy(padded(images, self.batch)).pin_memory()
            with turn:  # `reproducible` sets what is the whole process's
                return self.start(staged)

        for rows in pipelined(submit, landed, batches, AHEAD):
            count = counts.popleft()
            yield {name: values[:count] for name, values in rows.items()}

    @torch.inference_mode()
    def _start(self, staged: Tensor) -> Flight:
        """Queue everything that has to happen to (n, H, W, 3) uint8 in pinned memory; wait for nothing."""
        with torch.cuda.stream(self.upload):
            images = staged.to(self.device, non_blocking=True)
        self.compute.wait_stream(self.upload)
        with torch.cuda.stream(self.compute), reproducible():
            rows = {name: values.to(self.rows_dtype) for name, values in self.network(images).items()}
        self.download.wait_stream(self.compute)
        with torch.cuda.stream(self.download):
            host = {name: pinned(values).copy_(values, non_blocking=True) for name, values in rows.items()}
            done = torch.cuda.Event()
            done.record()
        return Flight([images, *rows.values()], host, done)

    def _give_back(self) -> None:
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()

    def _compile(self, folder: Path | None, example: NDArray[np.uint8]) -> None:
        """Compile now, so that a failure is said before the first image; without, it is only slower."""
        # Read at every compilation; importing torch's compiler has set it to a folder that restarts empty
        if folder:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
        plain = list(self.network.segments)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")  # not wanted
                self.network.segments = [(compiled_module(module), layers) for module, layers in plain]
                self.run(example)
        except BadInput:
            raise
        except Exception as error:  # noqa: BLE001 - no C compiler, no Triton, an old GPU, …: all may pass
            reason = (str(error) or type(error).__name__).strip().splitlines()[0]
            print(f"extract: torch.compile does not work here, going on without it: {reason}", flush=True)
            self.network.segments = plain


def compiled_module(module: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Compile a segment, for each batch shape by itself; where that fails, calling it raises."""
    # All segments are `Sequential.forward` to torch, which beyond its limit of 8 would run them as they are
    torch._dynamo.config.recompile_limit = RECOMPILATIONS
    return torch.compile(module, dynamic=False, fullgraph=True)


@contextmanager
def reproducible() -> Iterator[None]:
    """No TF32, long sums in fp32, and the same algorithm every time, for as long as the context lasts."""
    products = torch.backends.cuda.matmul
    before = {name: getattr(products, name) for name in SUMS_IN_HALVES}
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # torch's default, said all the same
    for name in SUMS_IN_HALVES:
        setattr(products, name, False)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        for name, value in before.items():
            setattr(products, name, value)


def pinned(like: Tensor) -> Tensor:
    """Page-locked host memory of a tensor's shape and type: copies to it need no waiting."""
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)


def landed(flights: Sequence[Flight]) -> Rows:
    """Wait for the parts of one batch, which is where a forward's time shows; returns the rows of all."""
    for flight in flights:
        flight.done.synchronize()
    if len(flights) == 1:
        return {name: rows.numpy() for name, rows in flights[0].rows.items()}
    return {name: torch.cat([flight.rows[name] for flight in flights]).numpy() for name in flights[0].rows}


def pipelined(
    submit: Callable[[NDArray[np.uint8]], list[Flight]],
    land: Callable[[list[Flight]], Rows],
    batches: Iterable[NDArray[np.uint8]],
    ahead: int,
) -> Iterator[Rows]:
    """Submit batches, and land them in order, each once `ahead` others are under way."""
    flying: deque[list[Flight]] = deque()
    for batch in batches:
        flying.append(submit(batch))
        if len(flying) > ahead:
            yield land(flying.popleft())
    while flying:
        yield land(flying.popleft())


class Halving(Generic[T]):
    """Call a function on as large parts of a batch as fit into memory, and say where that changes.

    Attributes
    ----------
    size : int
        Images per part. Out of memory halves it, for good: the engine's batch stays what it was.
    """

    def __init__(self, function: Callable[[Tensor], T], size: int, give_back: Callable[[], None]) -> None:
        self.function, self.size, self.give_back = function, size, give_back

    def __call__(self, batch: Tensor) -> list[T]:
        """Call the function on consecutive parts of (n, …); BadInput where not even one image fits."""
        while True:
            try:
                return [self.function(part) for part in batch.split(self.size)]
            except RuntimeError as error:
                message = str(error).splitlines()[0]
                if not isinstance(error, torch.OutOfMemoryError) and not any(s in message for s in NO_MEMORY):
                    raise
            # Behind the clause: the exception holds what the failed call had allocated
            if self.size == 1:
                raise BadInput(f"one image does not fit into the GPU's memory ({message}); use device=cpu")
            self.give_back()
            self.size //= 2
            print(f"extract: out of GPU memory; going on with {self.size} images at a time", flush=True)


def batch_size(layers: Sequence[Layer], size: Size, dtype: torch.dtype) -> int:
    """Images per batch: a power of two that bounds activations and rows, and halves well."""
    activations = 64 * size[0] * size[1] * dtype.itemsize
    rows = 4 * sum(layer.width(size) for layer in layers)
    most = min(MOST, ACTIVATION_BYTES // activations, ROW_BYTES // rows)
    return 1 << max(0, most.bit_length() - 1)
