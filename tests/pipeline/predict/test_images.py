"""What users give for images: one or many, in every usual form; a bad one is a row with a reason."""

import io
import os
import pickle
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from features.errors import BadInput
from pipeline.predict.images import BLANK, Given, arriving, opened, taken
from pipeline.predict.predict import predict
from pipeline.predict.predictor import Prediction, Predictor
from pipeline.project import Project
from tests.pipeline.predict.test_predict import images_of

HEAD = "conv3_2.logreg"


@pytest.fixture(scope="module")
def predictor(served: Project) -> Predictor:
    return Predictor(served, HEAD)


@pytest.fixture(scope="module")
def paths(served: Project) -> list[Path]:
    return images_of(served)[:3]


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


ONE = {
    "a string": str,
    "a path": lambda path: path,
    "NumPy's string": np.str_,
    "NumPy's string, alone in an array": lambda path: np.array(str(path)),
    "bytes": Path.read_bytes,
    "a bytearray": lambda path: bytearray(path.read_bytes()),
    "a memoryview": lambda path: memoryview(path.read_bytes()),
    "an open file": lambda path: path.open("rb"),
    "a file in memory, read before": lambda path: read_before(io.BytesIO(path.read_bytes())),
    "an upload": lambda path: uploaded(path.read_bytes()),
    "a Pillow image": Image.open,
    "an array": pixels_of,
    "an array with opaque alpha": lambda path: np.dstack([pixels_of(path), np.full((40, 48), 255, np.uint8)]),
    "an array in another order in memory": lambda path: np.asfortranarray(pixels_of(path)),
    "a tensor": lambda path: torch.from_numpy(pixels_of(path).copy()),
}


def read_before(file: io.BytesIO) -> io.BytesIO:
    file.read()
    return file


def uploaded(data: bytes) -> Any:
    file = tempfile.SpooledTemporaryFile()  # noqa: SIM115 - what web frameworks hand on
    file.write(data)
    return file


@pytest.mark.parametrize("form", ONE)
def test_one_image_has_one_answer(predictor: Predictor, paths: list[Path], form: str) -> None:
    expected = predictor.predict([paths[0]])[0]
    given = ONE[form](paths[0])
    answer = predictor.predict(given)
    assert isinstance(answer, Prediction)
    assert (answer.label, answer.problem) == (expected.label, "")
    np.testing.assert_array_equal(predictor.predict_proba(given), expected.proba)
    assert [one.label for one in predictor.stream(given)] == [expected.label]
    if hasattr(given, "close"):
        given.close()


MANY = {
    "a list": list,
    "a tuple": tuple,
    "a generator": iter,
    "the values of a mapping": lambda paths: dict(enumerate(paths)).values(),
    "strings in an array": lambda paths: np.array(list(map(str, paths))),
    "paths in an array": lambda paths: np.array(paths, object),
    "a column": lambda paths: pd.Series(list(map(str, paths)), index=[7, 3, 5]),
    "a batch": lambda paths: np.stack([pixels_of(path) for path in paths]),
    "a batch as a tensor": lambda paths: torch.from_numpy(np.stack([pixels_of(path) for path in paths])),
    "all kinds": lambda paths: [str(paths[0]), paths[1].read_bytes(), pixels_of(paths[2])],
}


@pytest.mark.parametrize("form", MANY)
def test_many_images_have_a_list_of_answers(predictor: Predictor, paths: list[Path], form: str) -> None:
    expected = predictor.predict_proba(paths)
    answers = predictor.predict(MANY[form](paths))
    np.testing.assert_array_equal([one.proba for one in answers], expected)
    np.testing.assert_array_equal(predictor.predict_proba(MANY[form](paths)), expected)
    assert len(list(predictor.stream(MANY[form](paths)))) == 3
    assert {one.label for one in predictor.predict(set(paths))} == {one.label for one in answers}
    assert len(predictor.predict(paths[:1])) == 1  # a list of one is no single image


def test_none_at_all(predictor: Predictor) -> None:
    for none in ([], (), np.zeros((0, 40, 48, 3), np.uint8), iter(())):
        assert predictor.predict(none) == []
    assert predictor.predict_proba([]).shape == (0, 2)


def test_grey_and_transparent_arrays_are_what_their_files_would_be(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for shape in ((9, 12), (9, 12, 1), (9, 12, 4)):
        array = rng.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(array if array.shape[2:] != (1,) else array[:, :, 0]).save(tmp_path / "x.png")
        np.testing.assert_array_equal(
            np.asarray(opened(array).image), np.asarray(opened(tmp_path / "x.png").image)
        )


def closed(path: Path) -> Image.Image:
    image = Image.open(path)
    image.close()
    return image


class Raises:
    def read(self) -> bytes:
        raise ConnectionError("the upload broke off")


BAD: dict[str, tuple[Any, str]] = {
    "too small": (np.zeros((2, 2), np.uint8), "2 × 2: a side is shorter"),
    "empty": (np.zeros((0, 5, 3), np.uint8), "5 × 0 pixels"),
    "too long": (np.zeros((4, 400, 3), np.uint8), "more than 20 times"),
    "fractions": (np.zeros((8, 8, 3)), r"not (8, 8, 3) float64"),
    "bools": (np.zeros((8, 8), bool), "not (8, 8) bool"),
    "sixteen bits": (np.zeros((8, 8), np.uint16), "uint16"),
    "two channels": (np.zeros((8, 8, 2), np.uint8), "not (8, 8, 2) uint8"),
    "channels first": (np.zeros((3, 8, 8), np.uint8), "not (3, 8, 8) uint8"),
    "a number": (7, "an int is no image"),
    "none": (None, "None is no image"),
    "a list": ([[0, 1], [2, 3]], "a list is no image"),
    "no image's bytes": (b"hello", "not an image"),
    "no bytes": (b"", "the file is empty"),
    "a file of text": (io.StringIO("hello"), "its read() gives no bytes but a str"),
    "a file that breaks": (Raises(), "the upload broke off"),
    "a pipe": ("pipe.jpg", "no regular file"),
    "a folder": (".", "a folder"),
    "no path": ("a\0b.jpg", "null"),
    "no name": ("", "an empty path"),
    "half a letter": ("\ud83d.png", "surrogates not allowed"),
    "masked pixels": (
        np.ma.array(np.zeros((8, 8, 3), np.uint8), mask=np.eye(8)[..., None] * [1, 1, 1]),
        "masked pixels have no value",
    ),
    "a long name": ("x" * 300 + ".png", "File name too long"),
    "gone": ("gone.png", "No such file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_one_is_a_row_with_a_reason(
    predictor: Predictor, paths: list[Path], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.jpg")
    bad, reason = BAD[kind]
    answers = predictor.predict([paths[0], bad, paths[1]])
    assert [one.label is None for one in answers] == [False, True, False]
    assert reason in answers[1].problem
    assert answers[1].proba is None
    assert answers[1].top(3) == []
    assert [one.image for one in answers] == [
        str(paths[0]),
        bad.encode("utf-8", "backslashreplace").decode() if isinstance(bad, str) else "1",
        str(paths[1]),
    ]
    with pytest.raises(BadInput, match=r"^image .*: "):
        predictor.predict_proba([paths[0], bad])


def test_a_closed_or_broken_pillow_image_is_a_row_with_a_reason(
    predictor: Predictor, paths: list[Path]
) -> None:
    half = Image.open(io.BytesIO(paths[0].read_bytes()[:500]))
    answers = predictor.predict([closed(paths[0]), half, paths[0]])
    assert [bool(one.problem) for one in answers] == [True, True, False]


def test_an_image_that_is_read_late_may_be_given_twice_and_to_several_threads(paths: list[Path]) -> None:
    for _ in range(20):
        given = Given([Image.open(paths[0])] * 8, crop=False)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(given.image, map(str, range(8)), [""] * 8))
        assert given.problems == {}
        assert all(np.array_equal(pixels_of(paths[0]), np.asarray(one)) for one in found)


@pytest.mark.parametrize("wrong", [None, 3, 0.5, True, {"a": "x.png"}, np.float32(3), object()])
def test_what_is_no_image_and_no_collection_is_refused(predictor: Predictor, wrong: Any) -> None:
    for ask in (predictor.predict, predictor.predict_proba, lambda given: list(predictor.stream(given))):
        with pytest.raises(BadInput, match="images should be paths"):
            ask(wrong)


@pytest.mark.parametrize(
    ("name", "value"),
    [("threshold", value) for value in (-0.1, 1.1, float("nan"), "0.5", None, True)]
    + [("neighbours", value) for value in (-1, 1.0, "2", None, True)]
    + [("method", 3), ("project", None), ("project", 3)],
)
def test_settings_of_a_predictor_are_looked_at_first(served: Project, name: str, value: Any) -> None:
    given: dict[str, Any] = {"project": served, "method": HEAD, name: value}
    with pytest.raises(BadInput, match=f"{name} should be .*, not {value!r}"):
        Predictor(**given)


@pytest.mark.parametrize("k", [0, -1, 1.0, True, None])
def test_the_first_of_none_are_refused(predictor: Predictor, paths: list[Path], k: Any) -> None:
    answer = predictor.predict(paths[0])
    assert len(answer.top(99)) == 2
    with pytest.raises(BadInput, match=f"k should be a whole number of at least 1, not {k!r}"):
        answer.top(k)


def test_no_more_is_taken_than_is_worked_on() -> None:
    """An endless source must not fill the memory, nor keep a thread for ever."""
    drawn = 0

    def endless() -> Iterator[int]:
        nonlocal drawn
        while True:
            drawn += 1
            yield drawn

    groups = arriving(endless(), most=4)
    assert next(groups)[0] == 1
    time.sleep(0.2)
    assert drawn < 12
    threads = threading.active_count()
    groups.close()  # type: ignore[attr-defined]
    for _ in range(100):
        if threading.active_count() < threads:
            break
        time.sleep(0.02)
    assert threading.active_count() < threads


def test_taken_tells_one_from_many() -> None:
    assert taken(BLANK)[0]
    assert not taken([BLANK])[0]
    assert taken(np.zeros((3, 8, 8)))[0]  # one that is refused, and never three grey ones
    assert not taken(np.zeros((1, 8, 8, 3)))[0]
    assert pickle.loads(pickle.dumps(taken("a.png"))) == (True, ["a.png"])


def test_what_should_be_known_of_an_image_stands_in_its_row(
    predictor: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "one.png")
    names = [str(tmp_path / "two.gif"), str(tmp_path / "one.png")]
    options = {"method": predictor.method.name, "top": 1, "threshold": 0.0, "neighbours": 0}
    for form in ("csv", "json", "table"):
        predict(predictor.project, names, form=form, **options)
        assert capsys.readouterr().out.count("the first of 2 frames is used") == 1


def test_an_image_that_pillow_opened_is_read_with_the_care_that_its_file_is(
    predictor: Predictor, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    noise.save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    half = tmp_path / "half.jpg"
    half.write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")  # Pillow loads the rest as grey, without a word
    assert np.asarray(Image.open(half)).shape == (64, 64, 3)
    by_path, opened_ = predictor.predict(half), predictor.predict(Image.open(half))
    assert by_path.problem == opened_.problem != ""
