"""Files that take as long to read as photographs do, for benchmarks that have none at hand.

    photographs(folder, 256)      # folder/photographs/000000.jpg …

References
----------
Field, Relations between the statistics of natural images and the response properties of
cortical cells, JOSA A 4 (1987) (amplitude falls as 1 / frequency).
"""

import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

SIZES = ((500, 375), (375, 500), (400, 400), (400, 533))  # width × height, as in collections for training


def photographs(folder: Path, count: int, seed: int = 0) -> None:
    """Write `count` JPEG files of coloured 1/f noise; the k-th depends on the seed and k alone."""
    target = folder / "photographs"
    target.mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(partial(_photograph, target, seed), range(count)))


def _photograph(folder: Path, seed: int, number: int) -> None:
    width, height = SIZES[number % len(SIZES)]
    rng = np.random.default_rng([seed, number])
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))  # cycles per pixel
    frequency[0, 0] = np.inf  # the mean is set below
    noise = rng.standard_normal((4, height, width), dtype=np.float32)
    smooth = np.fft.irfft2(np.fft.rfft2(noise) / frequency, s=(height, width))
    smooth /= smooth.std((1, 2), keepdims=True)
    rgb = 115 + 55 * smooth[0] + 15 * smooth[1:]  # brightness varies far more than colour
    pixels = np.clip(rgb, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(pixels).save(folder / f"{number:06}.jpg", quality=85)


def chosen(source: Path, folder: Path, count: int) -> None:
    """Copy `count` JPEG files from anywhere below `source`, evenly spread over their sorted names.

    Those that are to be turned by EXIF are passed over: torchvision's loader shows them as they lie.

    Raises
    ------
    ValueError
        Where there are fewer.
    """
    files = [file for file in sorted(source.rglob("*")) if file.suffix.lower() in (".jpg", ".jpeg")]
    files = [file for file in files if _upright(file)]
    if len(files) < count:
        raise ValueError(f"{source} has {len(files)} upright JPEG files, and {count} are asked for")
    target = folder / "photographs"
    target.mkdir(parents=True)
    for number in range(count):
        shutil.copy(files[number * len(files) // count], target / f"{number:06}.jpg")


def _upright(file: Path) -> bool:
    with Image.open(file) as image:
        return image.getexif().get(ExifTags.Base.Orientation, 1) == 1
