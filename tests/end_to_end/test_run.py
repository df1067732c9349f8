"""The whole pipeline as a user runs it: with and without DVC, and what goes wrong."""

import csv
import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from features.batches import Decoder
from features.network import parse_layer
from pipeline.finetuning.feed import Pixels
from pipeline.finetuning.network import CutNetwork
from pipeline.finetuning.trainer import scores
from pipeline.heads import HEADS
from pipeline.project import Project
from pipeline.statistics.calibration import calibrated
from pipeline.stores.recipe import extraction_of
from tests.conftest import QUICK, REPOSITORY, Cli, commit, dvc, make_project


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    heavy = ("torch", "sklearn", "zarr", "dask", "matplotlib", "pandas", "numpy", "scipy")
    code = (
        "import sys, cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        f"assert not set({heavy!r}) & set(sys.modules), sorted(set({heavy!r}) & set(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True)


def test_every_command_has_help_with_an_example(cli: Cli) -> None:
    def listed(*group: str) -> list[str]:
        shown = cli(*group, "--help").stdout
        return re.findall(r"^  ([a-z-]+) ", shown.split("Commands:")[1], re.MULTILINE)

    commands = listed()
    assert {"prepare", "weights", "extract", "train", "finetune", "compare", "report", "run"} <= set(commands)
    assert "python cli.py cache" in cli("cache", "--help").stdout
    commands.remove("cache")  # a group: its commands have the options
    for command in [*commands, *(f"cache {name}" for name in listed("cache"))]:
        shown = cli(*command.split(), "--help").stdout
        assert f"python cli.py {command}" in shown
        assert "--project" in shown
        assert "--set-param" in shown


def test_run_without_dvc(project: Path, images: Path, cli: Cli) -> None:
    (images / "red" / "broken.jpg").write_bytes(b"no image")
    done = cli("run", "--project", project)
    metrics = json.loads((project / "metrics.json").read_text("utf-8"))
    layered = [
        f"{layer}.{head}" for layer in ("pool5", "fc7", "pixels") for head in HEADS if head != "majority"
    ]
    assert set(metrics) == {*layered, "majority", "ensemble", "finetune.full"}
    for method, values in metrics.items():
        assert set(values) == {"top1", "low", "high", "log_loss", "weights"}
        assert 0 <= values["low"] <= values["top1"] <= values["high"] <= 1
        with np.load(project / "artifacts" / "predictions" / f"{method}.npz", allow_pickle=False) as content:
            assert content["proba"].shape == (len(content["id"]), 3)
            right = (content["proba"].argmax(axis=1) == content["label"]).mean()
        assert values["top1"] == pytest.approx(right, abs=1e-4)
    best = []
    for layer in ("pool5", "fc7"):  # of each layer the head that is best on validation rows
        cards = [
            json.loads(path.read_text("utf-8"))
            for path in project.glob(f"artifacts/heads/*/{layer}.*/card.json")
        ]
        chosen = max(
            cards,
            key=lambda card: (
                card["validation"]["top1"],
                -round(card["validation"]["log_loss"], 1),  # hundredths are chance
                -["logreg", "linear-svm", "rbf-svm", "mlp", "knn"].index(card["head"]),  # the simplest
            ),
        )
        best.append(np.load(project / "artifacts" / "predictions" / f"{chosen['method']}.npz")["proba"])
    together = np.load(project / "artifacts" / "predictions" / "ensemble.npz")["proba"]
    np.testing.assert_allclose(together, (best[0] + best[1]) / 2, atol=1e-6)
    assert {metrics[name]["weights"] for name in ("pool5.logreg", "ensemble", "finetune.full")} == {"random"}
    assert metrics["pixels.logreg"]["top1"] > 0.9  # three colours
    assert "1 images set aside: 1 not decodable (red/broken.jpg: " in done.stdout
    assert "finetune.full" in done.stdout
    assert str(project / "report" / "index.html") in done.stdout.replace("\n", "")
    with (project / "artifacts" / "problems.csv").open(encoding="utf-8") as file:
        assert [row["path"] for row in csv.DictReader(file)] == ["red/broken.jpg"]
    # Again: everything is current, and nothing in the metrics changes
    before = (project / "metrics.json").read_bytes()
    again = cli("run", "--project", project)
    assert (project / "metrics.json").read_bytes() == before
    assert again.stdout.count("current, nothing to do") == len(layered) + 1 + 2
    # From scratch, with a cache of its own: the same metrics to the digit
    other = make_project(project.parent / "other", [*QUICK, "dataset.name=folder", f"dataset.root={images}"])
    cli("run", "--project", other, PENULTIMATE_CACHE=str(project.parent / "other cache"))
    assert (other / "metrics.json").read_bytes() == before


@pytest.mark.slow
def test_batch_norm_from_images_to_predictions(tmp_path: Path, images: Path, cli: Cli) -> None:
    folder = make_project(tmp_path / "project", [
        *QUICK, "dataset.name=folder", f"dataset.root={images}", "weights.network=vgg11_bn",
        "extract.layers=[conv3_1:pre:avg]", "extract.pixels=false", "finetune.head_start=random",
        *(f"heads.{head}=null" for head in ("logreg", "linear-svm", "rbf-svm", "mlp", "majority")),
    ])  # fmt: skip
    cli("run", "--project", folder)
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert set(metrics) == {"conv3_1:pre:avg.knn", "finetune.full"}
    # The published model, read as anyone may: what it predicts is what was published
    project = Project.open(folder)
    manifest, top = project.read_manifest(), parse_layer("pool5", "vgg11_bn")
    saved = load_file(project.finetune_folder("full") / "model.safetensors")
    assert (saved["network.conv5_2_norm.running_mean"] != 0).all()  # left at zero unless batches were met
    plan = extraction_of(project, manifest, [top])
    weights, width = plan.recipe.weights, top.width(project.image_size)
    model = CutNetwork(top, "pixels", weights.state(top), weights.normalisation, 3, width)
    model.load_state_dict(saved)
    feed = Pixels(Decoder(manifest, plan.source, plan.recipe.preprocessing), "none")
    logits = scores(model, feed, manifest.where("test"), torch.device("cpu"))
    card = json.loads((project.finetune_folder("full") / "card.json").read_text("utf-8"))
    assert card["chosen"]["epoch"] == 1
    with np.load(project.finetune_folder("full") / "predictions.npz") as content:
        np.testing.assert_allclose(content["proba"], calibrated(logits, card["temperature"]), atol=1e-5)


def test_disagreeing_inputs_name_the_command_to_run_first(
    project: Path, vgg11_weights: Path, cli: Cli
) -> None:
    (project / "artifacts").mkdir()
    (project / "artifacts" / "weights").symlink_to(vgg11_weights)
    order = [
        (["extract"], "prepare"),
        (["prepare"], None),
        (["train", "--head", "knn"], "extract"),
        (["extract"], None),
        (["compare"], "train --head logreg"),
        (["report"], "compare"),
        (["results"], "compare"),
    ]
    for command, needs in order:
        done = cli(*command, "--project", project, code=2 if needs else 0)
        if needs:
            assert re.search(rf"run `(python \S*cli\.py )?{needs}[^`]*` first", done.stderr)
    seed = cli("extract", "--project", project, "-S", "dataset.seed=5", code=2)
    assert re.search(r"dataset.seed = 0, now it is 5; run `python \S*cli.py prepare .*` first", seed.stderr)
    dtype = cli("train", "--head", "knn", "--project", project, "-S", "extract.dtype=float32", code=2)
    wanted = r'extract.dtype = "float16", now it is "float32"; run `python \S*cli.py extract '
    assert re.search(wanted, dtype.stderr)


class Texts(HTMLParser):
    """Tags and texts of a page, as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_report_is_one_file_and_names_are_text_in_it(tmp_path: Path, cli: Cli) -> None:
    names = ["<img src=x onerror=alert(1)>", "猫", "$x_1$ & قط"]
    rng = np.random.default_rng(0)
    for number, name in enumerate(names):
        (tmp_path / "odd" / name).mkdir(parents=True)
        for k in range(40):
            pixels = np.clip(rng.normal(60 + 60 * number, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "odd" / name / f"{k}.png")
        (tmp_path / "odd" / name / "<b>bad.jpg").write_text("x")
    settings = [*QUICK, "dataset.name=folder", "dataset.root=../odd", "extract.layers=[pool5:avg]"]
    project = make_project(tmp_path / "project", [*settings, "finetune.modes=[]", "heads.mlp=null"])
    done = cli("run", "--project", project)
    assert "No fine-tuned baseline was run" in done.stdout
    page = (project / "report" / "index.html").read_text("utf-8")
    seen = Texts()
    seen.feed(page)
    assert all(set(attrs) == {"data-row", "alt"} for tag, attrs in seen.tags if tag == "img")
    assert "<b>bad.jpg" in seen.text
    for name in names:
        assert name in seen.text
    outside = [v for _, attrs in seen.tags for k, v in attrs.items() if k in ("src", "href", "xlink:href")]
    assert all(value is not None and value.startswith(("#", "data:")) for value in outside)


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


@pytest.mark.slow
@pytest.mark.timeout(900)  # twelve times DVC, with a stage for each head
def test_dvc_runs_what_changed_and_nothing_else(checkout: Path, images: Path, cli: Cli) -> None:
    heads = ["heads.rbf-svm=null", "heads.mlp=null", "heads.linear-svm=null"]
    quick = [*QUICK, "dataset.name=folder", f"dataset.root={images}", "extract.layers=[pool5]"]
    make_project(checkout, quick)
    # DVC's matrix takes every key of `heads:`, and a stage takes seconds also where its head is null
    text = (checkout / "params.yaml").read_text("utf-8")
    for head in heads:
        name = head.split(".")[1].split("=")[0]
        text = re.sub(rf"^  {name}:\n(    .*\n)+", "", text, flags=re.MULTILINE)
    (checkout / "params.yaml").write_text(text, "utf-8")
    first = stages_run(dvc(checkout, "repro"))
    assert set(first) == {
        "prepare", "weights", "extract", "train@logreg", "train@knn", "train@majority",
        "finetune", "compare", "advise", "report",
    }  # fmt: skip
    started = time.monotonic()
    assert stages_run(dvc(checkout, "repro")) == []
    assert time.monotonic() - started < 30
    assert "up to date" in dvc(checkout, "status")
    commit(checkout)
    # One head edited: that head runs, and what follows
    text = (checkout / "params.yaml").read_text("utf-8")
    (checkout / "params.yaml").write_text(re.sub(r"- 0\.01\n +- 1\n", "- 1.0e-7\n", text, count=1), "utf-8")
    assert stages_run(dvc(checkout, "repro")) == ["train@logreg", "compare", "advise", "report"]
    assert "pool5.logreg" in dvc(checkout, "metrics", "diff")
    # A study that nobody asked DVC for: the report that shows it is stale
    cli("layer-map", "--project", checkout)
    assert "artifacts/studies" in dvc(checkout, "status")
    assert stages_run(dvc(checkout, "repro")) == ["advise", "report"]
    assert (checkout / "artifacts" / "studies" / "layer-map.svg").exists()
    assert "up to date" in dvc(checkout, "status")
    # An image removed, added, edited: DVC says so
    image, new = images / "red" / "00.png", images / "red" / "new.png"
    sound = image.read_bytes()
    image.unlink()
    assert "prepare" in dvc(checkout, "status", "prepare")
    image.write_bytes(sound)
    new.write_bytes(sound)
    assert "prepare" in dvc(checkout, "status", "prepare")
    new.unlink()
    assert "up to date" in dvc(checkout, "status", "prepare")
    Image.new("RGB", (40, 48), "red").save(image)
    assert "prepare" in dvc(checkout, "status", "prepare")
    assert stages_run(dvc(checkout, "repro", "prepare")) == ["prepare"]
    assert "up to date" in dvc(checkout, "status", "prepare")


@pytest.mark.slow
def test_experiments_reach_the_heads_and_plots_name_every_method(checkout: Path, images: Path) -> None:
    make_project(
        checkout, [*QUICK, "dataset.name=folder", f"dataset.root={images}", "extract.layers=[pool5]"]
    )
    dvc(checkout, "repro")
    commit(checkout)
    # Experiments reach the heads
    output = dvc(checkout, "exp", "run", "-S", "heads.logreg.C=[0.5]", "train@logreg")
    assert stages_run(output) == ["train@logreg"]
    card = json.loads(next((checkout / "artifacts/heads/logreg").glob("*/card.json")).read_text("utf-8"))
    assert card["inputs"]["grid"]["C"] == [0.5]
    # Plots exist and name every method
    dvc(checkout, "plots", "show", "-o", "plots")
    assert "pool5.logreg" in (checkout / "plots" / "index.html").read_text("utf-8")
