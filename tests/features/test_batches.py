"""Decoding in threads: the right pixels in the right places, each image once."""

import hashlib
from collections import Counter
from threading import Lock

import numpy as np
import pytest
from PIL import Image

from features.batches import Decoder
from features.errors import BadInput
from features.images import Preprocessing
from features.manifest import Manifest, Row


class Plain:
    """A source of one-coloured images, which counts how often each was read."""

    crop = False

    def __init__(self, gone: tuple[str, ...] = ()) -> None:
        self.read, self.gone, self.lock = Counter[str](), gone, Lock()

    def image(self, path: str, sha256: str) -> Image.Image:
        with self.lock:
            self.read[path] += 1
        if path in self.gone:
            raise BadInput(f"{path} is gone")
        return Image.new("RGB", (40, 40), (int(path), 2 * int(path), 7))


def decoder(source: Plain, n: int, views: tuple[str, ...] = ("none",)) -> Decoder:
    rows = tuple(
        Row(f"{i}", f"{i}", "ab"[i % 2], "train", hashlib.sha256(bytes([i])).hexdigest(), 40, 40)
        for i in range(n)
    )
    preprocessing = Preprocessing((32, 32), False, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return Decoder(Manifest(rows), source, preprocessing, views)


@pytest.mark.parametrize("threads", [1, 2, 5, 16])
@pytest.mark.parametrize("views", [("none",), ("none", "flip", "crop-1")])
def test_every_image_is_in_its_place_and_read_once(
    threads: int, views: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.batches.DECODERS", threads)
    source, k = Plain(), len(views)
    asked = [list(range(0, 4 * k)), [5 * k], list(range(8 * k, 15 * k))]  # whole images
    got = list(decoder(source, 20, views).batches(asked))
    assert [batch.shape for batch in got] == [(len(numbers), 32, 32, 3) for numbers in asked]
    for numbers, batch in zip(asked, got, strict=True):
        images = np.array(numbers) // k
        np.testing.assert_array_equal(batch[:, 3, 4], np.stack([images, 2 * images, images * 0 + 7], 1))
    assert source.read == Counter([str(i) for i in [0, 1, 2, 3, 5, *range(8, 15)]])


def test_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    order = np.random.default_rng(0).permutation(50)
    (batch,) = decoder(Plain(), 50).batches([order])
    np.testing.assert_array_equal(batch[:, 0, 0, 0], order)


def test_an_error_comes_in_its_batchs_turn_and_is_the_first_of_it() -> None:
    batches = decoder(Plain(gone=("9", "13")), 20).batches([range(4), range(4, 8), range(8, 16)])
    assert len(list(zip(range(2), batches, strict=False))) == 2
    with pytest.raises(BadInput, match="9 is gone"):
        next(batches)


def test_only_a_few_batches_are_decoded_ahead() -> None:
    source = Plain()
    batches = decoder(source, 200).batches([range(i, i + 10) for i in range(0, 200, 10)])
    next(batches)
    batches.close()  # waits for what has begun
    assert sum(source.read.values()) <= 30
