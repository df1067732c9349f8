"""Values as they are typed behind `-S key=`, read and written.

    value_of("/photos #2", text_is_meant=True)    # '/photos #2'
    value_of("[0.1, 1]", text_is_meant=False)     # [0.1, 1]
    written("dataset.root", "/photos #2")         # "dataset.root='/photos #2'", for a shell

Where a parameter is text, what was typed is that text: shells have comments and quotes of their own.
`null` is none; quotes around all of it are taken off, in the way of DVC's `-S`, so that what is quoted
means the same in both. All else is one value of YAML, as in params.yaml.
"""

import json
import re
import shlex
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

QUOTED = re.compile(r"""(?P<quote>["'])(?P<text>(?:\\.|(?!(?P=quote)|\\).)*)(?P=quote)""", re.DOTALL)
PLAIN = re.compile(r"[A-Za-z/][\w./:-]*\w", re.ASCII)  # text that every shell, YAML and DVC take as it is


def value_of(typed: str, *, text_is_meant: bool) -> Any:
    """Read what was typed.

    Raises
    ------
    YAMLError
        Where it is not one value; a comment is none, and ends none.
    """
    if text_is_meant:
        if typed.lower() == "null":
            return None
        quoted = QUOTED.fullmatch(typed)
        return _without_escapes(quoted["text"], quoted["quote"]) if quoted else typed
    values = YAML(typ="safe", pure=True).load(f"[{typed}]")  # where a comment would hide the bracket
    if not isinstance(values, list) or len(values) != 1:
        raise YAMLError("not one value")
    return values[0]


def _without_escapes(text: str, quote: str) -> str:
    r"""Take `\"` for a quote; a backslash is doubled before a quote and at the end only, as DVC has it."""
    return re.sub(rf"\\+(?={quote}|$)", lambda found: "\\" * (len(found[0]) // 2), text)


def written(key: str, value: Any) -> str:
    """Write `key=value`, for `-S` and to be pasted into a shell; read again, it is the same value."""
    return shlex.quote(f"{key}={_typed(value)}")


def _typed(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if PLAIN.fullmatch(value) and value.lower() not in ("true", "false", "null"):
        return value
    doubled = re.sub(r"(\\+)(?=\"|$)", r"\1\1", value)
    return '"{}"'.format(doubled.replace('"', r"\""))
