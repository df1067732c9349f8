"""What something was made with, where the settings say something else now: the cause, and the way back.

others = differing(record["parameters"], settings, "dataset.")
f"the manifest was made with {in_words(others)}; repeat {as_options(others)}"
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.overrides import written
from pipeline.params import in_short

SHOWN = 60  # characters of a value in a sentence


class Other(NamedTuple):
    """A setting that something was made with, and what it is now; an older version may not have had it."""

    key: str
    made: Any
    now: Any
    known: bool = True


def differing(made: Mapping[str, Any], asked: Mapping[str, Any], above: str = "") -> list[Other]:
    """Every setting that differs, by its dotted name."""
    found = []
    for name in {**made, **asked}:
        before, now = made.get(name), asked.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found += differing(before, now, f"{above}{name}.")
        elif before != now:
            found.append(Other(f"{above}{name}", before, now, name in made))
    return found


def in_words(others: Sequence[Other]) -> str:
    """`dataset.seed = 0, now it is 5`; of several, how many, and each."""
    each = [f"{other.key} = {_shown(other.made)}, now it is {_shown(other.now)}" for other in others]
    return each[0] if len(each) == 1 else f"{len(each)} other settings: {'; '.join(each)}"


def way_back(others: Sequence[Other]) -> str:
    """How to have them again, to be pasted: `repeat -S dataset.seed=0, or write it into params.yaml`."""
    if not all(other.known for other in others):
        return ""
    options = " ".join(f"-S {written(other.key, _short(other.made))}" for other in others)
    return f"repeat {options}, or write {'it' if len(others) == 1 else 'them'} into params.yaml"


def or_back(command: str, others: Sequence[Other]) -> str:
    """Both remedies: to make it anew, or to have the settings again that it was made with."""
    back = way_back(others)
    return f"run `{command}` first" + (f", or {back}" if back else "")


def _shown(value: Any) -> str:
    short = _short(value)
    text = short if short is not value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _short(value: Any) -> Any:
    """A grid of many values as it may be written, so many from here to there; all else as it is."""
    numbers = isinstance(value, list | tuple) and all(type(each) in (int, float) for each in value)
    return (numbers and len(value) > 3 and in_short(value)) or value
