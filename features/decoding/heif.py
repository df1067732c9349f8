"""HEIC and HEIF, where `pillow-heif` is installed.

    image, notes = read(data)

libheif turns and mirrors a picture as its `irot` and `imir` properties say; the EXIF
orientation beside them repeats that, and is not applied again (ISO/IEC 23008-12, 6.5.10).
"""

from io import BytesIO

from PIL import Image

from features.decoding.limits import check_size


def read(data: bytes) -> tuple[Image.Image, list[str]]:
    """Read the primary picture in 8 bits, and what should be said of it.

    Raises
    ------
    Unreadable
        Beyond the size limits.
    ValueError, OSError
        Damaged data, as libheif raises them.
    """
    import pillow_heif  # noqa: PLC0415 - optional, and no opener is registered with Pillow

    heif = pillow_heif.open_heif(BytesIO(data), convert_hdr_to_8bit=True)
    primary = heif[heif.primary_index]
    check_size(primary.size)
    image = primary.to_pillow()  # which resets the EXIF orientation
    return image, [f"the primary of {len(heif)} pictures is used"] if len(heif) > 1 else []
