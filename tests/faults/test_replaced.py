"""A folder that replaces another, killed at every point where it touches the disk."""

import itertools
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from features.files import written_aside

# Replaces `target`, and kills itself before the nth thing that it does to the disk
WRITER = """
import os, signal, sys
from pathlib import Path
from features import files

target, scratch, deadly, can_exchange = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if can_exchange == "False":  # as on NFS
    files.exchange = lambda one, other: False
count = -1

def look(event, arguments):
    global count
    if event in ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "ctypes.dlsym"):
        count += 1
        if count == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

with files.written_aside(target, scratch=scratch) as aside:
    aside.mkdir()
    (aside / "a").write_text("new")
    (aside / "b").write_text("new")
    sys.addaudithook(look)
"""


def content(folder: Path) -> set[str]:
    """What is in its two files; nothing where there is no folder."""
    return {(folder / name).read_text() for name in ("a", "b")} if folder.exists() else set()


@pytest.mark.parametrize("can_exchange", [True, False])
def test_the_old_or_the_new_one_stands_there_after_any_kill(tmp_path: Path, can_exchange: bool) -> None:
    seen = []
    for deadly in itertools.count():
        root = tmp_path / str(deadly)
        target, scratch = root / "target", root / "scratch"
        target.mkdir(parents=True)
        for name in ("a", "b"):
            (target / name).write_text("old")
        arguments = [str(target), str(scratch), str(deadly), str(can_exchange)]
        done = subprocess.run([sys.executable, "-c", WRITER, *arguments], check=False, timeout=60)
        assert done.returncode in (0, -signal.SIGKILL)
        if done.returncode and not can_exchange:  # neither may stand there, until the next writer comes
            with pytest.raises(ZeroDivisionError), written_aside(target, scratch=scratch):
                1 / 0  # noqa: B018
        found = content(target)
        assert len(found) == 1, "a mixture, or nothing"
        seen += found
        if done.returncode == 0:
            break
    assert seen[0] == "old"
    assert seen[-1] == "new"
    assert len(seen) >= 4, "it was hardly ever killed"
