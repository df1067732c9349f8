"""The report as a reader meets it: in Chromium, on a phone, in the dark, on paper, without a mouse."""

import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report import BASELINE, BEST, synthetic
from pipeline.project import Project
from pipeline.records.predictions import Predictions
from pipeline.report.report import report
from tests.browser import chromium, needs_chromium, playwright

EVIL = "<img src=x onerror=alert(1)>"
NAMES = (EVIL, "猫", "قطة صغيرة", "$x_1$ & co", "</script><script>alert(2)</script>", '"quoted"', "g", "h")
SIZES = {"two": 100, "some": 1200, "many": 50_000}  # images; a fifth to test on
CLASSES = {"two": NAMES[:2], "some": NAMES, "many": [f"class {number:04}" for number in range(1000)]}
PHONE, PAPER = {"width": 390, "height": 844}, {"width": 794, "height": 1123}  # CSS pixels; A4

pytestmark = [
    needs_chromium,
    pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning"),  # umap, where it is
]
Finished = Callable[[str], Project]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Give a finished project with its report; made when it is first asked for."""

    @cache
    def make(name: str) -> Project:
        width = 64 if name == "some" else 0
        folder = tmp_path_factory.mktemp(name)
        project = synthetic(folder, SIZES[name], CLASSES[name], width=width, seed=1, noise=0)
        report(project)
        return project

    return make


@pytest.fixture(scope="module")
def browser() -> "Iterator[playwright.Browser]":
    """Chromium."""
    with chromium() as launched:
        yield launched


class Visit:
    """Opens pages, and fails in the end where one of them said, asked or did something."""

    def __init__(self, browser: "playwright.Browser") -> None:
        self.browser = browser
        self.noise: list[str] = []

    def __call__(self, project: Project, **how: object) -> "playwright.Page":
        page, address = self.browser.new_page(**how), project.report.as_uri()
        page.on("console", lambda message: self.noise.append(message.text))
        page.on("pageerror", lambda error: self.noise.append(str(error)))
        page.on("dialog", lambda dialog: (self.noise.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda request: request.url.startswith((address, "data:")) or self.noise.append(request.url),
        )
        page.goto(address)
        return page


@pytest.fixture
def visit(browser: "playwright.Browser") -> Iterator[Visit]:
    """Open pages that must stay quiet: no message, error, dialog or request."""
    visiting = Visit(browser)
    yield visiting
    for context in browser.contexts:
        context.close()
    assert visiting.noise == []


def column(table: "playwright.Locator", place: int) -> list[str]:
    """Texts of one column, from the top."""
    found: list[str] = table.evaluate(
        "(table, k) => [...table.tBodies[0].rows].map(row => row.cells[k].firstChild.textContent)", place
    )
    return found


@pytest.mark.parametrize("name", SIZES)
def test_page_is_quiet_whatever_is_pressed(visit: Visit, finished: Finished, name: str) -> None:
    page = visit(finished(name))
    buttons = page.locator("button")
    assert buttons.count() > 20
    buttons.evaluate_all("all => all.forEach(button => button.click())")
    page.wait_for_timeout(200)


def test_names_are_text(visit: Visit, finished: Finished) -> None:
    page = visit(finished("some"))
    for number in range(len(NAMES)):
        page.evaluate("k => document.querySelector(`[data-cell='${k}-${k}']`).click()", number)
    shown = set(page.locator("bdi").all_text_contents())
    assert set(NAMES) <= shown
    assert page.locator("img:not([data-row])").count() == 0
    assert page.locator("body > script, section > script").count() == page.locator("script").count()
    labels = page.locator("table.matrix button").evaluate_all("all => all.map(b => b.ariaLabel).join()")
    assert EVIL in labels


def test_tables_are_sorted_by_click_and_by_key(visit: Visit, finished: Finished) -> None:
    page = visit(finished("some"))
    table = page.locator("#accuracy table")
    heading = table.get_by_role("columnheader", name="test top‑1")  # with a hyphen that does not wrap
    place = table.locator("thead th").all_text_contents().index("test top‑1")
    before = column(table, place)
    assert [float(text) for text in before] == sorted(map(float, before), reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert column(table, place) == sorted(before, key=float)
    heading.get_by_role("button").click()
    assert column(table, place) == before
    first = table.get_by_role("columnheader", name="method")
    first.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert first.get_attribute("aria-sort") == "ascending"
    assert heading.get_attribute("aria-sort") is None
    assert column(table, 0) == sorted(column(table, 0))
    # What is empty stands last, whichever way
    prices = page.locator("#cost table")
    trained = prices.locator("thead th").all_text_contents().index("pays off after")
    for _ in range(2):
        prices.locator("thead button").nth(trained).click()
        texts = prices.evaluate("(t, k) => [...t.tBodies[0].rows].map(r => r.cells[k].textContent)", trained)
        assert texts == sorted(texts, key=lambda text: not text)


def answers(project: Project, method: str) -> tuple[Predictions, np.ndarray]:
    found = Predictions.read(project.predictions / f"{method}.npz")
    return found, found.proba.argmax(axis=1)


def test_cell_of_the_matrix_shows_its_pictures(visit: Visit, finished: Finished) -> None:
    page = visit(finished("some"))
    found, predicted = answers(finished("some"), BEST)
    matrix = page.locator("table.matrix").first
    rows = matrix.evaluate(
        "t => [...t.tBodies[0].rows].map(r => [...r.cells].slice(1).map(c => +c.textContent))"
    )
    expected = np.zeros((len(NAMES), len(NAMES)), int)
    np.add.at(expected, (found.label, predicted), 1)
    np.testing.assert_array_equal(rows, expected)
    np.fill_diagonal(expected, 0)
    true, other = np.unravel_index(expected.argmax(), expected.shape)
    inside = (found.label == true) & (predicted == other)
    matrix.locator(f"[data-cell='{true}-{other}']").click()
    chosen = page.locator("#chosen-0")
    assert found.classes[true] in chosen.locator("h4").inner_text()
    pictures = chosen.locator("img")
    assert pictures.count() == min(inside.sum(), 12)
    assert all(pictures.evaluate_all("all => all.map(i => i.complete && i.naturalWidth > 0)"))
    surest = found.id[inside][np.argsort(-found.proba[inside, other], kind="stable")]
    assert pictures.evaluate_all("all => all.map(i => i.alt)") == surest[:12].tolist()
    # By key: one stop of Tab for the matrix, arrows between its cells
    page.locator("table.matrix").nth(1).locator("button").first.focus()
    page.keyboard.press("ArrowRight")
    cell = page.evaluate("document.activeElement.dataset.cell")
    page.keyboard.press("Enter")
    _, predicted = answers(finished("some"), BASELINE)
    true, other = map(int, cell.split("-"))
    count = int(((found.label == true) & (predicted == other)).sum())
    assert page.locator("#chosen-1 img").count() == min(count, 12)
    assert page.locator("#chosen-0 img").count() == min(inside.sum(), 12)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.method") is None


def test_many_classes_make_a_list_of_confusions(visit: Visit, finished: Finished) -> None:
    page = visit(finished("many"))
    assert page.locator("table.matrix").count() == 0
    found, predicted = answers(finished("many"), BEST)
    table = page.locator("#confusion table").first
    assert "the 50 most frequent of" in table.locator("caption").inner_text()
    assert table.locator("tbody tr").count() == 50
    wrong = predicted != found.label
    _, counts = np.unique(np.stack([found.label[wrong], predicted[wrong]]), axis=1, return_counts=True)
    shown = [int(text) for text in column(table, 2)]
    assert shown == sorted(counts.tolist(), reverse=True)[:50]
    button = table.locator("[data-cell]").last
    button.click()
    true, other = map(int, button.get_attribute("data-cell").split("-"))
    inside = set(found.id[(found.label == true) & (predicted == other)].tolist())
    assert set(page.locator("#chosen-0 img").evaluate_all("all => all.map(i => i.alt)")) == inside
    assert page.locator("#classes tbody tr").count() == 1000
    assert finished("many").report.stat().st_size < 8e6


@pytest.mark.parametrize("name", SIZES)
def test_phone_scrolls_down_only(visit: Visit, finished: Finished, name: str) -> None:
    page = visit(finished(name), viewport=PHONE)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.evaluate("document.querySelectorAll('[data-cell]').forEach(b => b.click())")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = colour => rgba(colour).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (rgba(colour)[3] === 255) return colour;
    }
    return "white";
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!text || !element.checkVisibility() || element.closest("script, title")) continue;
    const style = getComputedStyle(element);
    const drawn = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const [a, b] = [light(drawn), light(behind(element))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), element.textContent.slice(0, 40)]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(visit: Visit, finished: Finished, scheme: str) -> None:
    page = visit(finished("some"), color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.locator("table.matrix button").first.click()
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 500
    assert min(contrasts)[0] >= 4.5, min(contrasts)


def test_dark_and_paper(visit: Visit, finished: Finished) -> None:
    def background(page: "playwright.Page") -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = (
        visit(finished("some"), color_scheme="light"),
        visit(finished("some"), color_scheme="dark", viewport=PAPER),
    )
    assert background(light) != background(dark)
    dark.emulate_media(media="print")
    assert background(dark) == background(light)
    assert not dark.locator("nav").is_visible()
    assert dark.evaluate("document.documentElement.scrollWidth") <= PAPER["width"]
    assert dark.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize("name", SIZES)
def test_page_can_be_read_without_seeing_it(visit: Visit, finished: Finished, name: str) -> None:
    page = visit(finished(name))
    levels = page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = page.locator("[id]").evaluate_all("all => all.map(e => e.id)")
    assert len(ids) == len(set(ids))
    for table in page.locator("table").all():
        assert table.locator("caption").text_content()
    assert page.locator("th:not([scope])").count() == 0
    names = page.locator(".drawing svg").evaluate_all(
        "all => all.map(s => [s.getAttribute('role'), s.ariaLabel])"
    )
    assert len(names) >= 5
    assert all(role == "img" and label for role, label in names)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    links = page.locator("nav a").evaluate_all("all => all.map(a => a.hash.slice(1))")
    assert set(links) <= set(ids)


def test_points_say_which_method_they_are(visit: Visit, finished: Finished) -> None:
    page = visit(finished("some"))
    hints = page.locator("#accuracy svg title").all_text_contents()
    assert any(re.match(rf"{BEST}: \d+\.\d % \[", hint) for hint in hints)


def test_picture_that_is_gone_is_said_to_be(visit: Visit, tmp_path: Path) -> None:
    project = synthetic(tmp_path, 60, NAMES[:2])
    shutil.rmtree(project.dataset_root)
    report(project)
    page = visit(project)
    page.locator("table.matrix button").first.click()
    assert page.locator("#chosen-0 img").count() == 0
    assert page.locator("#chosen-0 .absent").count() > 0
