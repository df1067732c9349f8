"""Open a published store: its files compared with what vouches for them, its layout with what is known.

group = opened(Path("artifacts/features/fc7.zarr"))
"""

import difflib
from pathlib import Path

import zarr

from features.errors import BadInput
from features.files import naming, of_machine
from features.publish import COORDINATES, SCHEMA
from features.vouched import Vouched


def opened(path: Path) -> zarr.Group:
    """Open a store for reading; what is read of it later is what is there now (`features.vouched`).

    Raises
    ------
    BadInput
        Where it is absent, unfinished, damaged, or no feature store of this schema.
    """
    if not path.is_dir():
        raise BadInput(f"there is no finished store {path}; run `extract` first{_near(path)}")
    files = Vouched.at(path)
    try:
        with naming(path):
            group = zarr.open_group(files, mode="r", zarr_format=3)
            names = set(group.array_keys())
    except BadInput:
        raise
    except (OSError, ValueError, KeyError) as error:
        if of_machine(error):
            raise
        files.refuse(str(error))
    if group.attrs.get("schema") != SCHEMA or names != {path.stem, *COORDINATES}:
        raise BadInput(f"{path} is not a feature store of schema {SCHEMA}; delete it and run `extract`")
    return group


def _near(path: Path) -> str:
    """Which stores are there, in words, for one that is not; empty where none is."""
    there = sorted(file.stem for file in path.parent.glob("*.zarr"))
    near = difflib.get_close_matches(path.stem, there, n=1, cutoff=0.0)
    return f" (did you mean {near[0]}? there: {', '.join(there)})" if near else ""
