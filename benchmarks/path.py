"""The whole regularisation path of both linear heads, against scikit-learn's solvers in a loop.

    python -m benchmarks.path --store artifacts/features/fc7.zarr

45 values of C from 1e-6 to 1e5 on L2-normalised train rows. Every solution of both sides is
certified from the objective's definition (`benchmarks.certificate`): a loop that stops early
would look fast. Needs about 10 minutes, nearly all of them scikit-learn's; `--every 4` times
every fourth of its values and scales, which is said.
"""

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from benchmarks.cached import cached, normalised
from benchmarks.certificate import hinge_gap, softmax_gap
from pipeline.heads.linear.estimators import LinearHead, LinearSVM, LogReg

CS = np.logspace(-6, 5, 45)
TARGET = 1e-4


def ours(head: type[LinearHead], X: Any, y: Any) -> tuple[float, list[Any]]:
    """Seconds, and (C, coef, intercept) of every C."""
    begun = time.perf_counter()
    fitted = [one for _, one in head.path(X, y, {"C": tuple(CS.tolist()), "tol": TARGET})]
    return time.perf_counter() - begun, [(one.C, one.coef_, one.intercept_) for one in fitted]


def theirs(make: Any, X: Any, y: Any, every: int) -> tuple[float, list[Any]]:
    """The same of scikit-learn's loop, with its defaults."""
    begun, found = time.perf_counter(), []
    for C in CS[::every]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it stopped early: the gap says how early
            model = make(C=C).fit(X, y)
        found.append((C, model.coef_, model.intercept_))
    return (time.perf_counter() - begun) * len(CS) / len(CS[::every]), found


def main() -> None:
    """Measure, certify and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--store", type=Path, help="a published feature store; a stand-in without it")
    parser.add_argument("--rows", type=int, default=3068)
    parser.add_argument("--every", type=int, default=1, help="of scikit-learn's values, time each so-many-th")
    options = parser.parse_args()
    X, y, words = cached(options.store, options.rows)
    X = normalised(X)
    exact = X.astype(np.float64)
    print(
        f"{words}, {len(X):,} × {X.shape[1]:,}, {y.max() + 1} classes, L2-normalised, {len(CS)} values of C"
    )
    if options.every > 1:
        print(f"scikit-learn: {len(CS[:: options.every])} of {len(CS)} values timed, and scaled")
    ratios = []
    for name, head, make, gap_of in (
        ("logistic regression", LogReg, LogisticRegression, softmax_gap),
        ("linear SVM", LinearSVM, LinearSVC, hinge_gap),
    ):
        times = []
        for _ in range(3):
            seconds, solved = ours(head, X, y)
            times.append(seconds)
        own = float(np.median(times))
        other, loop = theirs(make, X, y, options.every)
        for who, took, found in (("penultimate", own, solved), ("scikit-learn", other, loop)):
            gaps = np.array([gap_of(exact, y, C, np.float64(W), np.float64(b)) for C, W, b in found])
            above = f"{(gaps > TARGET).sum()} of {len(gaps)} above {TARGET:g}"
            print(f"{name}, {who}: {took:.2f} s; certified gaps to {gaps.max():.1e}, {above}", flush=True)
            for (C, _, _), gap in zip(found, gaps, strict=True):
                print(f"    C {C:9.2e}  gap {gap:.1e}")
        ratios.append(other / own)
        print(f"{name}: {other / own:.1f} ×", flush=True)
    print(f"ratio: {min(ratios):.1f}")


if __name__ == "__main__":
    main()
