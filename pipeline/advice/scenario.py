"""The four scenarios of transfer learning: few or many images, near to the pretraining data or far.

    found = scenario(images_per_class=104, similar=False)
    found.classic, found.advised, found.published("finetune.full")

Which rule would choose what, and what has been published against it. The thresholds are declared
here, with their reasons; none of this is validated for choosing between ways of using one network.

References
----------
The rule: Gupta, Transfer learning and the art of using pre-trained models, Analytics Vidhya, 2017.
Frozen, fine-tuned, from scratch: Chen et al. (SimCLR), arXiv:2002.05709, table B.5; Salman et al.,
Do adversarially robust ImageNet models transfer better?, arXiv:2007.08489, best settings, robust
weights included; Zhai et al. (VTAB), arXiv:1910.04867; Raghu et al. (Transfusion), arXiv:1902.07208.
All of ResNet-50 or other networks, none of a VGG.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

HEAD, PARTIAL, FULL, SCRATCH = "head", "finetune.freeze:conv4_1", "finetune.full", "finetune.scratch"

# Train images per class, on average, from which a data set is large. In VTAB training from scratch is
# 10 to 78 points behind fine-tuning with 100 and fewer of each class, 5 with 500 (Camelyon), and 0.1 to
# 2.6 with 2,000 and more (SVHN, Clevr-Count, EuroSAT). Nothing is published on where to draw the line.
LARGE = 500

# Share of the errors of guessing (the most frequent class) that a probe on frozen features has to
# remove. In the tables above, fine-tuning gains 5.5 points at most where a frozen ResNet-50 reaches
# 80 %, and up to 44 where it does not.
SEPARATES = 0.8

# Errors of the best probe on features, as a share of those on the pixels: above it the classes are
# easy to tell without any network, and a good probe says nothing about the pretraining.
OF_PIXELS = 0.5


class Published(NamedTuple):
    """Top-1 accuracies in % of one data set (VOC: mean average precision); None where not published."""

    data: str
    per_class: int  # train images, about
    frozen: float
    tuned: float
    scratch: float | None = None


PUBLISHED = (  # SimCLR's, then Salman et al.'s
    Published("Food-101", 750, 72.3, 88.3, 86.9),
    Published("CIFAR-10", 5000, 93.6, 97.5, 95.9),
    Published("CIFAR-100", 500, 78.3, 86.4, 80.2),
    Published("SUN397", 50, 61.9, 64.3, 53.6),
    Published("Cars", 42, 66.7, 92.1, 91.4),
    Published("Aircraft", 67, 61.0, 86.0, 85.9),
    Published("VOC2007", 250, 82.8, 85.0, 67.3),
    Published("DTD", 80, 74.9, 74.6, 64.8),
    Published("Pets", 99, 91.5, 92.1, 81.5),
    Published("Caltech-101", 30, 94.5, 93.3, 72.6),
    Published("Flowers", 20, 94.7, 97.6, 92.0),
    Published("CIFAR-10", 5000, 94.8, 98.3),
    Published("Food-101", 750, 66.0, 87.7),
    Published("Cars", 42, 47.4, 91.5),
    Published("Aircraft", 67, 42.2, 86.1),
    Published("Caltech-101", 30, 91.1, 94.6),
    Published("Caltech-256", 60, 82.5, 84.6),
    Published("Pets", 99, 91.3, 93.7),
    Published("Flowers", 20, 91.5, 97.0),
    Published("DTD", 80, 70.6, 75.5),
)


class Gain(NamedTuple):
    """What a way of training brought over a frozen head on published data sets of one scenario.

    Attributes
    ----------
    points : (least, most), in points of accuracy
    removed : (least, most) share of the frozen head's errors that went; below 0: there were more
    data : their names
    """

    points: tuple[float, float]
    removed: tuple[float, float]
    data: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """One measured quantity against its declared threshold."""

    name: str
    value: float
    threshold: float
    at_least: bool  # or at most

    @property
    def passed(self) -> bool:
        """Whether the threshold is kept."""
        return self.value >= self.threshold if self.at_least else self.value <= self.threshold


@dataclass(frozen=True)
class Scenario:
    """One of the four, what the classic rule makes of it, and what is advised here.

    Attributes
    ----------
    classic, advised : str
        A way: `head`, or the name of a fine-tuned method.
    says : str
        The classic rule in words.
    reasons : tuple of str
        Why what is advised is advised.
    """

    large: bool
    similar: bool
    classic: str
    advised: str
    says: str
    reasons: tuple[str, ...]

    @property
    def name(self) -> str:
        """In words: `few images, similar to the pretraining data`."""
        size, nearness = "many" if self.large else "few", "similar to" if self.similar else "different from"
        return f"{size} images, {nearness} the pretraining data"

    def published(self, way: str) -> Gain | None:
        """What this way brought over a frozen head in published tables; None where there is no figure."""
        rows = [row for row in PUBLISHED if of(row) == (self.large, self.similar)]
        pairs = [(row, row.tuned if way == FULL else row.scratch) for row in rows]
        found = [(row, reached) for row, reached in pairs if reached is not None]
        if way not in (FULL, SCRATCH) or not found:
            return None
        return Gain(
            _range(round(reached - row.frozen, 1) for row, reached in found),
            _range(round((reached - row.frozen) / (100 - row.frozen), 3) for row, reached in found),
            tuple(dict.fromkeys(row.data for row, _ in found)),
        )


def of(row: Published) -> tuple[bool, bool]:
    """Where a published data set stands by the thresholds declared here: (large, similar)."""
    return row.per_class >= LARGE, row.frozen >= 100 * SEPARATES


def _range(values: Iterable[float]) -> tuple[float, float]:
    each = list(values)
    return min(each), max(each)


FOUR = (
    Scenario(
        False, True, HEAD, HEAD,
        "retrain the output layer only",
        (
            "the frozen features already tell the classes apart, a head on them is trained in seconds, and "
            "with few images there is little to be gained by training more",
        ),
    ),
    Scenario(
        False, False, PARTIAL, PARTIAL,
        "freeze the first k layers and retrain the rest (the least of it: a head on an earlier layer)",
        (
            "the last layers are about the pretraining data; the first serve any image, and while they are "
            "frozen there are fewer parameters for few images to fit",
            "cheapest to try first is a head on an earlier layer: name pool4 or pool4:avg in extract.layers",
            "where the price is no objection try finetune.full, too: in published tables it gains most on "
            "just such data, and none of them sets it against freezing a part",
        ),
    ),
    Scenario(
        True, True, FULL, FULL,
        "fine-tune all layers",
        ("there are images enough to train all layers, and the pretrained ones are a good start",),
    ),
    Scenario(
        True, False, SCRATCH, FULL,
        "train from scratch",
        (
            "published evidence contradicts the classic rule here: with many images unlike the pretraining "
            "data, training from scratch ties with fine-tuning at best (VTAB, all images: SVHN 96.3 against "
            "97.0, Clevr-Count 99.7 against 99.8, EuroSAT 96.2 against 98.8; Transfusion, on medical images: "
            "little between them), and in SimCLR's tables it was given twice the steps",
            "so start from the pretrained layers, and fine-tune them all",
        ),
    ),
)  # fmt: skip


def scenario(images_per_class: float, *, similar: bool) -> Scenario:
    """Return the scenario of so many train images per class, on average."""
    return named(large=images_per_class >= LARGE, similar=similar)


def named(*, large: bool, similar: bool) -> Scenario:
    """Return the scenario of many or few images, similar or not."""
    return next(each for each in FOUR if (each.large, each.similar) == (large, similar))


def similarity(
    accuracy: float, chance: float, logme: float, pixels: tuple[float, float] | None
) -> list[Check]:
    """Check the declared signs of similarity to the pretraining data; all have to hold.

    Parameters
    ----------
    accuracy, logme : float
        The best probe's accuracy on held rows, and LogME, of the best layer with trained weights.
    chance : float
        Accuracy of always answering the most frequent class.
    pixels : (accuracy, logme), optional
        The same of the images themselves; without them only the first sign can be looked at.
    """
    separates = (accuracy - chance) / (1 - chance) if chance < 1 else 0.0
    checks = [Check("share of guessing's errors that a probe removes", separates, SEPARATES, True)]
    if pixels is not None:
        errors = (1 - accuracy) / (1 - pixels[0]) if pixels[0] < 1 else float(accuracy < 1) + 1
        checks.append(Check("its errors, as a share of those on pixels", errors, OF_PIXELS, False))
        checks.append(Check("LogME, against that of pixels", logme, pixels[1], True))
    return checks
