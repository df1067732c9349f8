"""JPEG: whole pictures only, and what its markers say.

    image, notes = read(data)

libjpeg fills what is missing with grey and says so in a warning that Pillow does not
pass on, as soon as it meets the marker that ends the file. So that marker is withheld: a
picture that is whole is finished without it, one that is not asks for more.

References: ITU-T T.81, B.1.1.3 (markers) and G (progressive); Adobe's APP14.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageFile

from features.decoding.limits import Unreadable, check_size

EOI, SOS = b"\xff\xd9", b"\xff\xda"
_PADDING = b"\x5a" * 9  # libjpeg reads ahead by up to 8 bytes
_HOLE = bytes(512)  # a sector of zeros
_FRAMES = {
    0xC3: "a lossless JPEG", 0xC5: "a hierarchical JPEG", 0xC6: "a hierarchical JPEG",
    0xC7: "a hierarchical JPEG", 0xCB: "a lossless JPEG", 0xCD: "a hierarchical JPEG",
    0xCE: "a hierarchical JPEG", 0xCF: "a hierarchical JPEG", 0xF7: "JPEG-LS",
}  # fmt: skip
_HUFFMAN, _PROGRESSIVE = (0xC0, 0xC1, 0xC2), 0xC2
_NO_FRAMES = (0xC4, 0xC8, 0xCC)  # DHT, JPG, DAC
_CUT = "cannot be decoded (its data end before the picture does)"


@dataclass(frozen=True)
class Header:
    """What stands before the first scan.

    Attributes
    ----------
    frame : int
        The marker that begins the frame: how the picture is coded.
    scan : int
        Where the first scan's marker lies.
    """

    frame: int
    bits: int
    components: bytes  # their identifiers
    adobe: bool
    scan: int


@dataclass(frozen=True)
class Scan:
    """Which coefficients of which components a scan brings, and down to which bit."""

    components: bytes
    first: int
    last: int
    bit: int


def read(data: bytes, at_least: int = 0) -> tuple[Image.Image, list[str]]:
    """Read the picture, and what should be said of it; for `at_least` see `decode`.

    Raises
    ------
    Unreadable
        For kinds that are not read, incomplete pictures, and beyond the size limits.
    OSError, SyntaxError
        Damaged data, as Pillow raises them.
    """
    header = _header(data)
    if header.frame in _FRAMES or header.bits != 8:
        what = _FRAMES.get(header.frame, f"a JPEG of {header.bits} bits")
        raise Unreadable(f"{what}, which is not read; save it as an ordinary JPEG or PNG")
    body = _body(data, header.scan)
    image = Image.open(BytesIO(body + _PADDING if header.frame in _HUFFMAN else data), formats=["JPEG"])
    with image:
        check_size(image.size)
        image.seek(0)
        if at_least:
            image.draft(None, (at_least, at_least))
        if header.frame in _HUFFMAN:
            _load_whole(image, body, header)
        image.load()
        return image, list(_notes(header, body))


def _header(data: bytes) -> Header:
    """Walk the segments up to the first scan."""
    frame = bits = 0
    components, adobe, at = b"", False, 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # stuffing, or without a length
            at += 1 if marker == 0xFF else 2
            continue
        segment = data[at + 4 : at + 2 + length]
        if marker == SOS[1] and frame:
            return Header(frame, bits, components, adobe, at)
        if (0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES) or marker == 0xF7:
            if len(segment) < 6:
                break
            frame, bits, components = marker, segment[0], segment[6::3]
        adobe = adobe or (marker == 0xEE and segment.startswith(b"Adobe"))
        at += 2 + length
    raise Unreadable("cannot be decoded (the JPEG ends before its picture begins)")


def _body(data: bytes, scan: int) -> bytes:
    """Everything before the marker that ends the picture, or what zeros at the end have left."""
    end = data.find(EOI, scan)
    if end < 0:
        end = min(len(data), len(data.rstrip(b"\0")) + 8)
    return data[:end].rstrip(b"\xff")


def _notes(header: Header, body: bytes) -> Iterator[str]:
    if len(header.components) == 4 and not header.adobe:
        yield "CMYK without Adobe's marker: its values are taken for inverted ones, as Adobe writes them"
    if body.find(_HOLE, header.scan) >= 0:
        yield "its data hold a run of zeros: a part of the picture may be missing"


def _load_whole(image: ImageFile.ImageFile, body: bytes, header: Header) -> None:
    """Load the picture, or raise Unreadable where a part of it is missing."""
    if header.frame != _PROGRESSIVE and _scan(body, header.scan).components == header.components:
        try:
            image.load()
        except OSError as error:
            raise Unreadable(_CUT if "truncated" in str(error) else f"cannot be decoded ({error})") from error
    elif not _finished(list(_scans(body, header.scan)), header) or not _absorbed(image, body):
        raise Unreadable(_CUT)


def _scans(body: bytes, at: int) -> Iterator[Scan]:
    while at >= 0:
        yield _scan(body, at)
        at = body.find(SOS, at + 2)


def _scan(body: bytes, at: int) -> Scan:
    segment = body[at + 4 : at + 2 + int.from_bytes(body[at + 2 : at + 4], "big")]
    count = segment[0] if segment else 0
    first, last, bits = segment[1 + 2 * count : 4 + 2 * count].ljust(3, b"\0")
    return Scan(segment[1 : 1 + 2 * count : 2], first, last, bits & 15)


def _finished(scans: list[Scan], header: Header) -> bool:
    """Whether every coefficient has come, to its last bit."""
    if header.frame != _PROGRESSIVE:
        return set(header.components) == {one for scan in scans for one in scan.components}
    missing = {(component, at) for component in header.components for at in range(64)}
    for scan in scans:
        if not scan.bit:
            missing -= {(one, at) for one in scan.components for at in range(scan.first, scan.last + 1)}
    return not missing


def _absorbed(image: ImageFile.ImageFile, body: bytes) -> bool:
    """Load a picture of several scans, and tell whether the last of them is whole.

    libjpeg takes in all scans before it gives a line. Once it has the last, it passes over bytes up to
    the next marker one by one; in the middle of it, it leaves them until they complete a block.
    """
    ((codec, extents, _, args),) = image.tile
    image.load_prepare()
    decoder = Image._getdecoder(image.mode, codec, args, image.decoderconfig)
    decoder.setimage(image.im, extents)
    left, rest = [], body
    for more in (b"", *(_PADDING[at : at + 1] for at in range(len(_PADDING))), b"\x5a", b"\x5a"):
        rest += more
        consumed, error = decoder.decode(rest)
        if consumed < 0:
            raise OSError(f"decoder error {error}")
        rest = rest[consumed:]
        left.append(len(rest))
    decoder.decode(rest + EOI)
    image.tile = []  # nothing is left to be loaded
    return not any(left[-2:])
