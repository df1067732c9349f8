"""JPEG: whole pictures only, and what its markers say.

    image, notes = read(data)

libjpeg fills what is missing with grey as soon as it meets the marker that ends the
file, and says so in a warning that Pillow does not pass on. So that marker is withheld: a
picture that is whole is finished without it, one that is not asks for more.
"""

from collections.abc import Iterator
from io import BytesIO

from PIL import Image, ImageFile

from features.decoding.limits import check_size
from features.decoding.markers import EOI, Header, header_of, is_complete, is_single
from features.errors import Unreadable

_PADDING = b"\xff\0"  # eight bits of 1, which no short code begins with; 0xFF is written so in data
_AHEAD = 9  # libjpeg reads ahead by up to 8 bytes
_HOLE = bytes(512)  # a sector of zeros
_EXCESS = bytes(16)
_FRAMES = {
    0xC3: "a lossless JPEG", 0xC5: "a hierarchical JPEG", 0xC6: "a hierarchical JPEG",
    0xC7: "a hierarchical JPEG", 0xCB: "a lossless JPEG", 0xCD: "a hierarchical JPEG",
    0xCE: "a hierarchical JPEG", 0xCF: "a hierarchical JPEG", 0xF7: "JPEG-LS",
}  # fmt: skip
_HUFFMAN = (0xC0, 0xC1, 0xC2)
_CUT = "cannot be decoded (its data end before the picture does)"


def read(data: bytes, at_least: int = 0) -> tuple[Image.Image, list[str]]:
    """Read the picture, and what should be said of it; for `at_least` see `decode`.

    Raises
    ------
    Unreadable
        For kinds that are not read, incomplete pictures, and beyond the size limits.
    OSError, SyntaxError
        Damaged data, as Pillow raises them.
    """
    header = header_of(data)
    if header.frame in _FRAMES or header.bits != 8:
        what = _FRAMES.get(header.frame, f"a JPEG of {header.bits} bits")
        raise Unreadable(f"{what}, which is not read; save it as an ordinary JPEG or PNG")
    body = _body(data, header.scan)
    image = _loaded(body if header.frame in _HUFFMAN else data, header, at_least)
    if body.endswith(_EXCESS * 2) and _is_whole(body[: -len(_EXCESS)], header):
        raise Unreadable("cannot be decoded (its data end in zeros, which are no part of the picture)")
    return image, list(_notes(header, body))


def _loaded(body: bytes, header: Header, at_least: int) -> Image.Image:
    """Load a whole picture, or raise Unreadable where a part of it is missing."""
    huffman = header.frame in _HUFFMAN
    with Image.open(BytesIO(body + _PADDING * _AHEAD if huffman else body), formats=["JPEG"]) as image:
        check_size(image.size)
        image.seek(0)
        if at_least:
            image.draft(None, (at_least, at_least))
        if huffman:
            _load_whole(image, body, header)
        image.load()
        return image


def _is_whole(body: bytes, header: Header) -> bool:
    try:
        _loaded(body, header, at_least=0)
    except Unreadable:
        return False
    return True


def _body(data: bytes, scan: int) -> bytes:
    """Everything before the marker that ends the picture, or what zeros at the end have left."""
    end = data.find(EOI, scan)
    if end < 0:
        end = min(len(data), len(data.rstrip(b"\0")) + 2)
    return data[:end].rstrip(b"\xff")


def _notes(header: Header, body: bytes) -> Iterator[str]:
    if len(header.components) == 4 and not header.adobe:
        yield "CMYK without Adobe's marker: its values are taken for inverted ones, as Adobe writes them"
    if not header.zeros_are_flat and body.find(_HOLE, header.scan) >= 0:
        yield "its data hold a run of zeros: a part of the picture may be missing"


def _load_whole(image: ImageFile.ImageFile, body: bytes, header: Header) -> None:
    """Load the picture, or raise Unreadable where a part of it is missing."""
    if is_single(header, body):
        try:
            image.load()
        except OSError as error:
            raise Unreadable(_CUT if "truncated" in str(error) else f"cannot be decoded ({error})") from error
    elif not is_complete(header, body) or not _absorbed(image, body):
        raise Unreadable(_CUT)


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
    for more in (b"", *[_PADDING] * (_AHEAD + 2)):
        rest += more
        consumed, error = decoder.decode(rest)
        if consumed < 0:
            raise OSError(f"decoder error {error}")
        rest = rest[consumed:]
        left.append(len(rest))
    decoder.decode(rest + EOI)
    image.tile = []  # nothing is left to be loaded
    return not any(left[-2:])
