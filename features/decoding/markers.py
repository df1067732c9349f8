"""What the markers of a JPEG say of its picture and of its scans.

    header = header_of(data)
    is_complete(header, body)   # whether every scan has begun, and the last has its restarts

References: ITU-T T.81, B.1.1.3 (markers), A.2 (order of blocks) and G.1.1 (progressive scans).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from features.errors import Unreadable

EOI = b"\xff\xd9"
PROGRESSIVE = 0xC2
_SOS, _DRI, _RESTART = b"\xff\xda", b"\xff\xdd", re.compile(rb"\xff[\xd0-\xd7]")
_NO_FRAMES = (0xC4, 0xC8, 0xCC)  # DHT, JPG, DAC
_JPEG_LS = 0xF7


@dataclass(frozen=True)
class Header:
    """What stands before the first scan.

    Attributes
    ----------
    frame : int
        The marker that begins the frame: how the picture is coded.
    sampling : bytes
        Of each component: across and down, in the upper and the lower half.
    restarts : int
        After how many units of a scan decoding restarts; 0 for never.
    zeros_are_flat : bool
        Whether a run of zeros is what an even surface becomes.
    scan : int
        Where the first scan's marker lies.
    """

    frame: int
    bits: int
    width: int
    height: int
    components: bytes  # their identifiers
    sampling: bytes
    adobe: bool
    restarts: int
    zeros_are_flat: bool
    scan: int

    def blocks(self, components: bytes) -> int:
        """How many units a scan of these components has: blocks of one, or interleaved groups."""
        across, down = (max(each >> 4 for each in self.sampling), max(each & 15 for each in self.sampling))
        if len(components) > 1:
            return ceil(self.width / (8 * across)) * ceil(self.height / (8 * down))
        own = self.sampling[self.components.index(components)]
        wide, high = ceil(self.width * (own >> 4) / across), ceil(self.height * (own & 15) / down)
        return ceil(wide / 8) * ceil(high / 8)


@dataclass(frozen=True)
class Scan:
    """Which coefficients of which components a scan brings, and down to which bit."""

    components: bytes
    first: int
    last: int
    bit: int
    at: int


def header_of(data: bytes) -> Header:
    """Walk the segments up to the first scan.

    Raises
    ------
    Unreadable
        Where there is none.
    """
    frame, adobe, restarts, flat, at = b"", False, 0, False, 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # stuffing, or without a length
            at += 1 if marker == 0xFF else 2
            continue
        segment = data[at + 4 : at + 2 + length]
        if marker == _SOS[1] and len(frame) >= 10:
            height, width = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
            parts = frame[7::3], frame[8::3]
            return Header(frame[0], frame[1], width, height, *parts, adobe, restarts, flat, at)
        if (0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES) or marker == _JPEG_LS:
            frame = bytes([marker]) + segment
        adobe = adobe or (marker == 0xEE and segment.startswith(b"Adobe"))
        restarts = int.from_bytes(segment[:2], "big") if marker == _DRI[1] else restarts
        flat = flat or (marker == 0xC4 and _ends_blocks(segment))
        at += 2 + length
    raise Unreadable("cannot be decoded (the JPEG ends before its picture begins)")


def _ends_blocks(tables: bytes) -> bool:
    """Whether the code of nothing but zeros says that the rest of a block is 0."""
    at = 0
    while at + 17 < len(tables):
        if tables[at] == 0x10 and tables[at + 17] == 0:  # AC, brightness: its shortest code is zeros only
            return True
        at += 17 + sum(tables[at + 1 : at + 17])
    return False


def is_single(header: Header, body: bytes) -> bool:
    """Whether one scan brings all there is."""
    return header.frame != PROGRESSIVE and _scan(body, header.scan).components == header.components


def is_complete(header: Header, body: bytes) -> bool:
    """Whether every coefficient of a picture of several scans has its scan, and the last one its restarts."""
    scans = list(_scans(body, header.scan))
    if _restarts_missing(header, body, scans[-1]):
        return False
    if header.frame != PROGRESSIVE:
        return set(header.components) == {one for scan in scans for one in scan.components}
    missing = {(component, at) for component in header.components for at in range(64)}
    for scan in scans:
        if not scan.bit:
            missing -= {(one, at) for one in scan.components for at in range(scan.first, scan.last + 1)}
    return not missing


def _restarts_missing(header: Header, body: bytes, last: Scan) -> bool:
    told = body.rfind(_DRI, header.scan, last.at)
    interval = header.restarts if told < 0 else int.from_bytes(body[told + 4 : told + 6], "big")
    if not interval:
        return False
    return len(_RESTART.findall(body, last.at)) < (header.blocks(last.components) - 1) // interval


def _scans(body: bytes, at: int) -> Iterator[Scan]:
    while at >= 0:
        yield _scan(body, at)
        at = body.find(_SOS, at + 2)


def _scan(body: bytes, at: int) -> Scan:
    segment = body[at + 4 : at + 2 + int.from_bytes(body[at + 2 : at + 4], "big")]
    count = segment[0] if segment else 0
    first, last, bits = segment[1 + 2 * count : 4 + 2 * count].ljust(3, b"\0")
    return Scan(segment[1 : 1 + 2 * count : 2], first, last, bits & 15, at)
