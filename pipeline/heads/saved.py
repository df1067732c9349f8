"""The files of a trained head: a sealed card, and arrays; nothing in them is ever executed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray
from safetensors import SafetensorError

from features.errors import BadInput, Damaged
from features.files import load_tensors, of_machine
from features.immutable import check_file, read_card

SCHEMA = 1  # of the card
CARD, ARRAYS = "card.json", "head.safetensors"


class Saved(NamedTuple):
    """What lies in a head's folder: its card, its arrays, and those of its normalisation."""

    card: dict[str, Any]
    head: dict[str, NDArray[Any]]
    normalisation: dict[str, NDArray[Any]]


def read_saved(folder: Path) -> Saved:
    """Read a head's files; BadInput where they are of another schema, or not what was written."""
    with as_saved_head(folder):
        card = read_card(folder, CARD)
        if card["schema"] != SCHEMA:
            raise BadInput(
                f"{folder} has schema {card['schema']}, this version reads {SCHEMA}; train it again"
            )
        check_file(folder, card, ARRAYS)
        parts: dict[str, dict[str, NDArray[Any]]] = {"head": {}, "normalisation": {}}
        for key, value in load_tensors(folder / ARRAYS).items():
            part, _, name = key.partition(".")
            parts[part][name] = value
    return Saved(card, **parts)


@contextlib.contextmanager
def as_saved_head(folder: Path) -> Iterator[None]:
    """Turn what goes wrong with a head's files into BadInput; what the machine refuses stays what it is."""
    try:
        yield
    except (OSError, KeyError, TypeError, Damaged, SafetensorError) as error:
        if of_machine(error):
            raise
        raise BadInput(f"{folder} holds no saved head ({error}); train it again") from error
