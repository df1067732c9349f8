"""The sentences on top: what they say in each case, and that the numbers in them are right."""

from dataclasses import replace

import pytest

from pipeline.lines import Line
from pipeline.price import Price, break_even
from pipeline.statistics import images_needed
from pipeline.verdict import verdict
from tests.conftest import make_line


def price(per_trial: float, trials: int | None = None) -> Price:
    return Price(device="cpu", device_seconds=1.0, peak_memory=1, joules=None, gpu_memory=None,
                 gpu_joules=None, seconds_per_trial=per_trial, break_even=trials)  # fmt: skip


BASELINE = make_line("finetune.full", validation_top1=0.97, top1=0.97, low=0.95, high=0.98, seconds=600.0,
                     price=price(200.0))  # fmt: skip


def head(**known: object) -> Line:
    given = {"validation_top1": 0.95, "top1": 0.95, "low": 0.92, "high": 0.97, "seconds": 3.0,
             "extraction_seconds": 60.0, "difference": -0.02, "difference_low": -0.04,
             "difference_high": 0.001, "p_value": 0.09, "better": 4, "worse": 12,
             "price": price(0.07, 1)}  # fmt: skip
    return make_line("pool5.logreg", **(given | known))


def test_not_distinguishable_says_how_many_images_it_takes() -> None:
    said = verdict([head(), BASELINE], 400)[0]
    assert "pool5.logreg, test top-1 95.0 % [92.0, 97.0]" in said
    assert "2.0 points below finetune.full (test top-1 97.0 % [95.0, 98.0]), [-4.0, +0.1]" in said
    assert "not distinguishable on 400 test images (p = 0.090)" in said
    # Connor's formula by hand: (1.960 · √0.04 + 0.842 · √(0.04 − 0.02²))² / 0.02² = 782.5
    assert images_needed(4, 12, 400, alpha=0.05) == 783
    assert "about 790 would be needed" in said


def test_equally_often_right_promises_no_number_of_images() -> None:
    said = verdict([head(difference=0.0, better=5, worse=5, p_value=1.0), BASELINE], 400)[0]
    assert "the two are right equally often" in said
    assert "would be needed" not in said


def test_a_baseline_that_kept_its_start_says_so() -> None:
    gained_nothing = "No epoch of finetune.full was better on validation rows than its start"
    assert gained_nothing in " ".join(verdict([head(), replace(BASELINE, epoch=0)], 400))
    assert gained_nothing not in " ".join(verdict([head(), replace(BASELINE, epoch=1)], 400))


@pytest.mark.parametrize(("difference", "way"), [(-0.1, "10.0 points below"), (0.1, "10.0 points above")])
def test_a_difference_is_called_one(difference: float, way: str) -> None:
    said = verdict([head(difference=difference, p_value=0.0001), BASELINE], 400)[0]
    assert f"It is {way} finetune.full" in said
    assert "a difference on 400 test images (p < 0.001)" in said


def test_more_comparisons_need_more_images() -> None:
    others = [
        make_line(f"fc7.{name}", validation_top1=0.5, p_value=0.5, difference=-0.1) for name in "abcdefgh"
    ]
    alone, among = verdict([head(), BASELINE], 400)[0], verdict([head(), *others, BASELINE], 400)[0]
    assert "corrected for 9 comparisons" in among
    needed = [int(said.split("about ")[1].split(" would")[0].replace(",", "")) for said in (alone, among)]
    assert needed[1] > needed[0]


def test_the_price_stands_beside_it() -> None:
    said = verdict([head(), BASELINE], 400)[1]
    assert "tuning took 0:03 after an extraction of 1:00; finetune.full took 10:00, 9.5 times as long" in said
    assert (
        "One more trial: 0.07 s against 200 s: extraction has paid for itself after the first trial" in said
    )
    never = verdict([head(price=price(300.0)), BASELINE], 400)[1]
    assert "extraction never pays for itself" in never


def test_chance_of_the_start_is_said_apart() -> None:
    spread = make_line("finetune.full", validation_top1=0.97, top1=0.97, seed_top1=[0.97, 0.95, 0.96],
                       price=price(200.0))  # fmt: skip
    said = " ".join(verdict([head(), spread], 400))
    assert (
        "Over 3 random starts the baseline finetune.full reaches 96.0 % on average and varies by 1.0 points"
        in said
    )


def test_without_a_baseline_nothing_is_compared() -> None:
    said = verdict([head(difference=None, p_value=None)], 400)
    assert "Best head on frozen features" in said[0]
    assert "No fine-tuned baseline was run" in said[1]


def test_untrained_weights_and_a_better_control_are_named() -> None:
    control = make_line("pixels.knn", weights="none", validation_top1=0.99, top1=0.985)
    said = " ".join(verdict([head(weights="untrained"), BASELINE, control], 400))
    assert "pool5.logreg is computed with untrained weights" in said
    assert "The control without a network, pixels.knn, reaches 98.5 %" in said


def test_break_even_by_hand() -> None:
    # 60 s of extraction; 0.5 s a trial against 20: after 3 trials 61.5 against 60, after 4 62 against 80
    assert break_even(60.0, 0.5, 20.0) == 4
    assert break_even(1.0, 0.5, 20.0) == 1
    assert break_even(0.0, 0.5, 20.0) is None  # nothing was extracted
    assert break_even(60.0, 21.0, 20.0) is None  # never
