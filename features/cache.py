"""The activation cache: immutable, content-addressed blocks, shared by all projects of a user.

    <root>/activations/<fingerprint>/<sha256 of the block's keys>/{rows.npy, keys, block.json}

A block holds one layer's activations for some images. It is written aside,
synced and appears by one atomic rename; two writers of the same block write the
same thing, so there is no lock. Every read checks the block's digest; a damaged
block is set aside and its images are computed again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.files import remove, sha256_file, written_aside

KEY = 32  # bytes of an image's sha256


def fingerprint(facts: Mapping[str, Any]) -> str:
    """Hexadecimal sha256 of everything an activation depends on besides the image."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Place:
    """Where an image's activation stands: a block's folder and a row in it."""

    block: Path
    row: int


class Blocks:
    """The blocks of one fingerprint."""

    def __init__(self, root: Path, facts: Mapping[str, Any]) -> None:
        self.facts = dict(facts)
        self.fingerprint = fingerprint(facts)
        self.folder = root / "activations" / self.fingerprint
        self._sound: set[Path] = set()  # blocks whose digests this process has checked

    def index(self) -> dict[bytes, Place]:
        """Find every image that has an activation here: digest of the image → place."""
        places: dict[bytes, Place] = {}
        for keys_file in sorted(self.folder.glob("*/keys")):
            if keys_file.parent.name.startswith("."):
                continue
            keys = keys_file.read_bytes()
            for row, start in enumerate(range(0, len(keys), KEY)):
                places[keys[start : start + KEY]] = Place(keys_file.parent, row)
        return places

    def write(self, keys: Sequence[bytes], rows: NDArray[Any], words: Mapping[str, Any]) -> None:
        """Publish a block.

        Parameters
        ----------
        keys : sequence of 32-byte image digests, one per row
        rows : (n, width) array in the store's dtype
        words : `seconds` the block took, and provenance for people: device, versions
        """
        joined = b"".join(keys)
        block = self.folder / hashlib.sha256(joined).hexdigest()
        if block.exists():
            return
        with written_aside(block) as aside:
            aside.mkdir()
            np.save(aside / "rows.npy", rows)
            (aside / "keys").write_bytes(joined)
            digest = sha256_file(aside / "rows.npy")
            content = {"rows_sha256": digest, "n": len(keys), "facts": self.facts, **words}
            (aside / "block.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")

    def check(self, block: Path) -> bool:
        """Compare a block with its digests; set a damaged one aside and return False."""
        if block in self._sound:
            return True
        try:
            content = json.loads((block / "block.json").read_text("utf-8"))
            sound = (
                sha256_file(block / "rows.npy") == content["rows_sha256"]
                and hashlib.sha256((block / "keys").read_bytes()).hexdigest() == block.name
            )
        except (OSError, ValueError, KeyError):
            sound = False
        if not sound:
            print(f"cache: block {block.name[:12]} is damaged; its images will be computed again", flush=True)
            aside = block.with_name(f".{block.name}.damaged")
            remove(aside)
            block.rename(aside)
            return False
        self._sound.add(block)
        return True

    def sound_index(self, wanted: set[bytes]) -> dict[bytes, Place]:
        """The index of `wanted` images, after checking every block that holds one."""
        places = {key: place for key, place in self.index().items() if key in wanted}
        sound = {block: self.check(block) for block in {place.block for place in places.values()}}
        return {key: place for key, place in places.items() if sound[place.block]}


def block_seconds(block: Path) -> float:
    """Wall time that a block's images took to decode and run, in seconds."""
    return float(json.loads((block / "block.json").read_text("utf-8"))["seconds"])


def gather(places: Sequence[Place], width: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Read rows from their blocks, in the order given: (n, width) of `dtype`."""
    rows = np.empty((len(places), width), dtype)
    by_block: dict[Path, list[int]] = {}
    for position, place in enumerate(places):
        by_block.setdefault(place.block, []).append(position)
    for block, positions in by_block.items():
        content = np.load(block / "rows.npy", mmap_mode="r")
        rows[positions] = content[[places[position].row for position in positions]]
    return rows
