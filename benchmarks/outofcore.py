"""Logistic regression on 200,000 × 4,096 rows that are read from a store, within 2 GB of memory.

    python -m benchmarks.outofcore

A published store of float16 is written to a temporary folder first (1.6 GB on disk). A process
of its own fits the path with a limit of 2 GB on its private memory (RLIMIT_DATA); pages of the mapped
file that rows are unpacked to (3.3 GB more) are the system's to keep or drop, and are not counted: where
it drops them, the disk's speed counts. Compared is the time per row and column of all products with the
features with the same on `--held` rows in memory. The ratio printed last is in-memory's over the
store's: 0.5 and above is within a factor of two.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

from pipeline.heads.linear import schedule
from pipeline.heads.linear.estimators import LogReg
from pipeline.heads.linear.weight_space import WeightSpace
from pipeline.heads.normalisation import Normalisation

WIDTH, CLASSES, LIMIT = 4096, 10, 2 * 10**9
ROWS_PER_SHARD = 16_384
CS = tuple(np.logspace(-4, -2, 9).tolist())


def write(folder: Path, rows: int) -> None:
    """Write a stand-in for fc7 as stores are laid out: shards of chunks, zstd, float16."""
    array = zarr.create_array(
        str(folder / "fc7"), shape=(rows, WIDTH), chunks=(1024, WIDTH), shards=(ROWS_PER_SHARD, WIDTH),
        dtype="float16", fill_value=np.nan, compressors=zarr.codecs.ZstdCodec(level=1, checksum=True),
    )  # fmt: skip
    mix = np.random.default_rng(0).standard_normal((200, WIDTH), dtype=np.float32)
    for start in range(0, rows, ROWS_PER_SHARD):
        rng = np.random.default_rng([1, start])
        inner = rng.standard_normal((min(ROWS_PER_SHARD, rows - start), 200), dtype=np.float32)
        inner /= np.sqrt(1 + np.arange(200, dtype=np.float32))
        inner[:, :CLASSES] += (
            0.4 * np.eye(CLASSES, dtype=np.float32)[labels(rows)[start : start + len(inner)]]
        )
        array[start : start + len(inner)] = np.maximum(inner @ mix, 0)


def labels(rows: int) -> np.ndarray:
    """Class numbers."""
    return np.random.default_rng(2).integers(0, CLASSES, rows)


def fit(folder: Path, rows: int, held: int) -> dict[str, float]:
    """Fit on the whole store, or on `held` rows in memory; seconds and bytes."""
    import dask.array  # noqa: PLC0415 - the parent process needs none of it

    stored = dask.array.from_zarr(zarr.open_array(str(folder / "fc7"), mode="r"), chunks=(2048, WIDTH))
    X = stored.astype(np.float32)
    y = labels(rows)
    if held:
        X, y = X[:held].compute(), y[:held]
    normalise = Normalisation("l2").fit(X)
    counted = {"rows": 0, "columns": 0, "seconds": 0.0}
    for name in ("lift", "scores"):
        timed(name, counted)
    begun = time.perf_counter()
    heads = [head for _, head in LogReg.path(normalise(X), y, {"C": CS, "tol": 1e-3})]
    return {
        "seconds": time.perf_counter() - begun,
        "converged": sum(head.converged_ for head in heads),
        "passes": counted["rows"] / len(y),
        "columns": counted["columns"],
        "row_column_nanoseconds": 1e9 * counted["seconds"] / (counted["columns"] * len(y)),
        "row_pass_microseconds": 1e6 * counted["seconds"] / counted["rows"],
    }


def timed(name: str, counted: dict[str, float]) -> None:
    """Count what a product with the features reads and takes."""
    product = getattr(WeightSpace, name)

    def measured(self: WeightSpace, columns: object) -> object:
        begun = time.perf_counter()
        result = product(self, columns)
        counted["seconds"] += time.perf_counter() - begun
        counted["rows"] += self.n
        counted["columns"] += columns.shape[0] * columns.shape[1]  # type: ignore[attr-defined]
        return result

    setattr(WeightSpace, name, measured)


def main() -> None:
    """Write, measure in processes of their own, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--held", type=int, default=40_000, help="rows in memory to compare with")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        if not options.child:
            resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
            schedule.BYTES = 2**29  # columns side by side, within the limit
        print(json.dumps(fit(options.folder, options.rows, options.child)))
        return
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), options.rows)
        found = []
        for held in (0, options.held):
            command = [sys.executable, "-m", "benchmarks.outofcore", f"--folder={name}"]
            command += [f"--rows={options.rows}", f"--child={held}"]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.append(json.loads(out.splitlines()[-1]))
            where = f"{held:,} rows in memory" if held else f"{options.rows:,} rows from the store, 2 GB"
            print(f"{where}: {found[-1]}", flush=True)
    print(f"ratio: {found[1]['row_column_nanoseconds'] / found[0]['row_column_nanoseconds']:.2f}")


if __name__ == "__main__":
    main()
