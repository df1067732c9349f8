"""A linear head's whole regularisation path: all values of C, from few products with the features.

    for fitted in solve(X, y, 10, [0.1, 1.0], np.ones(len(X)), "softmax", 1e-4):
        scores = X @ fitted.coef.T + fitted.intercept

The minima for neighbouring C resemble each other, on a logarithmic scale. So every fourth C
is solved first, a few at a time from small to large, each from a line through the two before;
then the values half-way, then the rest, from cubics through the four nearest. What float32
cannot finish is finished in float64.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.heads.linear.certificate import certified
from pipeline.heads.linear.conjugate_gradients import descend
from pipeline.heads.linear.losses import Loss, Softmax, SquaredHinge
from pipeline.heads.linear.newton import newton
from pipeline.heads.linear.spaces import RowSpace, Space, space_for
from pipeline.heads.rows import at_hand

STRIDE = 4
FIRST = 2  # values of C side by side in the first rounds, which have to go from small to large
ITERATIONS = 300  # of the softmax
HINGE_ITERATIONS = 60  # float32 seldom gets further then; the rest is for Newton's method
HINGE_ALONE = 100  # where that is too dear; what is left by then changes hardly an answer
BYTES = 2**30  # of one round's numbers: the more columns side by side, the cheaper is each
FEW = 0.45  # of the rows: with fewer short of their margin, Newton's method is the cheaper one
SYSTEM = 2e9  # rows × columns² up to which weights are solved for in float64
SMALL = 2**24  # multiplications: a hundredth of a second of one core
# Of the tolerance: what is descended to. A free intercept is settled last and adds to the gap, and float64,
# which would have to finish then, is dear where there is a Gram matrix.
AIM = {"softmax": 0.2, "squared hinge": 0.9}
AIM_BY_PASSES = {"softmax": 0.5, "squared hinge": 0.9}
WORK = 3e11  # multiplications for one C, after which it stays as it is: seconds of two cores
LEAST = 20  # iterations, also for a C above one that stayed unfinished: the larger, the harder
# What falls short of the tolerance in the end is solved again: in float64 or not, to which part of the aim
AGAIN = ((False, 4), (True, 4), (True, 16))
SINGLE = 1e-5  # tolerance that float32 is good for


@dataclass(frozen=True)
class Fitted:
    """A linear head at one C.

    Attributes
    ----------
    coef : (n_classes, d), intercept : (n_classes,)
        One column, for the second class, where the hinge tells two classes apart.
    gap : float
        The objective is at most so far above its minimum, relative to that: of these very numbers.
    """

    coef: NDArray[Any]
    intercept: NDArray[Any]
    gap: float


def solve(
    X: Any,
    y: NDArray[Any],
    n_classes: int,
    Cs: Sequence[float],
    weights: NDArray[np.float64],
    kind: Literal["softmax", "squared hinge"],
    tolerance: float,
) -> Iterator[Fitted]:
    """Solve every C; yields them in the order given.

    Parameters
    ----------
    X : (n, d) NumPy array, or dask array
    y : (n,) class numbers
    weights : (n,)
        What each row's loss counts.
    kind : str
        The softmax's intercept is free. The hinge's is the weight of a feature that is always
        1, and penalised, as in LIBLINEAR.
    tolerance : float
        Of the gap. Below 1e-5 everything is solved in float64.
    """
    size = X.shape[0] * min(X.shape) * n_classes
    with _cores(size):
        path = _Path(at_hand(X), y, n_classes, weights, kind, tolerance)
        ordered = sorted(Cs)
        for numbers in rounds(len(Cs), path.first):
            for some in path.that_fit([ordered[number] for number in numbers]):
                path.solve(some)
    for some in path.that_fit(Cs, last=True):
        with _cores(size):
            found = path.finished(some)
        yield from found


@contextmanager
def _cores(products: int) -> Iterator[None]:
    """One core where products are small: handing them to others costs more, most of all busy ones."""
    before = torch.get_num_threads()
    if products < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rounds(count: int, first: int) -> list[list[int]]:
    """Which positions of a sorted grid are solved side by side, round after round."""
    coarse = sorted({*range(0, count, STRIDE), count - 1})
    found = [coarse[start : start + first] for start in range(0, len(coarse), first)]
    half = [number for number in range(STRIDE // 2, count, STRIDE) if number not in coarse]
    rest = sorted(set(range(count)) - set(coarse) - set(half))
    return [numbers for numbers in (*found, half, rest) if numbers]


@dataclass
class _Problems:
    """Some of the minimisations side by side: P of them, each of k columns.

    Of the softmax, a value of C is one problem of as many columns as classes; of the hinge, it is
    a problem of one column for each class.
    """

    C: Tensor  # (P,) float64, as all of these
    v: Tensor  # (k, P, size)
    intercept: Tensor  # (k, P)
    gap: Tensor  # (P,)
    exact: Tensor  # (P,) bool: float64 made it

    @classmethod
    def joined(cls, some: Sequence["_Problems"]) -> "_Problems":
        """Side by side."""
        tensors = ([getattr(one, field.name) for one in some] for field in fields(cls))
        return cls(*(torch.cat(same, min(same[0].ndim - 1, 1)) for same in tensors))

    def restart(self) -> None:
        """Put what float32 has lost back to the start, so that it is nobody's neighbour."""
        lost = ~(self.v.isfinite().all(2).all(0) & self.intercept.isfinite().all(0) & self.gap.isfinite())
        self.v[:, lost], self.intercept[:, lost], self.gap[lost] = 0, 0, math.inf

    def each(self, size: int) -> "list[_Problems]":
        """Apart again, `size` problems each."""
        tensors = (getattr(self, field.name) for field in fields(self))
        return [
            _Problems(*parts)
            for parts in zip(*(t.split(size, min(t.ndim - 1, 1)) for t in tensors), strict=True)
        ]


@dataclass
class _Kept:
    """Heads of P problems as they are kept, in float64 that float32 holds where nothing more was needed."""

    coef: Tensor  # (k, P, d)
    intercept: Tensor  # (k, P)

    @classmethod
    def empty(cls, problems: _Problems, d: int) -> "_Kept":
        """For some problems."""
        shape = problems.intercept.shape
        return cls(torch.empty(*shape, d, dtype=torch.float64), torch.empty(shape, dtype=torch.float64))

    def heads(self, problems: _Problems, count: int, flat: int) -> Iterator[Fitted]:
        """One for each C; `flat` is the axis that has one entry then."""
        size = len(problems.C) // count
        parts = (self.coef.split(size, 1), self.intercept.split(size, 1))
        for one, *own in zip(problems.each(size), *parts, strict=True):
            dtype = torch.float64 if one.exact.any() else torch.float32
            coef, intercept = (part.squeeze(flat).to(dtype).numpy() for part in own)
            yield Fitted(coef, intercept, float(one.gap.max()))


class _Path:
    """What is solved so far, by C."""

    def __init__(
        self, X: Any, y: NDArray[Any], n_classes: int, weights: NDArray[Any], kind: str, tolerance: float
    ) -> None:
        self.hinge = kind == "squared hinge"
        self.space = space_for(X, self.hinge, torch.float64 if tolerance < SINGLE else torch.float32)
        aim = AIM if isinstance(self.space, RowSpace) else AIM_BY_PASSES
        self.tolerance, self.aim = tolerance, aim[kind] * tolerance
        self.labels, self.weights = torch.from_numpy(y.astype(np.int64)), torch.from_numpy(weights)
        self.columns = torch.tensor([1]) if self.hinge and n_classes == 2 else torch.arange(n_classes)
        self.solved: dict[float, _Problems] = {}

    @cached_property
    def exact(self) -> Space:
        """The space in float64, once it is needed."""
        return self.space.double()

    @property
    def first(self) -> int:
        """How many values of C the first rounds take: where the features are read anew, more."""
        if isinstance(self.space, RowSpace):
            return 1 if self.hinge else FIRST
        return 2 * FIRST

    def limit(self, C: Tensor) -> Tensor:
        """Iterations, (P,): fewer where each is long, and for a C above one that stayed unfinished."""
        longest = ITERATIONS if not self.hinge else HINGE_ITERATIONS if self._small else HINGE_ALONE
        each = 2 * len(self.labels) * self.space.size * len(self.columns)
        limit = torch.full(C.shape, int(min(max(WORK / each, LEAST), longest)))
        if not self._small:
            unfinished = [other for other, one in self.solved.items() if one.gap.max() > self.tolerance]
            limit[min(unfinished, default=math.inf) < C] = LEAST
        return limit

    @property
    def _small(self) -> bool:
        """Whether float64 can finish what float32 left."""
        return isinstance(self.space, RowSpace) or len(self.labels) * self.space.size**2 <= SYSTEM

    def that_fit(self, Cs: Sequence[float], last: bool = False) -> Iterator[Sequence[float]]:
        """Cut a round, or the last one, which is in float64, where its numbers would fill memory."""
        n, of_round = len(self.labels), 4 * 5 * self.space.size
        each = 8 * (4 * n + 4 * self.space.features) if last else 4 * 5 * n + of_round
        size = max(BYTES // (each * len(self.columns)), 1)
        return (Cs[start : start + size] for start in range(0, len(Cs), size))

    def solve(self, Cs: Sequence[float]) -> None:
        """Solve some C side by side, from where those that are solved point to."""
        problems = _Problems.joined([self._start(C) for C in Cs])
        left = torch.ones_like(problems.exact)
        if self.hinge and isinstance(self.space, RowSpace):
            near = _Problems.joined([self._nearest(C) for C in Cs])
            _, loss, _, v, _ = self._posed(near, left, self.space)
            left = (loss.relative(self.space.scores(v)) < 1).sum((0, 2)) > FEW * len(self.labels)
            # Beyond what is solved the column before is the better start: a line leaves few rows short
            beyond = max(self.solved, default=0) < problems.C
            problems.v = torch.where((~left & beyond)[:, None], near.v, problems.v)
            self._newton(problems, ~left, self.aim)
        self._descend(problems, left, self.space, self.aim)
        if self.hinge:
            self._newton(problems, problems.gap > self.tolerance, self.aim)
        self._keep(problems, Cs)

    def finished(self, Cs: Sequence[float]) -> list[Fitted]:
        """Turn columns into weights of the features, certify these, and go on where a gap is too large."""
        problems = _Problems.joined([self.solved[C] for C in Cs])
        kept = _Kept.empty(problems, self.space.features)
        # Where float64 is too dear, those that ran out of iterations stay as they are
        hopeful = (problems.gap <= self.tolerance) | self._small
        left = torch.ones_like(hopeful)
        exactly = self.hinge and self._small
        for double, further in AGAIN[: 1 if not self._small else 2 if exactly else 3]:
            self._certify(problems, left, kept)
            left = hopeful & (problems.gap > self.tolerance)
            problems.restart()
            if exactly:
                if double:  # coefficients of rows may have grown where they cancel: from the start
                    problems.v[:, left] = 0
                self._newton(problems, left, self.aim / further)
            else:
                self._descend(problems, left, self.exact if double else self.space, self.aim / further)
        self._certify(problems, left, kept)
        return list(kept.heads(problems, len(Cs), flat=0 if self.hinge else 1))

    def _certify(self, problems: _Problems, which: Tensor, kept: "_Kept") -> None:
        """Write weights as they are to be kept, each in the precision it was solved in, and their gaps."""
        for double in (False, True):
            some = which & (problems.exact == double)
            if some.any():
                space, _, _, v, intercept = self._posed(problems, some, self.exact if double else self.space)
                weights, shifted = (part.double() for part in space.coefficients(v, intercept))
                loss = self._loss(problems, some, torch.float64)
                single = torch.full((len(shifted[0]),), space.dtype == torch.float32)
                found = certified(self.space.X, loss, problems.C[some], weights, shifted, single)
                kept.coef[:, some], kept.intercept[:, some] = weights, found.intercept
                problems.gap[some] = found.gap

    def _start(self, C: float) -> _Problems:
        """Where the solved C point to: a cubic through the four nearest, or a line on from the last two."""
        x, known = math.log(C), {math.log(other): one for other, one in self.solved.items()}
        near = sorted(known, key=lambda other: abs(other - x))[:4]
        if near and not min(known) <= x <= max(known):
            near = near[:2]
        k, p = (1, len(self.columns)) if self.hinge else (len(self.columns), 1)
        v = torch.zeros(k, p, self.space.size, dtype=torch.float64)
        intercept = torch.zeros(k, p, dtype=torch.float64)
        for one in near:
            share = math.prod((x - other) / (one - other) for other in near if other != one)
            v += share * known[one].v
            intercept += share * known[one].intercept
        every = torch.ones(p, dtype=torch.float64)
        return _Problems(C * every, v, intercept, math.inf * every, every < 0)

    def _nearest(self, C: float) -> _Problems:
        """The solved one before this C, or the first; zero where nothing is solved."""
        before = [other for other in self.solved if other <= C] or sorted(self.solved)[:1]
        return self.solved[max(before)] if before else self._start(C)

    def _keep(self, problems: _Problems, Cs: Sequence[float]) -> None:
        problems.restart()
        for C, one in zip(Cs, problems.each(len(problems.C) // len(Cs)), strict=True):
            self.solved[C] = one

    def _descend(self, problems: _Problems, which: Tensor, space: Space, aim: float) -> None:
        if which.any():
            found = descend(*self._posed(problems, which, space), aim, self.limit(problems.C[which]))
            problems.v[:, which], problems.intercept[:, which] = found.v.double(), found.intercept.double()
            problems.gap[which] = found.gap.double()
            problems.exact[which] = space is not self.space or space.dtype == torch.float64

    def _newton(self, problems: _Problems, which: Tensor, aim: float) -> None:
        if which.any() and self._small:
            space, loss, C, v, _ = self._posed(problems, which, self.exact)
            assert isinstance(loss, SquaredHinge)  # noqa: S101 - narrows the type
            found = newton(space, loss, C, v, aim)
            problems.v[:, which], problems.gap[which] = found.v, found.gap
            problems.exact |= which

    def _posed(
        self, problems: _Problems, which: Tensor, space: Space
    ) -> tuple[Space, Loss, Tensor, Tensor, Tensor]:
        """Some problems as solvers take them, in the space's precision."""
        loss = self._loss(problems, which, space.dtype)
        numbers = (problems.C[which], problems.v[:, which], problems.intercept[:, which])
        C, v, intercept = (part.to(space.dtype) for part in numbers)
        return space, loss, C, v, intercept

    def _loss(self, problems: _Problems, which: Tensor, dtype: torch.dtype) -> Loss:
        weights = self.weights.to(dtype)
        if self.hinge:
            classes = self.columns.repeat(len(problems.C) // len(self.columns))[which]
            return SquaredHinge(self.labels, weights, classes)
        return Softmax(self.labels, weights)
