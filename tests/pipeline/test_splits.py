"""Splits: what belongs together is never parted, and additions move nobody."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from features.manifest import SPLITS, Row
from pipeline.params import Dataset
from pipeline.splits import at_most, settle


def settings(seed: int) -> Dataset:
    return Dataset(
        name="csv", root="x", csv="x.csv", download=False, seed=seed,
        validation_fraction=0.2, test_fraction=0.2, at_most=None,
    )  # fmt: skip


def row(path: str, content: object, group: str = "", split: str = "", label: str = "a") -> Row:
    return Row(path, path, label, split, hashlib.sha256(str(content).encode()).hexdigest(), 8, 8, group)


def placed(rows: Sequence[Row], seed: int = 0) -> dict[str, str]:
    given = frozenset(row.split for row in rows) - {""}
    return {row.path: row.split for row in settle(rows, settings(seed), given)[0]}


def scene(rng: np.random.Generator, splits: Sequence[str]) -> list[Row]:
    """60 images of which some are copies, in 12 groups or none, in given splits or none."""
    return [
        row(
            f"{number:02}",
            rng.integers(40),
            group=str(rng.choice(["", "", *(f"g{k}" for k in range(12))])),
            split=str(rng.choice(splits)),
            label=str(rng.choice(["a"] * 30 + ["b"])),
        )
        for number in range(60)
    ]


@pytest.mark.parametrize("splits", [("",), ("train", "test"), SPLITS, ("", "", "", "test"), ("", *SPLITS)])
def test_no_group_and_no_image_ever_straddles_splits(splits: Sequence[str]) -> None:
    for seed in range(150):
        rows = scene(np.random.default_rng(seed), splits)
        given = frozenset(row.split for row in rows) - {""}
        settled, problems = settle(rows, settings(seed), given)
        where = defaultdict(set)
        for one in settled:
            assert one.split in SPLITS
            where[one.sha256].add(one.split)
            if one.group:
                where[one.group].add(one.split)
        assert all(len(found) == 1 for found in where.values())
        # Nothing is lost in silence, and what stays is as it was but for the split
        aside = {problem.path for problem in problems if problem.action == "set aside"}
        before = {one.path: one for one in rows}
        assert {one.path for one in settled} == before.keys() - aside
        assert all(replace(before[one.path], split=one.split) == one for one in settled)
        for one in settled:
            if before[one.path].split in ("validation", "test"):
                assert one.split == before[one.path].split


def test_at_most_so_many_of_each_split_a_smaller_number_being_a_part_of_a_larger() -> None:
    rows = [row(f"{split}{k}", f"{split}{k}", split=split) for split in SPLITS for k in range(50)]
    few, more = ({one.path for one in at_most(rows, most, 3)} for most in ((5, 2, 9), (20, 60, 9)))
    assert few < more
    assert [sum(path.startswith(split) for path in few) for split in SPLITS] == [5, 2, 9]
    assert [sum(path.startswith(split) for path in more) for split in SPLITS] == [20, 50, 9]
    assert {one.path for one in at_most(rows[::-1], (5, 2, 9), 3)} == few
    assert {one.path for one in at_most(rows, (5, 2, 9), 4)} != few


def test_order_does_not_matter() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        rows = scene(rng, ("", "train", "test"))
        assert placed([rows[k] for k in rng.permutation(len(rows))]) == placed(rows)


def test_additions_move_nobody() -> None:
    rng = np.random.default_rng(0)
    rows = [row(f"{k:03}", k, group=str(rng.choice(["", *"abcdefgh"]))) for k in range(100)]
    before = placed(rows)
    new = [row(f"new{k:03}", rng.integers(300)) for k in range(200)]  # half of them copies
    grown = [row(f"old{k:03}", f"another {k}", group=str(rng.choice([*"abcdefghijk"]))) for k in range(50)]
    after = placed([*new, *rows, *grown])
    assert {path: after[path] for path in before} == before


def test_a_group_is_drawn_by_its_name_and_shares_hold() -> None:
    rows = [row(f"{g}/{k}", (g, k), group=f"patient {g}") for g in range(2000) for k in range(2)]
    drawn = [*placed(rows).values()]
    assert abs(drawn.count("test") / 4000 - 0.2) < 4 * (0.2 * 0.8 / 2000) ** 0.5
    digest = hashlib.sha256(b"0:patient 7").digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    split = "test" if place < 0.2 else "validation" if place < 0.4 else "train"
    assert placed(rows)["7/0"] == split


def test_a_copy_in_two_groups_joins_them_under_the_smallest_name() -> None:
    chain = [row(f"{k}{end}", (k, end), group=f"g{k + int(end)}") for k in range(8) for end in "01"]
    chain = [replace(one, sha256=chain[2 * (k // 2)].sha256) for k, one in enumerate(chain)]
    assert {one.group for one in chain} == {f"g{k}" for k in range(9)}
    for seed in range(60):
        alone = placed([row("x", "x", group="g0")], seed)["x"]
        assert set(placed(chain, seed).values()) == {alone}


def test_a_group_in_several_given_splits_stays_in_the_strongest() -> None:
    rows = [
        row("1", 1, "g", "train"),
        row("2", 2, "g", "test"),
        row("3", 3, "g"),
        row("4", 4, "g", "validation"),
        row("5", 2, "", "train"),
        row("6", 2, "h", "train"),
        row("7", 7, "h", "train"),
        row("8", 8, "i", "train"),
    ]
    settled, problems = settle(rows, settings(0), frozenset(SPLITS))
    assert {one.path: one.split for one in settled} == {"2": "test", "3": "test", "8": "train"}
    said = {problem.path: problem.problem for problem in problems}
    assert {problem.action for problem in problems} == {"set aside"}
    assert said == {
        "1": "of one group with 2, which is in test",
        "4": "of one group with 2, which is in test",
        "5": "the same image as 2",
        "6": "the same image as 2",
        "7": "of one group with 2, which is in test",
    }
