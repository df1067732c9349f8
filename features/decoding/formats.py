"""Which formats there are: those that are read, and what else a file can be.

    Path(name).suffix.lower() in EXTENSIONS       # it is read
    Path(name).suffix.lower() in OTHER_EXTENSIONS  # an image, but not of a kind that is read
    kind(head)  # "JPEG", "HEIC", "a web page", or "" where nothing is known

References: the formats' own first bytes, https://www.iana.org/assignments/media-types and
ISO/IEC 14496-12 (`ftyp`).
"""

import re
from importlib.util import find_spec

from PIL import features as pillow

HEAD = 4096  # bytes of a file that `kind` has use for

# Pillow's names, an explicit list: it would otherwise also open EPS, which starts Ghostscript.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
# What `kind` calls it → the name of its reader; those not in FORMATS are read where they are `installed`
READ = {
    "JPEG": "JPEG", "PNG": "PNG", "GIF": "GIF", "BMP": "BMP", "TIFF": "TIFF", "WebP": "WEBP", "PNM": "PPM",
    "HEIC": "HEIF", "HEIF": "HEIF", "AVIF": "AVIF", "JPEG 2000": "JPEG2000",
}  # fmt: skip

_ALWAYS = ".jpg .jpeg .jpe .jfif .png .gif .bmp .tif .tiff .webp .ppm .pgm .pbm .pnm .mpo"
_SOMETIMES = {
    "HEIF": ".heic .heif .hif .heics .heifs",
    "AVIF": ".avif .avifs",
    "JPEG2000": ".jp2 .j2k .j2c .jpc .jpf .jpx",
}
_NEVER = (
    ".jxl .jls .jxr .wdp .hdp .ljpg .jpm .jng .mng .apng .dib .pam .pfm .qoi .bpg .flif "  # pictures
    ".tga .ico .cur .icns .pcx .dds .ras .sgi .xbm .xpm .btf .tf8 .svs .ndpi .vsi .czi .lsm "
    ".svg .svgz .eps .wmf .emf .psd .psb .xcf .kra .djvu .djv "
    ".exr .hdr .dcm .dicom .nii .mha .mhd .nrrd .fits .fit "  # of science
    ".raw .dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .srw .x3f .3fr .fff .iiq "
    ".mrw .dcr .kdc .erf .mef .rwl .gpr"  # of cameras
)


def installed(name: str) -> bool:
    """Whether "HEIF", "AVIF" or "JPEG2000", which are read on some machines only, is read on this one."""
    if name == "HEIF":
        return find_spec("pillow_heif") is not None
    return bool(pillow.check({"AVIF": "avif", "JPEG2000": "jpg_2000"}[name]))


EXTENSIONS = frozenset(_ALWAYS.split()).union(
    *(extensions.split() for name, extensions in _SOMETIMES.items() if installed(name))
)
OTHER_EXTENSIONS = frozenset(_NEVER.split()).union(*map(str.split, _SOMETIMES.values())) - EXTENSIONS

# (where, the bytes there, what the file is); the first that fits
_PICTURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff\xf7", "JPEG-LS"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (8, b"WEBPVP8", "WebP"),
    (8, b"CR\x02\x00", "Canon RAW (CR2)"),
    (0, b"IIRO", "Olympus RAW (ORF)"),
    (0, b"IIRS", "Olympus RAW (ORF)"),
    (0, b"MMOR", "Olympus RAW (ORF)"),
    (0, b"IIU\0", "Panasonic RAW (RW2)"),
    (0, b"FUJIFILMCCD-RAW", "Fujifilm RAW (RAF)"),
    (0, b"FOVb", "Sigma RAW (X3F)"),
    (0, b"\0MRM", "Minolta RAW (MRW)"),
    (0, b"II\xbc\x01", "JPEG XR"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0\x08\0\0\0", "TIFF"),
    (0, b"MM\0+\0\x08\0\0", "TIFF"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"gimp xcf", "GIMP (XCF)"),
    (0, b"qoif", "QOI"),
    (0, b"farbfeld", "farbfeld"),
    (0, b"BPG\xfb", "BPG"),
    (0, b"FLIF", "FLIF"),
    (0, b"DDS ", "DDS"),
    (0, b"icns", "an Apple icon (ICNS)"),
    (0, b"\0\0\x01\0", "an icon (ICO)"),
    (0, b"\0\0\x02\0", "a cursor (CUR)"),
    (0, b"\x0a\x05\x01", "PCX"),
    (0, b"\x01\xda", "SGI"),
    (0, b"\x59\xa6\x6a\x95", "Sun raster"),
    (0, b"\x8aMNG\r\n\x1a\n", "MNG"),
    (0, b"\x8bJNG\r\n\x1a\n", "JNG"),
    (0, b"AT&TFORM", "DjVu"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"#?RGBE", "Radiance HDR"),
    (0, b"SIMPLE  =", "FITS"),
    (128, b"DICM", "DICOM"),
    (344, b"n+1\0", "NIfTI"),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF)"),
    (40, b" EMF", "a Windows metafile (EMF)"),
)
_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"),
    (0, b"PK\x03\x04", "a ZIP archive, or an office document"),
    (0, b"PK\x05\x06", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\0", "an xz archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\0\x05\x16\x07", "AppleDouble (what macOS keeps beside a file)"),
    (0, b"\0\x05\x16\0", "AppleSingle"),
    (0, b"version https://git-lfs", "a Git LFS pointer"),
    (0, b"/annex/objects/", "a git-annex pointer"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old office document, or Thumbs.db"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"PAR1", "Parquet"),
    (0, b"\x7fELF", "a program"),
    (0, b"OggS", "Ogg (sound or a film)"),
    (0, b"ID3", "MP3"),
    (0, b"\x1aE\xdf\xa3", "a film (Matroska)"),
    (0, b"HTTP/1.", "a web server's answer"),
    (0, b"/9j/", "a JPEG in base64 letters"),
    (0, b"iVBORw0KGgo", "a PNG in base64 letters"),
    (0, b"data:image/", "an image in base64 letters"),
)
# Brands of an ISO base media file, in the order in which they decide
_BRANDS = (
    (b"avif avis", "AVIF"),
    (b"heic heix heim heis hevc hevx hevm hevs", "HEIC"),
    (b"crx ", "Canon RAW (CR3)"),
    (b"mif1 msf1 mif2 miaf", "HEIF"),
)
_MARKUP = (
    (re.compile(rb"<svg[\s>]", re.I), "SVG"),
    (re.compile(rb"<(!doctype html|html|head|body|script|title|meta)\b", re.I), "a web page"),
    (re.compile(rb"<\?xml|<[a-z]", re.I), "XML"),
)
IMAGE_KINDS = frozenset(
    [name for *_, name in _PICTURES] + [name for _, name in _BRANDS] + ["BMP", "PNM", "PAM", "PFM", "SVG"]
)


def kind(head: bytes) -> str:
    """Tell from a file's first bytes what it is.

    Parameters
    ----------
    head : bytes
        As many as there are, up to `HEAD`.

    Returns
    -------
    str
        In words: one of `IMAGE_KINDS` for an image, whether read here or not, else such as
        "a web page", "a Git LFS pointer", "text", "an empty file"; "" where nothing is known.
    """
    if not head:
        return "an empty file"
    for where, magic, name in _PICTURES + _OTHERS:
        if head.startswith(magic, where):
            return name
    if not any(head):
        return "a file of zeros" if len(head) < HEAD else "a file that begins with zeros"
    return _media(head) or _bitmap(head) or _text(head)


def _media(head: bytes) -> str:
    if head[4:8] != b"ftyp":
        return "a film" if head[:4] == b"RIFF" and head[8:11] == b"AVI" else ""
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12]} | {head[at : at + 4] for at in range(16, length, 4)}
    for names, name in _BRANDS:
        if brands & {names[at : at + 4] for at in range(0, len(names), 5)}:
            return name
    return "a film"


def _bitmap(head: bytes) -> str:
    """BMP and the Netpbm family, whose first bytes alone could begin a text."""
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in (12, 16, 40, 52, 56, 64, 108, 124):
        return "BMP"
    if re.match(rb"P[1-6]\s", head):
        return "PNM"
    if re.match(rb"P7\s", head):
        return "PAM"
    return "PFM" if re.match(rb"P[fF]\s", head) else ""


def _text(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        return next((name for pattern, name in _MARKUP if pattern.search(text)), "")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "text"
    if re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head):
        return ""
    try:
        head[: head.rfind(b"\n") + 1 or len(head)].decode()  # the last line may be cut within a letter
    except UnicodeDecodeError:
        return ""
    return "JSON" if re.match(rb"[\[{]\s*[\"\[{\]}0-9]", text) else "text"
