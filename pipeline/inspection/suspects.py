"""Suspected wrong labels: images whose neighbours overwhelmingly say another class.

    vote = votes(found, similarity, labels)
    doubted = suspects(vote, rows, manifest, heard)     # the surest first

Every image is judged by a vote of its nearest neighbours, which never include itself, copies of it or
images of its group, each weighted by its similarity. The share of the given class is the label's
self-confidence, as in confident learning, where it comes from a classifier's held-out probabilities;
the margin by which another class wins ranks the suspects.

References
----------
Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70 (2021),
arXiv:1911.00068: self-confidence and normalised margin as orders of likely label errors.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.manifest import Manifest
from features.positions import Positions
from pipeline.inspection.heard import Heard

NEIGHBOURS = 20  # that vote; fewer where classes are small, see `voters`
SHARPNESS = 0.1  # a neighbour that is less similar than the nearest by this counts 1/e as much
AGAINST = 0.8  # a label is suspected where another class has at least this share of the vote …
FOR = 0.1  # … and the given one at most this
FEWEST = 5  # images of a class besides the one judged: with fewer its neighbours must be of others
PLANTED = 0.05  # share of labels that a trial changes
SHOWN = 30

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class Vote:
    """What neighbours say of every image's label.

    Attributes
    ----------
    given, other : (n,) float32
        Shares of the vote for the given class, and for the strongest other one.
    says : (n,) class numbers of that other one
    judged : (n,) bool
        Whether the given class has enough other images to be voted for.
    """

    given: NDArray[np.float32]
    other: NDArray[np.float32]
    says: Labels
    judged: NDArray[np.bool_]

    @property
    def suspects(self) -> Positions:
        """Positions of suspected labels, the largest margin first."""
        suspected = np.flatnonzero(self.judged & (self.other >= AGAINST) & (self.given <= FOR))
        margin = self.other[suspected] - self.given[suspected]
        return suspected[np.argsort(-margin, kind="stable")]


def voters(labels: Labels) -> int:
    """How many neighbours vote: at most half as many as a middling class has images, and at least FEWEST."""
    counts = np.unique(labels, return_counts=True)[1]
    return int(np.clip(np.median(counts) // 2, FEWEST, NEIGHBOURS))


def votes(found: Positions, similarity: NDArray[np.float32], labels: Labels) -> Vote:
    """Let the k nearest others of every image vote.

    Parameters
    ----------
    found, similarity : (n, k)
        As `search.neighbours` returns them.
    labels : (n,) class numbers
    """
    there = np.isfinite(similarity)  # a group can leave fewer than k
    closeness = np.where(there, similarity, 0)
    weights = np.exp((closeness - closeness[:, :1]) / np.float32(SHARPNESS)) * there  # (n, k)
    total = weights.sum(axis=1, keepdims=True)
    weights /= np.where(total > 0, total, 1)
    theirs = labels[found]  # (n, k)
    own = theirs == labels[:, None]
    # Each voter's class with all its votes: k × k comparisons cost less than a column for every class
    shares = np.stack([(weights * (theirs == theirs[:, [j]])).sum(axis=1) for j in range(theirs.shape[1])], 1)
    shares[own] = -1
    strongest = shares.argmax(axis=1)[:, None]
    other = np.maximum(np.take_along_axis(shares, strongest, axis=1)[:, 0], 0)
    says = np.take_along_axis(theirs, strongest, axis=1)[:, 0]
    return Vote((weights * own).sum(axis=1), other, says, np.bincount(labels)[labels] > FEWEST)


@dataclass(frozen=True)
class Suspect:
    """An image whose label is doubted.

    Attributes
    ----------
    row : int
        Of the manifest.
    says : str
        The class that its neighbours say, with `share` of their vote; `given` is that of its label.
    head_says, sure : str and float, or None
        What the best head says of it; None where it was fitted on it.
    """

    row: int
    says: str
    share: float
    given: float
    head_says: str | None
    sure: float | None


def suspects(vote: Vote, rows: Positions, manifest: Manifest, heard: Heard | None) -> list[Suspect]:
    """Name all suspects, the surest first; `rows` (n,) are those of the manifest that were voted on."""
    classes, made = manifest.classes, []
    for place in vote.suspects.tolist():
        row = int(rows[place])
        said, sure = None, None
        if heard and heard.knows(row):
            said, sure = classes[heard.says[row]], float(heard.sure[row])
        shares = float(vote.other[place]), float(vote.given[place])
        made.append(Suspect(row, classes[vote.says[place]], *shares, said, sure))
    return made


@dataclass(frozen=True)
class Control:
    """What the vote made of labels changed on purpose.

    Attributes
    ----------
    planted, found : int
        How many labels were changed, and how many of these were then suspected.
    among_first, first : int
        How many of the `first` surest suspects were changed ones.
    named : int
        All that were suspected; those beyond `found` are real errors, or false alarms.
    """

    planted: int
    found: int
    among_first: int
    first: int
    named: int


def trial(found: Positions, similarity: NDArray[np.float32], labels: Labels, seed: int = 0) -> Control | None:
    """Change some labels at random and look for them; None for a single class, or too few images.

    The new class is drawn with the others' frequencies: no rare one gains by it.
    """
    rng = np.random.default_rng(seed)
    planted = rng.choice(len(labels), round(PLANTED * len(labels)), replace=False)
    changed = labels.copy()
    changed[planted] = labels[rng.integers(len(labels), size=len(planted))]
    planted = planted[changed[planted] != labels[planted]]
    if not len(planted):
        return None
    right = np.isin(votes(found, similarity, changed).suspects, planted)
    first = min(SHOWN, len(right))
    return Control(len(planted), int(right.sum()), int(right[:first].sum()), first, len(right))
