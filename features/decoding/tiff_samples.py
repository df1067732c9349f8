"""A TIFF's samples as they are stored, for what Pillow has no mode.

    values = samples(data, layout)  # (height, width, samples) uint8 or uint16

Every plane's rows are read as if they were a grey picture of bytes: libtiff, through
Pillow, undoes the compression, and nothing interprets the numbers.
"""

import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from features.decoding.tiff_layout import Layout, numbers
from features.errors import Unreadable

Values = NDArray[np.unsignedinteger[Any]]

MOST_BYTES = 2 * 89_478_485  # of a plane: Pillow refuses more pixels
_LONG = 4  # the type of a tag's values


def samples(data: bytes, layout: Layout) -> Values:
    """Read all samples, (height, width, samples), as unsigned integers of the layout's bits.

    Raises
    ------
    Unreadable
        For more than fits.
    OSError, ValueError
        Damaged data, as Pillow raises them.
    """
    planes = layout.samples if layout.planar else 1
    within = layout.samples // planes
    rows = [_unpacked(_bytes(data, layout, plane, planes), layout, within) for plane in range(planes)]
    return np.concatenate(rows, axis=2)


def _bytes(data: bytes, layout: Layout, plane: int, planes: int) -> NDArray[np.uint8]:
    """One plane's rows as bytes: the file again, with a directory that says grey of 8 bits."""
    bits = layout.bits[0] * (layout.samples // planes)
    tiled = 322 in layout.tags
    row = -(-layout.width * bits // 8)
    if row * layout.height > MOST_BYTES:
        raise Unreadable("a TIFF of a kind that is read only where it is smaller")
    tags: dict[int, Sequence[int]] = {
        256: [row], 257: [layout.height], 258: [8], 259: [layout.compression], 262: [1], 277: [1],
        266: [layout.fill_order],
    }  # fmt: skip
    if tiled:
        tags |= {322: [-(-numbers(layout.tags, 322, ())[0] * bits // 8)], 323: numbers(layout.tags, 323, ())}
    else:
        tags[278] = [min(numbers(layout.tags, 278, (layout.height,))[0], layout.height)]
    for tag in (324, 325) if tiled else (273, 279):
        of_all = numbers(layout.tags, tag, ())
        each = len(of_all) // planes
        tags[tag] = of_all[plane * each : (plane + 1) * each]
    head = (b"II*\0" if layout.order == "<" else b"MM\0*") + struct.pack(layout.order + "I", len(data))
    with Image.open(
        BytesIO(head + data[8:] + _directory(tags, len(data), layout.order)), formats=["TIFF"]
    ) as image:
        return np.asarray(image)


def _directory(tags: dict[int, Sequence[int]], offset: int, order: str) -> bytes:
    entries, after = b"", b""
    start = offset + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            packed, after = struct.pack(order + "I", start + len(after)), after + packed
        entries += struct.pack(order + "HHI", tag, _LONG, len(values)) + packed
    return struct.pack(order + "H", len(tags)) + entries + b"\0\0\0\0" + after


def _unpacked(rows: NDArray[np.uint8], layout: Layout, within: int) -> Values:
    """(height, bytes of a row) → (height, width, samples within the plane)."""
    bits = layout.bits[0]
    shape = (layout.height, layout.width, within)
    if bits in (8, 16):
        values = rows.view(np.dtype(f"{layout.order}u{bits // 8}")).reshape(shape)
        return _summed(values.astype(np.uint8 if bits == 8 else np.uint16), layout)
    single = np.unpackbits(rows, axis=1)[:, : layout.width * within * bits].reshape(*shape, bits)
    return single @ (1 << np.arange(bits - 1, -1, -1, dtype=np.uint16))  # the highest bit comes first


def _summed(values: Values, layout: Layout) -> Values:
    """Undo the horizontal predictor: each tile's rows hold differences."""
    if layout.predictor != 2:
        return values
    width = numbers(layout.tags, 322, (layout.width,))[0]
    parts = [
        np.cumsum(values[:, at : at + width], axis=1, dtype=values.dtype)
        for at in range(0, layout.width, width)
    ]
    return np.concatenate(parts, axis=1)
