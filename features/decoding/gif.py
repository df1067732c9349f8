"""GIF: its first frame, on a canvas that is transparent where the frame does not reach.

    image, notes = read(data)

So browsers have it. Pillow leaves the first colour of the palette there, whichever that is, and
the format's own background colour has meant nothing since the nineties.
"""

from io import BytesIO

from PIL import Image

from features.decoding.limits import check_size
from features.decoding.rgb import notes_of_frames


def read(data: bytes) -> tuple[Image.Image, list[str]]:
    """Read the first frame, and what should be said of it.

    Raises
    ------
    Unreadable
        Beyond the size limits.
    OSError, ValueError, SyntaxError
        Damaged data, as Pillow raises them.
    """
    with Image.open(BytesIO(data), formats=["GIF"]) as image:
        check_size(image.size)
        notes = notes_of_frames(getattr(image, "n_frames", 1))
        image.seek(0)
        reach = image.tile[0].extents if image.tile else None
        image.load()
        if reach in (None, (0, 0, *image.size)):
            return image, notes
        canvas = Image.new("RGBA", image.size)
        canvas.paste(image.crop(reach).convert("RGBA"), reach)
        return canvas, [*notes, "its first frame does not fill the picture: the rest is white"]
