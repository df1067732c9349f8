"""The machine: versions of packages, the device that `auto` comes to, its GPU's driver, memory."""

import contextlib
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.filesize import decimal

from features import probe
from features.cores import cores
from features.engines.choice import choose
from pipeline.checks.finding import Finding, note, ok, wrong
from pipeline.project import Project

DISTRIBUTION = "penultimate"
DEVELOPMENT = "dev"  # the extra that no command needs
TUNING_TAKES = 3  # times tuning.memory_gb, as params.yaml says
PATIENCE = 5  # seconds for the GPU's own tool


def versions() -> list[Finding]:
    """Compare what is installed with the bounds that the installed distribution declares."""
    try:
        ours = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        found = f"{DISTRIBUTION} is not installed for {sys.executable}: which versions it needs is not known"
        return [note("packages", found, "run `make`, and use .venv/bin/python")]
    findings = [_python(SpecifierSet(ours.metadata["Requires-Python"] or ""))]
    fine = []
    for requirement in _required(ours, ""):
        version, flaw = _compared(requirement)
        if flaw:
            remedy = f"python -m pip install '{requirement.name}{requirement.specifier}', or run `make`"
            findings.append(wrong("packages", flaw, remedy))
        else:
            fine.append(f"{requirement.name} {version}")
    return [*findings, ok("packages", ", ".join(sorted(fine, key=str.lower))), *_optional(ours)]


def _python(allowed: SpecifierSet) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))  # distributions add to the string
    found = f"{version}, {sys.executable}"
    if allowed.contains(version):
        return ok("Python", found)
    return wrong("Python", f"{found}, and {allowed} is needed", "name another: make PYTHON=python3.12")


def _required(ours: metadata.Distribution, extra: str) -> Iterator[Requirement]:
    """Requirements of an extra, of none where it is empty, that apply to this Python and system."""
    for text in ours.requires or []:
        requirement = Requirement(text)
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        if always if not extra else not always and marker and marker.evaluate({"extra": extra}):
            yield requirement


def _compared(requirement: Requirement) -> tuple[str, str]:
    """The installed version, empty for none, and what is wrong with it."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return "", f"{requirement.name} is not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return version, ""
    return version, f"{requirement.name} {version} is not {requirement.specifier}"


def _optional(ours: metadata.Distribution) -> list[Finding]:
    findings = []
    for extra in ours.metadata.get_all("Provides-Extra") or []:
        if extra == DEVELOPMENT:
            continue
        compared = [(requirement.name, *_compared(requirement)) for requirement in _required(ours, extra)]
        flaws = [flaw for _, _, flaw in compared if flaw]
        fine = [f"{name} {version}" for name, version, flaw in compared if not flaw]
        found = f"for {extra}: {', '.join(fine + flaws)}"
        remedy = f"only where you want it: python -m pip install --editable '.[{extra}]'"
        findings.append(note("optional", found, remedy) if flaws else ok("optional", found))
    return findings


def device(project: Project | None) -> list[Finding]:
    """What `device`, `extract.engine` and `extract.precision` come to, and why; BadInput as for `extract`."""
    asked = ("auto", "auto", "auto")
    if project:
        settings = project.settings
        asked = (settings.extract.engine, settings.device, settings.extract.precision)
    choice = choose(*asked)
    found = f"{choice.device}, engine {choice.name} {choice.precision} ({choice.why}); {cores()} cores"
    return [ok("device", found)]


def pixels() -> list[Finding]:
    """Whether images are decoded and resized to the bits that stores elsewhere have."""
    found = probe.differences()
    remedy = (
        "nothing is wrong; where activations from elsewhere are to be used, take the Pillow that made them"
    )
    if found:
        return [note("pixels", "; ".join(found), remedy)]
    return [ok("pixels", "images are decoded and resized to the reference's bits")]


def gpu() -> list[Finding]:
    """NVIDIA's GPUs and driver as their own tool names them, and whether torch can use them; or none."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except OSError:
        return [ok("GPU", "no NVIDIA driver is installed")]
    except subprocess.TimeoutExpired:
        return [note("GPU", f"nvidia-smi did not finish within {PATIENCE} s", "restart the machine")]
    said = "; ".join(line.strip() for line in (done.stdout or done.stderr).splitlines() if line.strip())
    if done.returncode:
        return [note("GPU", f"nvidia-smi failed: {said}", "mend the driver, or set device=cpu")]
    return [_usable(said)]


def _usable(gpus: str) -> Finding:
    import torch  # noqa: PLC0415 - slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own words on an old driver: said below
        usable = torch.cuda.is_available()
    if usable:
        return ok("GPU", f"{gpus}; torch {torch.__version__} can use it")
    if torch.version.cuda is None:
        found = f"{gpus}, but torch {torch.__version__} is built for CPUs"
        return note("GPU", found, "install a torch built for CUDA; until then everything runs on the CPU")
    found = f"{gpus}, but torch {torch.__version__}, built for CUDA {torch.version.cuda}, cannot use it"
    return note("GPU", found, "update the driver, or install a torch built for an older CUDA")


def memory(project: Project | None) -> list[Finding]:
    """Whether tuning's share fits the memory that this process may use."""
    there = _memory()
    if there is None:
        return []
    if project is None:
        return [ok("memory", decimal(there))]
    share = project.settings.tuning.memory_gb
    found = f"{decimal(there)}; tuning takes up to about {TUNING_TAKES * share:g} GB"
    if there >= TUNING_TAKES * share * 1e9:
        return [ok("memory", found)]
    return [note("memory", found, f"set tuning.memory_gb to {there / TUNING_TAKES / 1e9:.1f} or less")]


def _memory() -> int | None:
    """Bytes of the machine, or of the container where that is less."""
    limits = []
    with contextlib.suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, ValueError):  # where there is no limit, it says `max`
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text("ascii")))
    return min(limits, default=None)
