"""The files of a published store, read only while they are those that were there when it was opened.

    group = zarr.open_group(Vouched.at(path), mode="r")

Another process may publish anew at any time: one rename replaces the folder, and zarr would go on by
path, in another store. So each file is looked at again after it was read: unchanged since the opening
(its inode, size and time of change), or else of the digest that it had then. Everything that
reads through zarr is held by this, lazy dask arrays and pickled copies as well.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from features import digests
from features.digests import Recorded
from features.errors import BadInput

REMEDY = "run `python cli.py extract`, which makes that part again, or `python cli.py verify`"

State = tuple[int, ...]  # of a file: what changes when it is replaced or written to


def state(file: Path) -> State:
    """What changes when a file is replaced, or written to; empty where there is none."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _damage(file: Path, recorded: Recorded, *, content: bool) -> str:
    try:
        return digests.damage(file, recorded, content=content)
    except FileNotFoundError:  # it went between two looks at it
        return "is missing"


class Vouched(LocalStore):
    """A store's folder, for reading.

    Attributes
    ----------
    recorded : mapping of str to Recorded
        Every file's size and digest, by its name below the store.
    seen : dict of str to State
        The files that are known to be these.
    """

    def __init__(self, root: Path, recorded: Mapping[str, Recorded], seen: Mapping[str, State]) -> None:
        super().__init__(root, read_only=True)
        self.recorded, self.seen = dict(recorded), dict(seen)

    @classmethod
    def at(cls, path: Path) -> "Vouched":
        """Open a store after its files' sizes, and the small files' digests, were compared.

        Raises
        ------
        BadInput
            Where it is absent, unfinished or damaged.
        """
        vouching = digests.digest_file(path)
        before = state(vouching)
        recorded, seen = digests.read(path), {}
        for name, record in recorded.items():
            seen[name] = state(path / name)
            shard = name.startswith(f"{path.stem}/c/")
            damage = _damage(path / name, record, content=not shard)
            if damage and state(vouching) == before:
                raise BadInput(f"{path} is damaged: {name} {damage}; {REMEDY}")
        if state(vouching) != before:  # what vouches goes first, before a store is replaced
            raise BadInput(f"{path} was made anew while it was opened; open it again")
        return cls(path, recorded, seen)

    def vouch(self, name: str) -> None:
        """Say that a file which was just read is the one that was recorded; BadInput where it is not."""
        if name not in self.recorded:
            return
        now = state(self.root / name)
        if now == self.seen[name]:
            return
        if damage := _damage(self.root / name, self.recorded[name], content=True):
            self.refuse(f"{name} {damage}")
        self.seen[name] = now

    def refuse(self, damage: str) -> NoReturn:
        """Raise BadInput: made anew since it was opened, or else damaged in the way that is given."""
        try:
            now = digests.read(self.root)
        except BadInput:  # or in the midst of being replaced
            raise BadInput(
                f"{self.root} was moved, removed or made anew since it was opened; open it again where it is"
            ) from None
        if now != self.recorded:
            raise BadInput(f"{self.root} was made anew since it was opened; open it again")
        raise BadInput(f"{self.root} is damaged: {damage}; {REMEDY}")

    def with_read_only(self, read_only: bool = False) -> "Vouched":
        """Return itself: it is read only, and nothing else."""
        return self

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a file, or a part of it; None where there is none of that name, nor was."""
        found = await super().get(key, prototype, byte_range)
        self.vouch(key)
        return found

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """See `get`."""
        found = super().get_sync(key, prototype=prototype, byte_range=byte_range)
        self.vouch(key)
        return found

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """See `get`."""
        asked = list(key_ranges)
        found = await super().get_partial_values(prototype, asked)
        for key, _ in asked:
            self.vouch(key)
        return found
