"""scikit-learn's contract of a transformer, by hand.

Its base classes would do the same; to import them costs every command a second.

References
----------
https://scikit-learn.org/stable/developers/develop.html
"""

import inspect
from typing import Any, Self


class Transformer:
    """What scikit-learn's tools ask of an estimator that transforms, and has nothing to learn.

    A subclass's constructor assigns its parameters, under their names, and does nothing else.
    """

    @classmethod
    def _parameters(cls) -> dict[str, inspect.Parameter]:
        return dict(list(inspect.signature(cls.__init__).parameters.items())[1:])

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name; `deep` changes nothing, as none is an estimator."""
        return {name: getattr(self, name) for name in self._parameters()}

    def set_params(self, **parameters: Any) -> Self:
        """Change constructor arguments; ValueError for a name that is none, and then none is changed."""
        there = sorted(self._parameters())
        for name in parameters:
            if name not in there:
                raise ValueError(
                    f"Invalid parameter {name!r} for estimator {self}. Valid parameters are: {there}."
                )
        for name, value in parameters.items():
            setattr(self, name, value)
        return self

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Get ready."""
        raise NotImplementedError

    def transform(self, X: Any) -> Any:
        """Map X, one row each."""
        raise NotImplementedError

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Call `fit`, then `transform`."""
        return self.fit(X, y).transform(X)

    def __repr__(self) -> str:
        """Write the call that makes it, without what has its default."""
        given = [
            f"{name}={value!r}"
            for name, parameter in self._parameters().items()
            if (value := getattr(self, name)) is not parameter.default and value != parameter.default
        ]
        return f"{type(self).__name__}({', '.join(given)})"

    def _repr_html_(self) -> str:
        """Draw it as notebooks draw estimators."""
        from sklearn.utils import estimator_html_repr  # noqa: PLC0415 - see above

        return str(estimator_html_repr(self))
