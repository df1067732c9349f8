"""Splits: what belongs together is never parted, and additions move nobody."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from features.manifest import SPLITS, Row
from pipeline.datasets.splits import at_most, draw, intervals, place, settle
from pipeline.params import Dataset


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


def test_at_most_keeps_one_of_each_class_first() -> None:
    rows = [row(f"{k}", k, split="train", label="rare" if k == 7 else "often") for k in range(100)]
    for seed in range(20):
        for most in (2, 10):
            kept = at_most(rows, (most, 1, 1), seed)
            assert len(kept) == most
            assert {one.label for one in kept} == {"rare", "often"}
    common = [row(f"{k}", k, split="train", label=str(k % 2)) for k in range(100)]
    plain = sorted(common, key=lambda one: hashlib.sha256(f"at most:3:{one.sha256}".encode()).hexdigest())
    assert {one.path for one in at_most(common, (20, 1, 1), 3)} == {one.path for one in plain[:20]}


def by_threshold(rows: Sequence[Row], seed: int) -> dict[str, str]:
    """Splits as they are drawn, by each image's own name or its group's; for rows without copies."""
    return {one.path: draw(one.group or one.sha256, settings(seed), frozenset()) for one in rows}


def missing(rows: Sequence[Row], where: dict[str, str]) -> list[tuple[str, str]]:
    there = {(one.label, where[one.path]) for one in rows}
    return [(label, split) for label in sorted({one.label for one in rows}) for split in SPLITS
            if (label, split) not in there]  # fmt: skip


@pytest.mark.parametrize(("classes", "each"), [(102, 20), (40, 3), (5, 150)])
def test_every_class_is_in_every_split_and_as_few_images_move_as_were_missing(
    classes: int, each: int
) -> None:
    rows = [row(f"{c:03}/{k:03}", (c, k), label=f"{c:03}") for c in range(classes) for k in range(each)]
    for seed in range(8):
        before, after = by_threshold(rows, seed), placed(rows, seed)
        assert not missing(rows, after)
        moved = [path for path in before if before[path] != after[path]]
        assert len(moved) == len(missing(rows, before))  # none where nothing was missing
        assert placed(rows[::-1], seed) == after
        gaps = Counter(label for label, _ in missing(rows, before))
        for path in moved:
            if gaps[path[:3]] == 1:
                assert path == nearest_to_spare(rows, path[:3], before, after[path], seed)


def nearest_to_spare(rows: Sequence[Row], label: str, before: dict[str, str], split: str, seed: int) -> str:
    """The image of a class that is nearest to a split, of those whose own keeps another of the class."""
    own = [one for one in rows if one.label == label]
    counts = Counter(before[one.path] for one in own)
    low, high = intervals(settings(seed), frozenset())[split]

    def away(one: Row) -> float:
        at = place(one.sha256, seed)
        return max(low - at, at - high)

    return min((one for one in own if counts[before[one.path]] > 1), key=away).path


def test_groups_of_several_classes_are_covered_wherever_that_can_be_had() -> None:
    found = 0
    for seed in range(250):
        rng = np.random.default_rng(seed)
        rows = [
            row(f"{g}/{c}", (seed, g, c), group=f"g{g}", label=f"c{c}")
            for g in range(rng.integers(3, 7)) for c in range(3) if rng.random() < 0.6
        ]  # fmt: skip
        groups = sorted({one.group for one in rows})
        possible = any(
            not missing(rows, {one.path: dict(zip(groups, splits, strict=True))[one.group] for one in rows})
            for splits in product(SPLITS, repeat=len(groups))
        )
        after = placed(rows, seed)
        assert possible == (not missing(rows, after))
        assert len({(one.group, after[one.path]) for one in rows}) == len(groups)
        if not missing(rows, by_threshold(rows, seed)):
            assert after == by_threshold(rows, seed)
        found += possible
    assert 50 < found < 200


def test_given_splits_stay_where_a_class_is_missing() -> None:
    rows = [row(f"a{k}", k, split="train", label="a" if k else "b") for k in range(60)]
    rows += [row(f"t{k}", 100 + k, split="test", label="a") for k in range(5)]
    for seed in range(10):
        after = placed(rows, seed)
        assert all(after[f"t{k}"] == "test" for k in range(5))
        assert after["a0"] in ("train", "validation")  # the only one of its class: it moves nobody


def test_few_move_when_images_are_added() -> None:
    rows = [row(f"{c:02}/{k:02}", (c, k), label=f"{c:02}") for c in range(50) for k in range(10)]
    before = placed(rows)
    after = placed(
        [
            *rows,
            *(row(f"{c:02}/new{k}", ("new", c, k), label=f"{c:02}") for c in range(50) for k in range(20)),
        ]
    )
    moved = {path for path in before if before[path] != after[path]}
    assert moved <= {path for path, split in by_threshold(rows, 0).items() if split != before[path]}


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
