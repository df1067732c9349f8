"""Row numbers as users give them, with NumPy's meaning or a refusal.

positions([3, -1], len(store), "fc7.zarr")      # (2,) intp, none of them negative
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput

Positions = NDArray[np.intp]  # row numbers


def positions(asked: Any, n: int, what: object) -> Positions:
    """Turn what is asked for into (m,) row numbers from 0 to n - 1.

    Parameters
    ----------
    asked : (m,) whole numbers, (n,) bool, or a slice
        Negative numbers count from the end, as NumPy has it; in any order, and as often as they are named.
    what : object
        What is asked, for the sentence.

    Raises
    ------
    BadInput
        For numbers beyond the rows, and for anything else: fractions, single numbers, tables.
    """
    array = array_of(asked, n, what)
    if array.dtype == np.bool_ and array.shape == (n,):
        return np.flatnonzero(array)
    if array.ndim == 1 and not len(array):
        return np.zeros(0, np.intp)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise BadInput(
            f"{what}: rows are asked for by whole numbers (m,), one bool for each of {n} rows, or a slice, "
            f"not by {type(asked).__name__} {array.shape} {array.dtype}"
        )
    low, high = int(array.min()), int(array.max())
    if low < -n or high >= n:
        raise BadInput(f"{what} has rows 0 to {n - 1}; asked were {low} to {high}")
    array = array.astype(np.intp)
    return np.where(array < 0, array + n, array)


def array_of(asked: Any, n: int, what: object) -> NDArray[Any]:
    """What is asked for as an array; BadInput for what is none, and where values are masked."""
    if np.ma.is_masked(asked):  # `asarray` would take what is behind the mask
        raise BadInput(f"{what}: masked values name no rows; leave them out, as `compressed()` does")
    try:
        return np.arange(n)[asked] if isinstance(asked, slice) else np.asarray(asked)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: of a tensor with a gradient
        raise BadInput(f"{what}: {asked!r} names no rows ({error})") from None


def view_of(view: Any, views: int, what: object) -> int:
    """Check a view's number, from 0 on; BadInput where there is none of that number."""
    if isinstance(view, bool | np.bool_) or not isinstance(view, int | np.integer) or not 0 <= view < views:
        there = f"views 0 to {views - 1}" if views > 1 else "a single view, 0"
        raise BadInput(f"{what} has {there}; asked was {view!r}")
    return int(view)
