"""What chooses, against scikit-learn and counting by hand; and what wins a tie."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics

from pipeline.records.comparison import best_head
from pipeline.statistics.ranking import rank
from pipeline.statistics.scores import score
from tests.conftest import make_line

RNG = np.random.default_rng(0)
LABELS = RNG.choice(5, 200, p=(0.6, 0.2, 0.1, 0.08, 0.02))
SCORES = RNG.normal(size=(200, 7)) + 1.2 * np.eye(7)[LABELS]  # classes 5 and 6 have no images
NAMES = ("top1", "macro-f1", "log-loss")


def reference(name: str, scores: np.ndarray, labels: np.ndarray) -> float:
    answers, classes = scores.argmax(axis=1), np.arange(scores.shape[1])
    if name == "top1":
        return float(metrics.accuracy_score(labels, answers))
    if name == "macro-f1":
        return float(metrics.f1_score(labels, answers, labels=classes, average="macro", zero_division=0))
    return -float(metrics.log_loss(labels, softmax(scores, axis=1), labels=classes))


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_scikit_learns(name: str) -> None:
    assert score(name, SCORES, LABELS).value == pytest.approx(reference(name, SCORES, LABELS))
    views = np.repeat(SCORES[:, None], 2, axis=1)
    assert score(name, views, LABELS).value == pytest.approx(reference(name, SCORES, LABELS))
    never = SCORES.copy()
    never[:, 4] = -9  # a class that is there and never answered
    assert score(name, never, LABELS).value == pytest.approx(reference(name, never, LABELS))


@pytest.mark.parametrize("name", NAMES)
def test_standard_error_is_the_bootstraps(name: str) -> None:
    rng = np.random.default_rng(1)
    drawn = [rng.integers(200, size=200) for _ in range(600)]
    spread = np.std([reference(name, SCORES[rows], LABELS[rows]) for rows in drawn])
    found = score(name, SCORES, LABELS)
    assert found.error == pytest.approx(spread, rel=0.15)
    assert found.rows.sum() == pytest.approx(0, abs=1e-5)


def test_error_of_an_accuracy_by_hand() -> None:
    found = score("top1", np.eye(2)[[0, 0, 0, 1]], np.array([0, 0, 0, 0]))
    assert (found.value, found.error) == pytest.approx((0.75, (0.75 * 0.25 / 4) ** 0.5))


def test_log_loss_decides_ties_and_differences_without_meaning_do_not() -> None:
    assert rank(0.9, 0.5) < rank(0.91, 0.7)
    assert rank(0.9, 0.5) < rank(0.9, 0.4)
    assert rank(0.9, 0.5) == rank(0.9, 0.5 + 1e-7) == rank(0.9 + 1e-12, 0.5)


def test_of_equal_heads_the_simplest_is_best_in_whatever_order() -> None:
    names = ("fc7.knn", "pool5.mlp", "ensemble", "pool5.rbf-svm", "fc7.logreg", "pool5.logreg")
    tied = [
        make_line(name, validation_top1=1.0, validation_log_loss=0.04, trainable_parameters=size, top1=top1)
        for name, size, top1 in zip(names, (0, 9, 60, 9, 40, 20), (0.9, 0.8, 0.7, 0.6, 0.5, 0.4), strict=True)
    ]
    for order in (tied, tied[::-1], sorted(tied, key=lambda line: -line.top1)):  # as the report sorts them
        chosen = best_head(order)
        assert chosen is not None
        assert chosen.method == "pool5.logreg"
    chance = make_line("fc7.knn", validation_top1=1.0, validation_log_loss=0.01, top1=0.1)
    assert best_head([*tied, chance]) is not chance
    apart = [replace(line, validation_log_loss=0.4) for line in tied]
    assert best_head([*apart, chance]) is chance


def test_the_score_chooses_the_head() -> None:
    often = make_line("pool5.logreg", validation_top1=0.98, validation_score=0.49, chosen_by="macro-f1")
    fair = make_line("pool5.linear-svm", validation_top1=0.96, validation_score=0.8, chosen_by="macro-f1")
    assert best_head([often, fair]) is fair
