"""Heads: cheap classifiers on cached features, each a scikit-learn estimator.

HEADS["logreg"]     # the class; its module is imported when it is asked for
name_of(head)       # "logreg"
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.heads.base import Head

REVISION = 2  # raised by hand when what a head or its calibration answers changes: 2 smooths targets
CLASSES = {
    "logreg": ("linear.estimators", "LogReg"),
    "linear-svm": ("linear.estimators", "LinearSVM"),
    "rbf-svm": ("kernel", "RbfSVM"),
    "mlp": ("mlp", "MLP"),
    "knn": ("controls", "KNN"),
    "majority": ("controls", "Majority"),
}


class _Heads(Mapping[str, type["Head"]]):
    def __getitem__(self, name: str) -> type["Head"]:
        module, head = CLASSES[name]
        found: type[Head] = getattr(import_module(f"{__name__}.{module}"), head)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(CLASSES)

    def __len__(self) -> int:
        return len(CLASSES)


HEADS = _Heads()


def name_of(head: "Head") -> str:
    """The name that `params.yaml` and cards have for a head."""
    return next(name for name, (_, known) in CLASSES.items() if known == type(head).__name__)
