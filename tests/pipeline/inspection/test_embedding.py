"""The map of the images as a reader uses it: with the keyboard, a mouse, a finger."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.inspection import embedding
from pipeline.inspection.inspection import Inspection
from tests.browser import chromium, needs_chromium, playwright
from tests.pipeline.inspection.test_inspection import HOSTILE, WithCopies, page

PICTURE = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    """300 images of three classes, with two maps: the second is the first turned over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "UMAP_IMAGES", (10**6, 10**6))  # compiled for 6 s
        made = WithCopies(tmp_path_factory.mktemp("map") / "project").inspect()
    assert made is not None
    (first,) = made.map.layouts
    turned = embedding.Embedding("turned", "The same, turned over.", first.places.max(axis=0) - first.places)
    return replace(made, map=embedding.Map(made.map.rows, (first, turned)))


@pytest.fixture(scope="module")
def alone(found: Inspection) -> list[int]:
    """Points that lie on no other."""
    places = found.map.layouts[0].places
    return [k for k in range(300) if (np.abs(places - places[k]).sum(axis=1) < 4).sum() == 1]


@pytest.fixture(scope="module")
def browser() -> "Iterator[playwright.Browser]":
    """Chromium."""
    with chromium() as launched:
        yield launched


@pytest.fixture
def opened(browser: Any, found: Inspection, alone: list[int], tmp_path: Path) -> Iterator[Any]:
    """The section in a page of its own; nothing may be said, asked or go wrong in it."""
    file = tmp_path / "page.html"
    pictures = f'<script type="application/json" id="thumbnails">{{"{alone[2]}": "{PICTURE}"}}</script>'
    file.write_text(f"<!doctype html><meta charset=utf-8><body>{page(found)}{pictures}", "utf-8")
    noise: list[str] = []
    shown = browser.new_page(viewport={"width": 900, "height": 900}, has_touch=True)
    shown.on("console", lambda message: noise.append(message.text))
    shown.on("pageerror", lambda error: noise.append(str(error)))
    shown.on("dialog", lambda dialog: (noise.append(dialog.message), dialog.dismiss()))
    shown.goto(file.as_uri())
    yield shown
    shown.close()
    assert noise == []


def words_of(found: Inspection, row: int) -> str:
    image = found.manifest.rows[row]
    return f"{image.label}, {image.split} {image.path}"


def beside(places: np.ndarray, at: int, way: tuple[int, int]) -> int:
    """The nearest point in a direction's quarter."""
    steps = places - places[at]
    along, aside = steps @ way, np.abs(steps @ (way[1], way[0]))
    squares = np.where((along > 0) & (aside <= along), (steps**2).sum(axis=1), np.inf)
    return int(squares.argmin())


def chosen(opened: Any) -> str:
    return " ".join(opened.locator("#map .point > div").inner_text().split())


def test_arrows_go_to_the_next_image(opened: Any, found: Inspection) -> None:
    places = found.map.layouts[0].places
    opened.focus("#map > svg")
    opened.keyboard.press("ArrowDown")
    at = 0
    assert chosen(opened) == words_of(found, at)
    for key, way in [
        ("ArrowRight", (1, 0)),
        ("ArrowDown", (0, 1)),
        ("ArrowLeft", (-1, 0)),
        ("ArrowUp", (0, -1)),
    ]:
        opened.keyboard.press(key)
        at = beside(places, at, way)
        assert chosen(opened) == words_of(found, at)


def screen(opened: Any, place: np.ndarray) -> tuple[float, float]:
    """Where a point of the map lies on the screen."""
    x, y = opened.evaluate(
        """([x, y]) => {
            const matrix = document.querySelector("#map > svg").getScreenCTM();
            const at = new DOMPoint(x + 25, y + 25).matrixTransform(matrix);
            return [at.x, at.y];
        }""",
        place.tolist(),
    )
    return x, y


@pytest.mark.parametrize("layout", [0, 1])
def test_a_mouse_and_a_finger_show_the_image(
    opened: Any, found: Inspection, alone: list[int], layout: int
) -> None:
    opened.click(f"#map button >> nth={layout}")
    assert opened.inner_text("#map-words") == found.map.layouts[layout].words
    places = found.map.layouts[layout].places
    opened.locator("#map > svg").scroll_into_view_if_needed()
    opened.mouse.move(*screen(opened, places[alone[5]]))
    assert chosen(opened) == words_of(found, alone[5])
    opened.touchscreen.tap(*screen(opened, places[alone[9]]))
    assert chosen(opened) == words_of(found, alone[9])


def test_a_picture_is_shown_where_there_is_one(opened: Any, found: Inspection, alone: list[int]) -> None:
    places = found.map.layouts[0].places
    opened.locator("#map > svg").scroll_into_view_if_needed()
    opened.mouse.move(*screen(opened, places[alone[2]]))
    assert opened.get_attribute("#map .point img", "src") == PICTURE
    opened.mouse.move(*screen(opened, places[alone[7]]))
    assert opened.inner_text("#map .point .absent") == "picture not available"


def test_a_class_alone(opened: Any, found: Inspection) -> None:
    names = opened.locator("#map .bar").nth(1).locator("button")
    assert sorted(names.all_inner_texts()) == sorted(HOSTILE)
    names.nth(1).click()
    assert names.nth(1).get_attribute("aria-pressed") == "true"
    alone = sum(found.manifest.rows[row].label == found.points["classes"][1] for row in range(300))
    assert opened.locator("#map path.faded").count() == 300 - alone
    opened.focus("#map > svg")
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):
        opened.keyboard.press(key)
        assert chosen(opened).startswith(found.points["classes"][1])
    names.nth(1).click()
    assert opened.locator("#map path.faded").count() == 0
