"""All suspects and near-duplicates as tables beside the page, which has room for some."""

from pathlib import Path

from features.manifest import Manifest, write_csv
from pipeline.inspection.duplicates import Duplicates
from pipeline.inspection.suspects import Suspect

SUSPECTS = ("path", "split", "label", "neighbours_say", "share", "share_of_label", "head_says", "sure")
PAIRS = ("path", "split", "label", "train_path", "train_label", "similarity", "correlation")


def write_tables(
    folder: Path, manifest: Manifest, suspects: list[Suspect], duplicates: Duplicates | None
) -> None:
    """Write `suspects.csv` and `duplicates.csv`; only their headings where there are none."""
    rows = manifest.rows
    named = [
        (
            rows[one.row].path, rows[one.row].split, rows[one.row].label, one.says, f"{one.share:.3f}",
            f"{one.given:.3f}", one.head_says or "", "" if one.sure is None else f"{one.sure:.3f}",
        )
        for one in suspects
    ]  # fmt: skip
    write_csv(folder / "suspects.csv", SUSPECTS, named)
    pairs = [
        (
            rows[pair.row].path, rows[pair.row].split, rows[pair.row].label, rows[pair.train].path,
            rows[pair.train].label, f"{pair.similarity:.4f}", f"{pair.correlation:.4f}",
        )
        for pair in (duplicates.pairs if duplicates else ())
    ]  # fmt: skip
    write_csv(folder / "duplicates.csv", PAIRS, pairs)
