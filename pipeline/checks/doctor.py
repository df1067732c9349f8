"""Is all there that the pipeline needs? A line for each thing, and what to do where one is missing.

    python cli.py doctor

Computes nothing, downloads nothing, writes nothing, and answers within ten seconds, also
without a network and where params.yaml cannot be read.
"""

import shutil
import textwrap
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from features.errors import BadInput
from pipeline.checks import machine, repository, storage
from pipeline.checks.finding import Finding, ok, refused, wrong
from pipeline.checks.images import images
from pipeline.checks.network import reach, weights
from pipeline.project import Project
from pipeline.terminal import PLAIN_WIDTH

MARKS = {"ok": "ok", "note": "note", "wrong": "WRONG"}
INDENT = 19  # columns of mark and topic


def doctor(folder: Path, overrides: Sequence[str] = ()) -> bool:
    """Print what was found; returns whether nothing is wrong."""
    findings = examine(folder.resolve(), overrides)
    for finding in findings:
        print(_line(f"{MARKS[finding.mark]:7}{finding.topic:12}", finding.found))
        if finding.remedy:
            print(_line("→ ".rjust(INDENT), finding.remedy))
    count = sum(finding.mark == "wrong" for finding in findings)
    print(f"doctor: {count or 'nothing'} wrong")
    return not count


def _line(beginning: str, text: str) -> str:
    """Fold a line; paths stay whole, so that they can be copied."""
    width = max(shutil.get_terminal_size((PLAIN_WIDTH, 0)).columns, 3 * INDENT)
    return textwrap.fill(
        text, width, initial_indent=beginning, subsequent_indent=" " * INDENT,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def examine(root: Path, overrides: Sequence[str] = ()) -> list[Finding]:
    """Look at everything; what needs settings is left out where params.yaml cannot be read."""
    project, parameters = _opened(root, overrides)
    with ThreadPoolExecutor(1) as pool:
        # Hosts take their time: meanwhile, the rest
        asked = pool.submit(reach, project.settings.weights.sources) if project else None
        findings = [
            *_checked("packages", machine.versions),
            *_checked("device", lambda: machine.device(project)),
            *_checked("GPU", machine.gpu),
            *_checked("pixels", machine.pixels),
            *_checked("memory", lambda: machine.memory(project)),
            *_checked("git", lambda: repository.repository(root)),
            *_checked("locks", lambda: repository.locks(root)),
            parameters,
        ]
        if project and asked:
            findings += [
                *_checked("images", lambda: images(project)),
                *_checked("disk", lambda: storage.disk(project)),
                *_checked("cache", lambda: storage.cache(project)),
                *_checked("weights", lambda: weights(project, asked.result())),
            ]
    return findings


def _opened(root: Path, overrides: Sequence[str]) -> tuple[Project | None, Finding]:
    try:
        return Project.open(root, overrides), ok("parameters", f"{root / 'params.yaml'} is valid")
    except BadInput as error:
        remedy = "mend it; images, disk, cache and weights were not looked at"
        return None, wrong("parameters", str(error), remedy)
    except OSError as error:
        return None, _unreadable("parameters", error)


def _checked(topic: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """Run a check; what stops it is a finding, too."""
    try:
        return check()
    except BadInput as error:
        return [refused(topic, error)]
    except ImportError as error:
        return [wrong(topic, f"{error.name} cannot be imported ({error})", "run `make`")]
    except OSError as error:
        return [_unreadable(topic, error)]


def _unreadable(topic: str, error: OSError) -> Finding:
    return wrong(topic, f"{error.filename}: {error.strerror}", "make it readable, or name another")
