"""`cache info`, `prune` and `verify` as a user runs them."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from features.cache import Blocks
from features.errors import BadInput
from features.immutable import ASIDE
from pipeline.finetuning.finetune import finetune
from pipeline.project import Project
from pipeline.stores.cache import info, parse_size, prune, used_by, verify
from pipeline.stores.extract import extract
from tests.conftest import Cli, refusal

Output = pytest.CaptureFixture[str]
DAY = 86_400


def facts(layer: str) -> dict[str, object]:
    return {
        "layer": layer,
        "tensors": "ab" * 32,
        "preprocessing": {"size": [224, 224]},
        "view": "none",
        "dtype": "float16",
        "numerics": "winograd-fp32/1",
    }


def kept(root: Path, layer: str, days: float, words: dict[str, object] | None = None) -> Blocks:
    """A fingerprint of two blocks and five images, about 2 MB, last used `days` ago."""
    blocks = Blocks(root, facts(layer))
    for numbers in ((0, 1, 2), (2, 3, 4)):
        rows = np.zeros((3, 170_000), np.float16)
        keys = np.repeat(np.array(numbers, np.uint8)[:, None], 32, axis=1)
        blocks.write(keys, rows, {"seconds": 1.0, **(words or {})})
    then = time.time() - days * DAY
    os.utime(blocks.folder, (then, then))
    return blocks


@pytest.fixture
def opened(project: Path) -> Project:
    return Project.open(project)


@pytest.fixture
def three(cache: Path) -> list[Blocks]:
    """The older the less deep."""
    layers = {"pool5": 40.0, "fc6": 20.0, "fc7": 0.0}
    return [kept(cache, layer, days) for layer, days in layers.items()]


def left(three: list[Blocks]) -> list[str]:
    return [str(blocks.facts["layer"]) for blocks in three if blocks.folder.exists()]


def pruned(
    project: Project, older_than: int | None = None, max_size: str | None = None, unused: bool = False
) -> None:
    prune(project, older_than=older_than, max_size=max_size, only_unused=unused, delete=True)


def test_info_of_an_empty_cache(opened: Project, cache: Path, capsys: Output) -> None:
    info(opened)
    assert str(cache) in capsys.readouterr().out
    assert verify(opened, mend=False)
    assert not cache.exists()


def test_info_says_what_is_there_in_words(opened: Project, cache: Path, capsys: Output) -> None:
    kept(cache, "fc7", 0, {"weights": "from [wheel]", "device": "cpu"})
    kept(cache, "conv5_3:pre:avg", 12.5)
    (cache / "weights").mkdir()
    (cache / "weights" / "some.whl").write_bytes(bytes(3_000_000))
    info(opened)
    shown = capsys.readouterr().out
    (wheel,) = (line for line in shown.splitlines() if "from [wheel]" in line)
    said = ("fc7", "224 × 224", "float16", "winograd-fp32/1", " 5 ", " 2 ", "2.0 MB", "today")
    assert [text for text in said if text not in wheel] == []
    (other,) = (line for line in shown.splitlines() if "conv5_3:pre:avg" in line)
    assert "tensors abababab" in other
    assert "12 days ago" in other
    assert shown.index("fc7") < shown.index("conv5_3")  # last used first
    assert "activations 4.1 MB" in shown
    assert "downloaded weights 3.0 MB" in shown
    assert max(map(len, shown.splitlines()[:-1])) <= 120


def test_prune_needs_a_criterion_and_a_size_it_can_read(project: Path, cli: Cli) -> None:
    assert "--older-than DAYS" in refusal(cli("cache", "prune", "--project", project, code=2))
    done = cli("cache", "prune", "--max-size", "20 potatoes", "--project", project, code=2)
    assert "'20 potatoes'; give a number and one of kB, MB, GB, TB, such as 20GB" in refusal(done)
    cli("cache", "prune", "--older-than", "soon", "--project", project, code=2)


def test_sizes_are_read_strictly() -> None:
    for text, size in (("20GB", 20e9), ("500MB", 5e8), ("1.5 tb", 1.5e12), ("0kB", 0)):
        assert parse_size(text) == size
    for text in ("20", "GB", "-1GB", "1e3GB", "20GBs", "20Gb/s", "", "nan GB", "1 GiB", "٣GB", "1.GB"):
        with pytest.raises(BadInput, match="--max-size is "):
            parse_size(text)


def test_dry_run_lists_and_deletes_nothing(project: Path, three: list[Blocks], cli: Cli) -> None:
    done = cli("cache", "prune", "--older-than", "30", "--project", project)
    assert "pool5, 224 × 224, float16, winograd-fp32/1" in done.stdout
    assert "fc6" not in done.stdout
    assert "would delete 1 of 3 entries, 2.0 MB of 6.1 MB" in done.stdout
    assert "nothing was deleted: add --yes" in done.stdout
    assert left(three) == ["pool5", "fc6", "fc7"]
    done = cli("cache", "prune", "--older-than", "30", "--yes", "--project", project)
    assert "deleted 1 of 3 entries" in done.stdout
    assert left(three) == ["fc6", "fc7"]


def test_prune_by_age_and_by_size(opened: Project, three: list[Blocks], cache: Path) -> None:
    pruned(opened, older_than=41)
    pruned(opened, max_size="6.2MB")
    assert left(three) == ["pool5", "fc6", "fc7"]
    pruned(opened, max_size="5MB")
    assert left(three) == ["fc6", "fc7"]  # the least recently used goes first
    three[1].touch()
    os.utime(three[2].folder, (1e9, 1e9))
    pruned(opened, max_size="3MB")
    assert left(three) == ["fc6"]
    pruned(opened, older_than=1, max_size="0kB")
    assert left(three) == []
    assert list((cache / ASIDE).iterdir()) == []
    assert list((cache / "activations").iterdir()) == []


def test_prune_deletes_what_killed_processes_left_but_not_what_is_being_written(
    opened: Project, cache: Path, capsys: Output
) -> None:
    kept(cache, "fc7", 0)
    (cache / "weights").mkdir()
    for path in (cache / ASIDE / "old", cache / ASIDE / "new", cache / "weights" / ".x.whl.1.partial"):
        path.mkdir()
        (path / "rows.npy").write_bytes(bytes(1000))
        if path.name != "new":
            os.utime(path, (1e9, 1e9))
    pruned(opened, older_than=400)
    assert "2.0 kB left by killed processes" in capsys.readouterr().out
    assert [path.name for path in (cache / ASIDE).iterdir()] == ["new"]
    assert list((cache / "weights").iterdir()) == []


def test_what_this_project_published_is_not_unused(prepared: Project, cache: Path, capsys: Output) -> None:
    extract(prepared, prepared.layers)
    finetune(prepared, ("full",))
    mine = used_by(prepared)
    assert len(mine) == len(prepared.layers) + 1
    foreign = [kept(cache, "fc6", 40), kept(cache, "fc7", 0)]
    prune(prepared, older_than=None, max_size=None, only_unused=True, delete=False)
    assert left(foreign) == ["fc6", "fc7"]
    shown = capsys.readouterr().out
    assert "warning: the cache is shared. This project has published 4 of its 6 entries" in shown
    assert "would delete 2 of 6 entries" in shown
    pruned(prepared, max_size="0kB", older_than=30, unused=True)  # spares this project's, whatever the size
    assert left(foreign) == []
    assert {path.name for name in ("activations", "runs") for path in (cache / name).iterdir()} == mine
    info(prepared)
    shown = capsys.readouterr().out
    assert "finetune.full" in shown
    assert "random" in shown
    # Without its stores nothing is known to be in use; a store that cannot be read stops the prune
    (next(prepared.features.glob("*.zarr")) / "zarr.json").write_text('{"attributes"')
    with pytest.raises(BadInput, match=r"zarr\.json is damaged"):
        pruned(prepared, unused=True)
    assert {path.name for name in ("activations", "runs") for path in (cache / name).iterdir()} == mine


def test_a_store_of_several_fingerprints_uses_all(opened: Project, three: list[Blocks]) -> None:
    store = opened.features / "fc7.zarr"
    store.mkdir(parents=True)
    names = [blocks.fingerprint for blocks in three]
    attributes = {"fingerprint": names[2], "fingerprints": [names[2], names[0]]}
    (store / "zarr.json").write_text(json.dumps({"attributes": attributes}))
    pruned(opened, unused=True)
    assert left(three) == ["pool5", "fc7"]


def test_verify_names_what_is_damaged_and_repair_removes_it(
    project: Path, three: list[Blocks], cache: Path, cli: Cli
) -> None:
    done = cli("cache", "verify", "--project", project)
    assert f"6 blocks and 0 runs are whole, in {cache}" in done.stdout
    victim = next(three[1].folder.iterdir())
    data = bytearray((victim / "rows.npy").read_bytes())
    data[-7] ^= 1
    (victim / "rows.npy").write_bytes(data)
    run = cache / "runs" / ("0" * 64)
    run.mkdir(parents=True)
    done = cli("cache", "verify", "--project", project, code=1)
    block = f"block {victim.name[:12]} of fc6, 224 × 224, float16, winograd-fp32/1"
    assert f"{block}: rows.npy does not match its digest" in done.stdout
    assert "run 000000000000 of an unknown kind: card.json is missing" in done.stdout
    assert "2 damaged" in done.stdout
    assert "`python cli.py cache verify --repair` removes them" in done.stdout
    assert victim.exists()
    assert "2 removed" in cli("cache", "verify", "--repair", "--project", project).stdout
    assert not victim.exists()
    assert not run.exists()
    cli("cache", "verify", "--project", project)
