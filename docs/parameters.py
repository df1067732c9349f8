"""docs/parameters.md: every parameter's type and limits, its default, and what params.yaml says of it.

python -m docs.parameters
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.params import Settings

HERE = Path(__file__).resolve().parent
PAGE = HERE / "parameters.md"
PARAMS = HERE.parent / "params.yaml"

LINE = re.compile(r"(?P<indent> *)(?P<name>[\w-]+):(?: +(?P<value>\S.*?))??(?:\s+# (?P<comment>.*))?")
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
KINDS = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
}
WIDER = {  # what validators that run first also take, which a schema cannot show
    "_spread": "or text such as `45 from 1e-6 to 1e5`: so many, evenly on a logarithmic scale",
    "_as_list": "or one of these alone",
}
INTRODUCTION = """\
# Parameters

Everything that `params.yaml` holds: each key's type and limits, the committed default, and its meaning.
Every key has to be there and no other may be; a head may be left out. `-S key=value` overrides one for a
run: `-S 'heads.logreg.C=[0.1,1,10]'`. Types are strict: `1e-3` is a number, `"1e-3"` and `no` are text
(YAML 1.2, as DVC reads it).

Behind `-S`, a parameter that is text takes what was typed, whatever is in it:
`-S 'dataset.root=/photos #2'`; `null` is none, and quotes around all of it are taken off. What is not text is
one value of YAML. DVC's own `-S` (`dvc exp run`) refuses some text (with `#`, `=`, `[`, `~`, letters beyond
ASCII), drops spaces at its ends, and reads what looks like a number as one. In quotes it means the same to
both: `-S 'dataset.root="/photos #2"'`.

This page is written by `python -m docs.parameters` from `params.yaml` and `pipeline/params.py`.
"""


@dataclass(frozen=True)
class Entry:
    """A key of params.yaml: its dotted name, its value as written (empty for a section), comments.

    `above` stands over the key, and over those below it that have none; `beside` on its line.
    """

    key: str
    value: str
    above: tuple[str, ...]
    beside: str


def entries(text: str) -> Iterator[Entry]:
    """Read params.yaml line by line: a comment belongs to the key below it, or on whose line it stands."""
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.strip().removeprefix("#").removeprefix(" "))
        elif match := LINE.fullmatch(line):
            indent = len(match["indent"])
            path = [*((column, name) for column, name in path if column < indent), (indent, match["name"])]
            key = ".".join(name for _, name in path)
            yield Entry(key, match["value"] or "", tuple(comment), match["comment"] or "")
            comment = []
        elif not line.strip():
            comment = []
        else:
            raise ValueError(
                f"{PARAMS}: this page cannot show {line!r}; write a key and its value in one line"
            )


def fields(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, dict[str, Any], str]]:
    """Every leaf's key, JSON schema (references resolved), and what is accepted besides."""
    schema = model.model_json_schema()
    for name, info in model.model_fields.items():
        key = info.alias or name
        inner = [
            t for t in (info.annotation, *getattr(info.annotation, "__args__", ())) if isinstance(t, type)
        ]
        section = next((t for t in inner if issubclass(t, BaseModel)), None)
        if section and section.model_fields:
            yield from fields(section, f"{above}{key}.")
        else:
            first = [getattr(part, "func", None) for part in info.metadata]
            wider = [WIDER[f.__name__] for f in first if f and f.__name__ in WIDER]
            yield f"{above}{key}", schema["properties"][key], ", ".join(wider)


def words(schema: Mapping[str, Any]) -> str:
    """A JSON schema in words."""
    if "enum" in schema or "const" in schema:
        choices = [f"`{choice}`" for choice in schema.get("enum", [schema.get("const")])]
        return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    if "anyOf" in schema:
        return " or ".join(words(part) for part in schema["anyOf"])
    if "$ref" in schema:
        return "nothing to set"
    if schema["type"] == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(words(item) for item in schema['prefixItems'])}]"
        return f"list of {words(schema['items'])}"
    limits = " and ".join(f"{sign} {schema[name]}" for name, sign in LIMITS.items() if name in schema)
    if schema.get("pattern"):
        limits = f"matching `{schema['pattern']}`"
    return f"{KINDS[schema['type']]} {limits}".rstrip()


def page(text: str) -> str:
    """Write the page for the text of a params.yaml."""
    types = {key: ", ".join(filter(None, (words(schema), wider))) for key, schema, wider in fields(Settings)}
    parts, explained = [INTRODUCTION], ""
    for entry in entries(text):
        section = "." not in entry.key
        parts.append(f"{'##' if section else '###'} `{entry.key}`\n")
        if entry.key in types:
            parts.append(f"{types[entry.key]}; default `{entry.value}`\n")
        if entry.above:
            explained = entry.key
        if said := (*entry.above, *filter(None, [entry.beside])):
            parts.append(meaning(said))
        elif entry.value:
            parts.append(f"See `{explained}`, above.\n")
    return "\n".join(parts)


def meaning(comment: tuple[str, ...]) -> str:
    """A comment as Markdown; one that is set out in columns stays so."""
    if any(re.search(r"^ |^\S+:? {2,}", line) for line in comment):
        return "\n".join(["```text", *comment, "```", ""])
    return "\n".join(line.replace("<", "\\<").replace("*", "\\*") for line in comment) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(PARAMS.read_text("utf-8")), "utf-8")
    print(f"{PAGE} written")
