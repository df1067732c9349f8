"""Why a file is not used, and within which limits an image has to be."""

from features.errors import Unreadable

MAX_PIXELS = 120_000_000  # phones reach 108 megapixels; a 20 kB file can claim 169
MAX_BYTES = 2 << 30  # twice what so many take in 16 bits with transparency; a film called .jpg has more
MIN_SIDE = 4  # pixels; below, nothing but noise would be enlarged
MAX_ASPECT = 20  # beyond, the centre crop is a sliver of a huge resized image


def check_bytes(count: int) -> None:
    """Raise Unreadable for a file of more bytes than are read into memory; to be asked before they are."""
    if count > MAX_BYTES:
        most = MAX_BYTES >> 30
        raise Unreadable(
            f"{count / (1 << 30):,.1f} GiB, and files of up to {most} GiB are read; save it smaller"
        )


def check_size(size: tuple[int, int]) -> None:
    """Raise Unreadable where (width, height) is beyond the limits."""
    width, height = size
    if width * height > MAX_PIXELS:
        raise Unreadable(f"{width} × {height} is more than {MAX_PIXELS // 1_000_000} megapixels")
    if min(size) < MIN_SIDE:
        raise Unreadable(f"{width} × {height}: a side is shorter than {MIN_SIDE} pixels")
    if max(size) > MAX_ASPECT * min(size):
        raise Unreadable(f"{width} × {height}: one side is more than {MAX_ASPECT} times the other")
