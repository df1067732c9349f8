"""A grid of 5 × 4 RBF-SVMs, against scikit-learn's SVC in a loop.

    python -m benchmarks.kernel --store artifacts/features/fc7.zarr

C of 0.1 to 1000 and gamma of 0.1 to 3 (in units of scikit-learn's `scale`), fitted on the store's
train rows and scored on its validation and test rows, L2-normalised. `--cells` of scikit-learn's 20
are timed, spread over the grid, and scaled; their answers are compared one by one.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.svm import SVC

from benchmarks.cached import cached, normalised
from pipeline.heads.kernel import RbfSVM

C = (0.1, 1.0, 10.0, 100.0, 1000.0)
GAMMA = (0.1, 0.3, 1.0, 3.0)


def main() -> None:
    """Measure, compare answers and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--store", type=Path, help="a published feature store; a stand-in without it")
    parser.add_argument("--rows", type=int, default=3068)
    parser.add_argument("--cells", type=int, default=5, help="of scikit-learn's 20")
    options = parser.parse_args()
    if options.store:
        X, y, words = cached(options.store, options.rows)
        new, _, _ = cached(options.store, 10**6, ("validation", "test"))
    else:
        X, y, words = cached(None, options.rows + 700)
        X, new, y = X[: options.rows], X[options.rows :], y[: options.rows]
    X, new = normalised(X), normalised(new)
    print(f"{words}, {len(X):,} × {X.shape[1]:,}, {y.max() + 1} classes; {len(new)} new rows")
    begun = time.perf_counter()
    answers = {}
    for point, head in RbfSVM.path(X, y, {"C": C, "gamma": GAMMA}):
        answers[point["C"], point["gamma"]] = head.predict(new)
    own = time.perf_counter() - begun
    cells = [(c, gamma) for gamma in GAMMA for c in C]
    chosen = cells[:: len(cells) // options.cells][: options.cells]
    begun, differing = time.perf_counter(), 0
    for c, gamma in chosen:
        reference = SVC(C=c, gamma=gamma / (X.shape[1] * X.var(dtype=np.float64)), break_ties=True).fit(X, y)
        differing += int((reference.predict(new) != answers[c, gamma]).sum())
    other = (time.perf_counter() - begun) * len(cells) / len(chosen)
    print(f"penultimate: {own:.1f} s for {len(cells)} cells, fitted and scored")
    print(f"scikit-learn: {other:.1f} s ({len(chosen)} of {len(cells)} cells timed, and scaled)")
    print(f"answers that differ: {differing} of {len(chosen) * len(new)}")
    print(f"ratio: {other / own:.1f}")


if __name__ == "__main__":
    main()
