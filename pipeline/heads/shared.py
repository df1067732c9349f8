"""Answers that the heads of a path share: each is scored on the same validation rows.

with Shared(partial(squared_distances, B=X)) as distances:
    yield from heads_that_ask(distances)
"""

from collections.abc import Callable
from types import TracebackType
from typing import Self

import joblib

from pipeline.heads.base import Array

KEPT = 1 << 30  # bytes of answers


class Shared:
    """A function of rows whose answers are kept until it is closed, by the rows' content.

    While `open`, it holds on to what the function does, such as train rows; closed, to nothing, so that
    a head that was made with it costs no more than its own arrays.
    """

    def __init__(self, function: Callable[[Array], Array]) -> None:
        self._function: Callable[[Array], Array] | None = function
        self._answers: dict[str, Array] = {}

    @property
    def open(self) -> bool:
        """Whether it can be asked."""
        return self._function is not None

    def __call__(self, X: Array) -> Array:
        """Answer for (n, d) rows; the answer is shared, and not to be changed."""
        assert self._function is not None, "closed"  # noqa: S101 - narrows the type; callers ask `open`
        key = str(joblib.hash(X, "sha1"))
        if key not in self._answers:
            answer = self._function(X)
            if sum(kept.nbytes for kept in self._answers.values()) + answer.nbytes > KEPT:
                self._answers.clear()
            self._answers[key] = answer
        return self._answers[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._function = None
        self._answers.clear()
