"""All intervals and tests of a comparison, against scipy's BCa bootstrap in a loop.

    python -m benchmarks.compare

Twenty methods on 10,000 test rows, 10,000 resamples: five scores each with its interval, differences
from a baseline, McNemar's and permutation tests. scipy bootstraps one column of values at a time
(`scipy.stats.bootstrap`, vectorised, in batches): top-1 of `--timed` methods is timed, and scaled to
the means alone that ours resamples: top-1, log-loss, Brier and two differences of every method. It
does not stratify, and macro F1 and the calibration error are not asked of it.
"""

import argparse
import time

import numpy as np
from scipy import stats
from scipy.special import softmax

from pipeline.comparison.bootstrap import bootstrap
from pipeline.records.predictions import Predictions
from pipeline.statistics import metrics

LIMIT = 20  # seconds, the target on two cores
MEANS = 5  # per method: three scores and two differences


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--methods", type=int, default=20)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--timed", type=int, default=1, help="of scipy's columns")
    options = parser.parse_args()
    methods = drawn(options.methods, options.rows, options.classes)
    begun = time.perf_counter()
    found = bootstrap(methods, resamples=options.resamples, seed=0)
    intervals = [each.interval for one in found for each in one.values()]
    intervals += [(one[key] - found[0][key]).interval for one in found[1:] for key in ("top1", "log_loss")]
    label = methods[0].label
    losses = [metrics.log_losses(each.proba, label) for each in methods]
    columns = np.stack([loss - losses[0] for loss in losses[1:]], axis=1)
    metrics.holm(metrics.permutation(columns, resamples=options.resamples, seed=0))
    metrics.holm([metrics.mcnemar(each.correct, methods[0].correct) for each in methods[1:]])
    own = time.perf_counter() - begun
    begun = time.perf_counter()
    for each, one in zip(methods[: options.timed], found, strict=False):
        theirs = stats.bootstrap(
            (each.correct.astype(float),), np.mean, n_resamples=options.resamples, batch=200, rng=0
        ).confidence_interval
        print(f"top-1, ours {one['top1'].interval[1:]}, scipy's {theirs.low:.6f}, {theirs.high:.6f}")
    other = (time.perf_counter() - begun) / options.timed * options.methods * MEANS
    size = f"{options.methods} methods × {options.rows:,} rows × {options.resamples:,} resamples"
    print(f"penultimate: {own:.1f} s for {len(intervals)} intervals and the tests; {size}, target {LIMIT} s")
    print(f"scipy: {other:.1f} s ({options.timed} of {options.methods * MEANS} columns timed, and scaled)")
    print(f"ratio: {other / own:.1f}")


def drawn(methods: int, rows: int, classes: int) -> list[Predictions]:
    """Methods of rising skill, answering the same rows."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, classes, rows).astype(np.int32)
    names, ids = np.arange(classes).astype(str), np.arange(rows).astype(str)
    found = []
    for skill in np.linspace(2, 4, methods):
        scores = rng.normal(size=(rows, classes)).astype(np.float32)
        scores[np.arange(rows), label] += skill
        found.append(Predictions(ids, label, softmax(scores, axis=1), names))
    return found


if __name__ == "__main__":
    main()
