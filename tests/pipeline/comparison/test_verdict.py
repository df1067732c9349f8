"""The sentences on top: what they say in each case, and that the numbers in them are right."""

from dataclasses import replace

import pytest

from pipeline.comparison.verdict import verdict
from pipeline.records.comparison import Line
from pipeline.records.prices import Price, break_even
from pipeline.statistics.metrics import images_needed
from tests.conftest import make_line


def price(per_trial: float, trials: int | None = None) -> Price:
    return Price(device="cpu", device_seconds=1.0, peak_memory=1, gpu_memory=None,
                 seconds_per_trial=per_trial, break_even=trials)  # fmt: skip


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
    assert "It is right as often as finetune.full (test top-1 97.0 % [95.0, 98.0])" in said
    assert "each is right about 5 test images that the other is wrong about" in said
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


def test_the_very_same_images_are_no_difference_of_zero_points() -> None:
    said = verdict([head(difference=0.0, better=0, worse=0, p_value=1.0), BASELINE], 400)[0]
    assert "It is right about the very same test images as finetune.full." in said
    assert "0.0" not in said


def test_a_difference_that_rounds_to_nothing_is_not_zero_points() -> None:
    said = verdict([head(difference=-1 / 5000, better=3, worse=4, p_value=1.0), BASELINE], 5000)[0]
    assert "It is less than 0.1 points below finetune.full" in said


def test_a_handful_of_images_is_not_said_to_be_enough() -> None:
    # Four of four only the head is right about: McNemar's p is 2 / 2⁴, while Connor's formula asks for four
    said = verdict([head(difference=1.0, better=4, worse=0, p_value=0.125), BASELINE], 4)[0]
    assert "not distinguishable on 4 test images (p = 0.125); more would be needed" in said
    assert "on 1 test image (" in verdict([head(better=1, worse=0, p_value=1.0), BASELINE], 1)[0]


def test_a_constant_that_is_as_good_is_said() -> None:
    known = {"majority": "often", "majority_top1": 0.98, "top1": 0.98, "low": 0.95, "high": 0.99}
    said = " ".join(verdict([head(**known, missed=["seldom"]), BASELINE], 300))
    constant = "always answering 'often', the most frequent class (98.0 %)"
    assert f"pool5.logreg is no better than a constant: it is right as often as {constant}." in said
    assert "pool5.logreg recognises no test image of 'seldom'." in said
    assert "tuning.score = macro-f1" in said
    said = " ".join(verdict([head(**known | {"top1": 0.97}), BASELINE], 300))
    assert f"it is right less often than {constant}" in said
    known |= {"top1": 0.985, "majority_p_value": 0.7}
    said = " ".join(verdict([head(**known), BASELINE], 300))
    assert f"On 300 test images pool5.logreg is not distinguishable from {constant}: p = 0.700." in said
    said = " ".join(verdict([head(**known | {"majority_p_value": 0.01}), BASELINE], 300))
    assert "constant" not in said
    assert "always answering" not in said


def test_missed_classes_are_named_while_they_are_few() -> None:
    few = " ".join(verdict([head(missed=["a", "b\n[red]"])], 300))
    assert "recognises no test image of 'a' or 'b\\n[red]'." in few
    many = " ".join(verdict([head(missed=list("abcdefgh"))], 300))
    assert "no test image of 8 classes, 'a', 'b', 'c' among them." in many
    asked = " ".join(verdict([head(missed=["a"], chosen_by="macro-f1")], 300))
    assert "no test image of 'a'" in asked
    assert "tuning.score" not in asked  # it is chosen by that already


def test_a_control_that_is_ahead_by_validation_rows_alone_is_not_called_the_best() -> None:
    control = make_line("pixels.knn", weights="none", validation_top1=1.0, top1=0.6, low=0.4, high=0.7)
    said = verdict([head(), BASELINE, control], 400)[-1]
    assert "pixels.knn, is ahead on validation rows, though not on test rows (60.0 %)." in said
    near = replace(control, top1=0.96, low=0.94, high=0.98)
    assert "may not be the best there is" in verdict([head(), BASELINE, near], 400)[-1]


def test_what_takes_no_time_is_not_said_to_take_zero() -> None:
    quick = head(seconds=0.2, extraction_seconds=0.0, price=price(0.001))
    said = " ".join(verdict([quick, replace(BASELINE, seconds=0.4, price=price(0.4))], 400))
    assert "tuning took less than a second; finetune.full took less than a second" in said
    assert "One more trial: less than 0.01 s against 0.4 s." in said
    for silly in ("0:00", " 0 s", "1.0 times"):
        assert silly not in said


def test_starts_that_agree_vary_by_nothing() -> None:
    said = " ".join(verdict([head(seed_top1=[0.95, 0.95]), BASELINE], 400))
    assert "Over 2 random starts the head pool5.logreg reaches 95.0 % every time." in said


def test_without_a_head_that_is_said() -> None:
    assert "No head on frozen features was compared" in verdict([BASELINE], 400)[0]


def test_break_even_by_hand() -> None:
    # 60 s of extraction; 0.5 s a trial against 20: after 3 trials 61.5 against 60, after 4 62 against 80
    assert break_even(60.0, 0.5, 20.0) == 4
    assert break_even(1.0, 0.5, 20.0) == 1
    assert break_even(0.0, 0.5, 20.0) is None  # nothing was extracted
    assert break_even(60.0, 21.0, 20.0) is None  # never
