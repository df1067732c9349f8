"""What confidence few images can carry: held-out log-loss by how the temperature is fitted.

    python -m benchmarks.calibration

Draws validation images and fits their temperature as `pipeline.statistics.calibration` does (smoothed
targets) and by likelihood alone; then the log-loss of 2,000 other images is held against that of the
temperature that is best for these. Scores are of two kinds, as heads give them: Gaussian around each
class (logits, margins), and the logarithms of five neighbours' votes. The last line is how many times as
much log-loss the likelihood alone gives away, over all rows of the table with 12 and 55 images.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from pipeline.statistics.calibration import SMOOTHED, log_loss, temperature

DRAWS = 300
OTHERS = 2_000  # images that are scored
IMAGES = (12, 55, 1000)
FEW = (12, 55)
ACCURACIES = (0.72, 0.92, 0.993)
CLASSES = (2, 10)
NEIGHBOURS = 5

Draw = Callable[[int, int, float, np.random.Generator], tuple[NDArray[Any], NDArray[Any]]]


def gaussian(n: int, classes: int, accuracy: float, rng: np.random.Generator) -> tuple[Any, Any]:
    """Scores (n, classes) of unit variance, a step apart at each image's class, and the classes (n,)."""
    labels, scores = rng.integers(classes, size=n), rng.normal(size=(n, classes))
    scores[np.arange(n), labels] += _step(classes, accuracy)
    return scores, labels


def votes(n: int, classes: int, accuracy: float, rng: np.random.Generator) -> tuple[Any, Any]:
    """Logarithms of votes (n, classes), of neighbours that are each right so often, more or less by image."""
    labels = rng.integers(classes, size=n)
    share = rng.beta(3 * accuracy, 3 * (1 - accuracy), size=(n, 1))
    wrong = (labels[:, None] + rng.integers(1, classes, size=(n, NEIGHBOURS))) % classes
    voters = np.where(rng.random((n, NEIGHBOURS)) < share, labels[:, None], wrong)
    counts = np.stack([(voters == number).sum(axis=1) for number in range(classes)], axis=1)
    return np.log((counts + 1 / classes) / (NEIGHBOURS + 1)), labels


def _step(classes: int, accuracy: float) -> float:
    """How far the own class has to stand out for the highest score to be its so often."""
    x = np.linspace(-8, 16, 4_001)

    def excess(step: float) -> float:
        return float(np.trapezoid(norm.pdf(x - step) * norm.cdf(x) ** (classes - 1), x)) - accuracy

    return float(brentq(excess, 0, 8))


def given_away(draw: Draw, classes: int, accuracy: float, images: int) -> tuple[float, float, float]:
    """Log-loss of the best temperature, and what likelihood alone and smoothed targets give away."""
    others = draw(OTHERS, classes, accuracy, np.random.default_rng(0))
    best = _loss(others, temperature(*others, smoothed=0))
    draws = DRAWS if images in FEW else DRAWS // 10
    lost = np.zeros(2)
    for number in range(draws):
        rows = draw(images, classes, accuracy, np.random.default_rng([1 + number, images]))
        lost += [_loss(others, temperature(*rows, smoothed=rate)) - best for rate in (0, SMOOTHED)]
    return best, *(lost / draws)


def _loss(rows: tuple[Any, Any], T: float) -> float:
    scores, labels = rows
    return log_loss(scores / T, labels)


def main() -> None:
    """Print the table, and the ratio last."""
    print("| scores | classes | accuracy | images | best | likelihood alone | smoothed targets |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    totals = np.zeros(2)
    for draw in (gaussian, votes):
        for classes in CLASSES:
            for accuracy in ACCURACIES:
                for images in IMAGES:
                    best, alone, smoothed = given_away(draw, classes, accuracy, images)
                    totals += [alone, smoothed] if images in FEW else [0, 0]
                    row = f"| {draw.__name__} | {classes} | {accuracy:g} | {images} | {best:.3f} |"
                    print(f"{row} +{alone:.3f} | +{smoothed:.3f} |", flush=True)
    print(f"ratio: {totals[0] / totals[1]:.1f}")


if __name__ == "__main__":
    main()
