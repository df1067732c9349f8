"""Model cards: what readers of Markdown, YAML and Python make of them."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from features.manifest import Manifest, Row
from features.store import FeatureStore
from pipeline.heads.classifier import Classifier
from pipeline.project import Project
from pipeline.stores.extract import extract
from pipeline.tuning.model_card import model_card
from pipeline.tuning.train import train

NASTY = (
    "plain", "<script>alert(1)</script>", "a | b", "*bold* _it_ `code`", "[x](javascript:1)", "&lt;",
    "{{ card }}", "\\|", "# title", "![i](j)", "ünï 猫", "~~gone~~", "two\nlines", "tab\rreturn",
)  # fmt: skip


class Tables(HTMLParser):
    """The texts of all cells, row by row, and every tag there is."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside &= tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


def rendered(text: str) -> str:
    """As GitHub and Hugging Face read it, without the front matter."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text.split("---\n", 2)[2])


@pytest.fixture
def trained(prepared: Project) -> Project:
    project = Project.open(prepared.root, ["extract.layers=[conv1_1:avg]"])
    extract(project, project.layers)
    for head in ("logreg", "majority"):
        train(project, head)
    return project


def card_of(project: Project, method: str) -> tuple[dict, dict | None, str]:
    folder = project.head_folder(method.split(".")[-1]) / method.replace(":", "-")
    card = json.loads((folder / "card.json").read_text("utf-8"))
    store = project.features / f"{str(card['layer']).replace(':', '-')}.zarr"
    features = FeatureStore.open(store).attributes if card["layer"] else None
    return card, features, model_card(card, project.read_manifest(), features)


def test_says_what_the_card_holds(trained: Project) -> None:
    card, features, text = card_of(trained, "conv1_1:avg.logreg")
    assert features is not None
    front = YAML(typ="safe", pure=True).load(text.split("---\n")[1])
    assert front["library_name"] == "penultimate"
    assert {"logreg", "vgg11"} <= set(front["tags"])
    assert "license" not in front  # unknown
    assert text.count("UNTRAINED") == 2  # where the weights are described, and among the limits
    rows = Tables(rendered(text)).rows
    manifest = trained.read_manifest()
    for k, name in enumerate(manifest.classes):
        counts = [
            str(int((manifest.labels[manifest.where(split)] == k).sum()))
            for split in ("train", "validation", "test")
        ]
        assert [name, *counts] in rows
    assert ["C", str(card["chosen"]["C"])] in rows
    assert ["top-1 accuracy", f"{card['validation']['top1']:.4f}"] in rows
    assert ["manifest, sha256", manifest.digest] in rows
    assert ["features, fingerprint", features["fingerprint"]] in rows
    assert f"{card['temperature']:.4g}" in text


def test_says_what_cross_validation_scored(trained: Project) -> None:
    project = Project.open(
        trained.root, ["extract.layers=[conv1_1:avg]", "tuning.protocol=cross-validation", "tuning.folds=2"]
    )
    train(project, "logreg")
    _, _, text = card_of(project, "pixels.logreg")
    manifest = project.read_manifest()
    images = len(manifest.where("train")) + len(manifest.where("validation"))
    assert "Fitted on train and validation images" in text
    assert f"on {images} train and validation images, by cross-validation" in text


@pytest.mark.parametrize("method", ["conv1_1:avg.logreg", "pixels.logreg", "majority"])
def test_its_example_runs(method: str, trained: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    card, _, text = card_of(trained, method)
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code
    monkeypatch.chdir(trained.root)
    names: dict = {}
    exec(code[1], names)
    assert isinstance(names["classifier"], Classifier)
    assert names["proba"].shape[1] == len(card["classes"])
    np.testing.assert_allclose(names["proba"].sum(axis=1), 1)
    assert ("UNTRAINED" in text) == (card["weights"] == "random")


def test_any_name_of_a_class_stays_text(trained: Project) -> None:
    card, features, _ = card_of(trained, "conv1_1:avg.logreg")
    plain = tuple(Row(f"{k}.png", f"{k}.png", str(k), "train", f"{k:064x}", 1, 1) for k in range(3))
    rows = tuple(Row(f"{k}.png", f"{k}.png", name, "test", f"{k:064x}", 1, 1) for k, name in enumerate(NASTY))
    harmless = Tables(rendered(model_card(card, Manifest(plain), features)))
    nasty = Tables(rendered(model_card({**card, "classes": list(NASTY)}, Manifest(rows), features)))
    assert nasty.tags == harmless.tags
    for name in NASTY:
        assert [re.sub(r"[\r\n]", " ", name), "0", "0", "1"] in nasty.rows
