"""The activation cache: immutable, content-addressed blocks, shared by all projects of a user.

    <root>/activations/<fingerprint>/<sha256 of the block's keys>/{rows.npy, keys, block.json}
    <root>/runs/<fingerprint>/              finished fine-tuning runs, sealed folders of any content
    <root>/checkpoints/<fingerprint>/       those under way

A block holds one layer's activations for some images. It is written aside,
synced and appears by one atomic rename; two writers of the same block write the
same thing, so there is no lock. Every read checks the block's digests; a damaged
block is taken away and its images are computed again.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features import immutable
from features.errors import BadInput, Damaged
from features.files import naming, read_bytes, read_text
from features.immutable import is_digest, reading, unseal

KEY = 32  # bytes of an image's sha256
BLOCK_CARD, RUN_CARD = "block.json", "card.json"
Keys = NDArray[np.uint8]  # (n, 32): images' sha256
THREADS = 4  # that hash: one core does 0.5 to 2 GB/s, a disk or the page cache more


def fingerprint(facts: Mapping[str, Any]) -> str:
    """Hexadecimal sha256 of everything an activation depends on besides the image."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def activations(root: Path) -> Path:
    """Return the folder of all blocks, one folder per fingerprint in it."""
    return root / "activations"


def runs(root: Path) -> Path:
    """Return the folder of finished fine-tuning runs, one folder per fingerprint in it."""
    return root / "runs"


def checkpoints(root: Path) -> Path:
    """Return the folder of fine-tuning runs under way, one folder per fingerprint in it."""
    return root / "checkpoints"


def digests_in(folder: Path) -> list[Path]:
    """List the folders in `folder` that are named as ours are, sorted; none where it is not there."""
    try:
        return sorted(path for path in folder.iterdir() if is_digest(path.name) and path.is_dir())
    except FileNotFoundError:
        return []


@dataclass(frozen=True)
class Places:
    """Where images' activations stand; indexing gives those of some.

    Attributes
    ----------
    blocks : list of Path
        Folders of sound blocks.
    block : (n,) int32
        Per image, a position in `blocks`; -1 where none of them holds it.
    row : (n,) int32
        Per image, the row in its block.
    """

    blocks: list[Path]
    block: NDArray[np.int32]
    row: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.block)

    def __getitem__(self, images: slice | NDArray[np.intp]) -> "Places":
        return Places(self.blocks, self.block[images], self.row[images])

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Which images no sound block holds, (n,)."""
        return self.block < 0

    @property
    def used(self) -> list[Path]:
        """Blocks that serve at least one of the images."""
        return [self.blocks[number] for number in np.unique(self.block[~self.missing])]


class Blocks:
    """The blocks of one fingerprint.

    Attributes
    ----------
    facts : dict
        Everything the activations depend on besides the image.
    fingerprint : str
        The facts' hexadecimal sha256.
    folder : Path
        Where the blocks are; it need not exist.
    """

    def __init__(self, root: Path, facts: Mapping[str, Any]) -> None:
        self.root = root
        self.facts = dict(facts)
        self.fingerprint = fingerprint(facts)
        self.folder = activations(root) / self.fingerprint
        self._sound: set[Path] = set()  # blocks whose digests this process has checked

    def holding(self, keys: Keys) -> dict[Path, Keys]:
        """Every block with one of these images, and its keys; none for those that are damaged.

        Damaged keys might hide a wanted image: such a block must not stay in the way.
        """
        asked, holding = np.unique(_words(keys)), {}
        for block in digests_in(self.folder):
            present = read_keys(block)
            if present is None or len(_common(asked, present)[0]):
                holding[block] = np.empty((0, KEY), np.uint8) if present is None else present
        return holding

    def find(self, keys: Keys) -> Places:
        """Where each image stands, after checking every block that holds one.

        An image of a damaged block is served by another block that holds it, too.
        """
        asked, which = np.unique(_words(keys), return_inverse=True)
        holding = self.holding(keys)
        sound = self._check(list(holding))
        blocks = [block for block in holding if block in sound]
        block, row = np.full((2, len(asked)), -1, np.int32)
        for number, path in enumerate(blocks):
            at, rows = _common(asked, holding[path])
            block[at], row[at] = number, rows
        return Places(blocks, block[which], row[which])

    def check(self, block: Path) -> bool:
        """Compare a block with its digests; take a damaged one away and return False."""
        return bool(self._check([block]))

    def _check(self, blocks: Sequence[Path]) -> set[Path]:
        """Those of the blocks that are sound; hashing bounds how fast a layer is published."""
        unknown = [block for block in blocks if block not in self._sound]
        with ThreadPoolExecutor(THREADS) as pool:
            for block, wrong in zip(unknown, pool.map(flaw, unknown), strict=True):
                if not wrong:
                    self._sound.add(block)
                elif block.exists():  # not pruned in the meantime
                    print(
                        f"cache: block {block.name[:12]} is damaged; its images will be computed again "
                        f"({wrong})",
                        flush=True,
                    )
                    with contextlib.suppress(OSError):  # a read-only cache keeps it; it is not served
                        immutable.discard(self.root, block, flaw)
        return self._sound.intersection(blocks)

    def write(self, keys: Keys, rows: NDArray[Any], words: Mapping[str, Any]) -> None:
        """Publish a block; nothing happens where a sound one of the same images is there.

        Parameters
        ----------
        keys : (n, 32) uint8, the images' sha256
        rows : (n, width) array in the store's dtype
        words : `seconds` the block took, and provenance for people: weights, device, versions

        Raises
        ------
        ValueError
            Where keys and rows do not belong together.
        """
        if rows.ndim != 2 or not len(rows) or keys.shape != (len(rows), KEY):
            raise ValueError(f"keys of shape {keys.shape} do not belong to rows of shape {rows.shape}")
        joined = keys.tobytes()
        block = self.folder / hashlib.sha256(joined).hexdigest()
        if block.exists() and self.check(block):
            return
        with immutable.appearing(self.root, block) as aside:
            _save(aside / "rows.npy", rows)
            (aside / "keys").write_bytes(joined)
            immutable.seal(aside, BLOCK_CARD, {"n": len(keys), "facts": self.facts, **words})

    def touch(self) -> None:
        """Note that these activations are used now, so that `cache prune` drops others first."""
        immutable.touch(self.folder)


def _save(path: Path, rows: NDArray[Any]) -> None:
    """Write as `np.save` does, whose own writing says of a full disk only that too little was written."""
    with naming(path), path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(rows))
        file.write(np.ascontiguousarray(rows).data)


def _words(keys: Keys) -> NDArray[np.bytes_]:
    """One value per key, (n,): what can be sorted and compared."""
    return np.ascontiguousarray(keys).view(f"S{KEY}").ravel()


def _common(asked: NDArray[np.bytes_], keys: Keys) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find `keys` in the sorted `asked`: positions there, and positions in `keys`."""
    words = _words(keys)
    at = np.searchsorted(asked, words)
    rows = np.flatnonzero(np.take(asked, at, mode="clip") == words) if len(asked) else np.empty(0, np.intp)
    return at[rows], rows


def read_keys(block: Path) -> Keys | None:
    """Read the digests of a block's images, (n, 32); None where they are missing or damaged."""
    try:
        with reading("keys"):
            joined = read_bytes(block / "keys")
    except Damaged:
        return None
    if hashlib.sha256(joined).hexdigest() != block.name or len(joined) % KEY:
        return None
    return np.frombuffer(joined, np.uint8).reshape(-1, KEY)


def flaw(block: Path) -> str:
    """Say what is wrong with a block; empty where every bit is as it was written.

    Raises OSError where the machine refuses to read, which says nothing of the block.
    """
    try:
        content = unseal(block, BLOCK_CARD)
    except Damaged as error:
        return str(error)
    keys = read_keys(block)
    if keys is None:
        return "keys does not match the block's name"
    if fingerprint(content["facts"]) != block.parent.name:
        return f"{BLOCK_CARD} does not match the fingerprint"
    if content["n"] != len(keys):
        return f"{content['n']} images and {len(keys)} keys"
    return ""


def run_flaw(run: Path) -> str:
    """Say what is wrong with a finished fine-tuning run; raises as `flaw` does."""
    try:
        content = unseal(run, RUN_CARD)
    except Damaged as error:
        return str(error)
    if fingerprint(content["inputs"]) != run.name:
        return f"{RUN_CARD} does not match the fingerprint"
    return ""


def block_seconds(block: Path) -> float:
    """Wall time that a block's images took to decode and run, in seconds; BadInput where it is gone."""
    with _there(block):
        return float(json.loads(read_text(block / BLOCK_CARD))["seconds"])


def open_rows(block: Path) -> NDArray[Any]:
    """Map a block's rows into memory, (n, width) in the store's dtype; BadInput where it is gone."""
    with _there(block):
        file = block / "rows.npy"
        with naming(file):
            rows: NDArray[Any] = np.load(file, mmap_mode="r")
        return rows


@contextlib.contextmanager
def _there(block: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise BadInput(f"the cache was pruned while it was read ({block}); run `extract` again") from None


def gather(
    places: Places,
    width: int,
    dtype: np.dtype[Any],
    opened: Callable[[Path], NDArray[Any]] = open_rows,
) -> NDArray[Any]:
    """Read rows from their blocks, in the order given: (n, width) of `dtype`, perhaps a read-only view.

    `opened` may remember blocks between calls.
    """
    runs = np.split(np.arange(len(places)), np.flatnonzero(np.diff(places.block)) + 1)
    # Neighbours in a block are not copied, as they mostly are where all was extracted at once
    parts = [opened(places.blocks[places.block[run[0]]])[_slice(places.row[run])] for run in runs if len(run)]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty((0, width), dtype), *parts])


def _slice(rows: NDArray[np.int32]) -> slice | NDArray[np.int32]:
    return slice(rows[0], rows[-1] + 1) if (np.diff(rows) == 1).all() else rows
