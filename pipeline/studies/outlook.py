"""What would twice the images buy? A power law through a learning curve's end.

    outlook = Outlook.of(images, accuracy, validation_images=384)
    outlook.doubled         # error with twice the images, with its interval

Error is taken to fall as a · n⁻ᵇ in the number n of train images: a straight line on
logarithmic axes, through the last sizes, least squares. It knows of no floor (labels that
are wrong, images that nobody can tell), so it promises too much where there is one.

References
----------
Hestness et al., Deep Learning Scaling is Predictable, Empirically, arXiv:1712.00409.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.metrics import Interval
from pipeline.studies.learning_curve import over_draws

LAST = 8  # sizes of at least 1/8 of all images are fitted: three doublings
ENOUGH = 3  # points; a line through two says nothing of whether it is one


@dataclass(frozen=True)
class Outlook:
    """A curve's end, and where it leads.

    Attributes
    ----------
    error : float
        With all train images.
    gained : float or None
        By how much it fell from half of the images to all, read off the curve; None where it
        does not reach that far.
    doubled : Interval or None
        Error with twice the images, and its interval over draws; None where there is too little
        to fit.
    """

    error: float
    gained: float | None
    doubled: Interval | None

    @classmethod
    def of(cls, images: Sequence[int], accuracy: Sequence[Sequence[float]], validation_images: int) -> Self:
        """Look ahead from a curve.

        Parameters
        ----------
        images : (sizes,) train images, ascending
        accuracy : (sizes, draws)
        validation_images : int
            That accuracies are shares of: below half an image an error has no logarithm.
        """
        n = np.asarray(images, np.float64)
        errors = 1 - np.asarray(accuracy, np.float64)  # (sizes, draws)
        mean = errors.mean(axis=1)
        half = float(np.interp(np.log(n[-1] / 2), np.log(n), mean)) if n[0] <= n[-1] / 2 else None
        last = n >= n[-1] / LAST
        doubled = None
        if last.sum() >= ENOUGH and mean[-1] > 0:
            n, errors = n[last], np.maximum(errors[last], 0.5 / validation_images)
            draws = over_draws([extrapolated(n, each) for each in errors.T])
            value = extrapolated(n, errors.mean(axis=1))
            doubled = Interval(value, min(draws.low, value), max(draws.high, value))
        return cls(float(mean[-1]), None if half is None else half - float(mean[-1]), doubled)

    def words(self, method: str, images: int, sampled: Interval, validation_images: int) -> str:
        """Say it in words; `sampled` is the accuracy with its interval over validation images."""
        known = (sampled.high - sampled.low) / 2
        tells = f"±{100 * known:.1f} points of sampling error on {validation_images:,} validation images"
        text = f"{method}: {100 * sampled.value:.1f} % with {images:,} train images. "
        if self.gained is not None:
            text += f"From half of them to all: {100 * self.gained:+.1f} points. "
        if self.doubled is None:
            why = "No error is left" if not self.error else "There are too few sizes"
            return text + f"{why} to extrapolate from (about {tells})."
        gain = self.error - self.doubled.value
        text += (
            f"With twice as many: about {100 * (1 - self.doubled.value):.1f} % "
            f"[{100 * (1 - self.doubled.high):.1f}, {100 * (1 - self.doubled.low):.1f}], "
            f"{100 * gain:+.1f} points; "
        )
        verdict = "more than the" if gain > known else "too few images to tell: that is within about"
        return text + f"{verdict} {tells}."


def extrapolated(images: NDArray[np.float64], errors: NDArray[np.float64]) -> float:
    """Error at twice the last number of images, by the power law through (n,) points; at most 1."""
    slope, height = np.polyfit(np.log(images), np.log(errors), 1)
    return min(float(np.exp(height + slope * np.log(2 * images[-1]))), 1.0)
