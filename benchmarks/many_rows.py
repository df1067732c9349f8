"""The regularisation path on 60,000 × 4,096 rows, against scikit-learn's LogisticRegression in a loop.

    python -m benchmarks.many_rows --store artifacts/features/fc7.zarr

All values of C up to 50 (31 of the 45), L2-normalised, to a certified gap of 1e-3. Of scikit-learn's
loop `--timed` values are run, evenly spread, and the time is scaled. What either did not bring
below 1e-3 is counted. Needs 5 GB.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.cached import cached, normalised
from benchmarks.certificate import softmax_gap
from pipeline.heads.linear.estimators import LogReg

TOLERANCE, LARGEST = 1e-3, 50
CERTIFIED = 4  # solutions of each side: in float64 a certificate takes as long as some iterations


def main() -> None:
    """Measure, certify and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--store", type=Path, help="a published feature store; a stand-in without it")
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--timed", type=int, default=4, help="of scikit-learn's values of C")
    options = parser.parse_args()
    X, y, words = cached(options.store, options.rows, ("train", "validation"))
    X = normalised(X)
    Cs = [float(C) for C in np.logspace(-6, 5, 45) if C <= LARGEST]
    print(f"{words}, {len(X):,} × {X.shape[1]:,}, {y.max() + 1} classes, {len(Cs)} values of C", flush=True)
    begun = time.perf_counter()
    fitted = [head for _, head in LogReg.path(X, y, {"C": tuple(Cs), "tol": TOLERANCE})]
    own = time.perf_counter() - begun
    left = sum(not head.converged_ for head in fitted)
    print(f"penultimate: {own:.1f} s, {left} of {len(Cs)} not converged by its own account", flush=True)
    chosen = [int(number) for number in np.linspace(0, len(Cs) - 1, options.timed).round()]
    begun, loop = time.perf_counter(), []
    for number in chosen:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loop.append(LogisticRegression(C=Cs[number]).fit(X, y))
        print(f"scikit-learn: C = {Cs[number]:.3g}, {time.perf_counter() - begun:.0f} s so far", flush=True)
    other = (time.perf_counter() - begun) * len(Cs) / len(chosen)
    print(f"scikit-learn: {other:.0f} s ({len(chosen)} of {len(Cs)} values timed, and scaled)", flush=True)
    exact = X.astype(np.float64)
    del X
    for number, reference in list(zip(chosen, loop, strict=True))[-CERTIFIED:]:
        gaps = [
            softmax_gap(exact, y, Cs[number], np.float64(one.coef_), np.float64(one.intercept_))
            for one in (fitted[number], reference)
        ]
        print(f"C = {Cs[number]:.3g}: certified gap {gaps[0]:.1e}; scikit-learn's {gaps[1]:.1e}", flush=True)
    print(f"ratio: {other / own:.1f}")


if __name__ == "__main__":
    main()
