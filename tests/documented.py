"""The commands that documents show: whole lines of their blocks, and what stands between backticks.

for command in documented():
    command.page, command.text      # 'README.md', 'dvc exp run -S …'
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.conftest import REPOSITORY

PAGES = ["README.md", "CONTRIBUTING.md", "data/README.md", "benchmarks/README.md", "params.yaml"]
PROGRAMS = r"(?:python|dvc|make|git|pip|uvicorn|gunicorn|curl|source|mkdir|cp|find|\.ci/run)\b"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(rf"^(?: {{4}}|# .*:\s+|#\s{{10,}})({PROGRAMS} .*)$", re.MULTILINE)
INLINE = re.compile(rf"`({PROGRAMS} [^`\n]*)`")


class Command(NamedTuple):
    """A command as it is shown, without the comment behind it."""

    page: str
    text: str


def documented() -> list[Command]:
    """Every command of every page once, in their order."""
    pages = [REPOSITORY / name for name in PAGES] + sorted((REPOSITORY / "docs").glob("*.md"))
    found = []
    for page in pages:
        name = page.relative_to(REPOSITORY).as_posix()
        found += [Command(name, text) for text in _commands(page.read_text("utf-8"))]
    return list(dict.fromkeys(found))


def _commands(text: str) -> Iterator[str]:
    for block in BLOCK.findall(text):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            yield from _parts(line)
    for line in (*INDENTED.findall(BLOCK.sub("", text)), *INLINE.findall(text)):
        yield from _parts(line)


def _parts(line: str) -> Iterator[str]:
    """The commands of one line, which `&&` joins."""
    for part in re.sub(r"\s+# .*", "", line).split("&&"):
        if part.strip():
            yield part.strip()
