"""Other settings than something was made with: the cause is named, and what is printed can be pasted."""

import re
import shlex
from collections.abc import Callable

import pytest

from features.errors import BadInput
from pipeline.advice.advise import advise
from pipeline.comparison.compare import compare
from pipeline.made_with import differing, in_words, way_back
from pipeline.params import load
from pipeline.predict.predictor import Predictor
from pipeline.project import Project
from pipeline.report.report import report
from pipeline.stores.extract import extract
from pipeline.studies.curve import curve
from tests.conftest import REPOSITORY

DIGITS = ("dataset.name=digits", "dataset.root=data")


def pasted(sentence: str) -> list[str]:
    """The overrides that a sentence offers, as a shell hands them over."""
    return shlex.split(sentence.partition("repeat ")[2].partition(", or write")[0])[1::2]


@pytest.mark.parametrize(
    "use",
    [Predictor, compare, report, advise, curve, lambda project: extract(project, project.layers)],
    ids=["predict", "compare", "report", "advise", "curve", "extract"],
)
def test_another_data_set_is_the_cause_that_is_named(
    finished: Project, use: Callable[[Project], object]
) -> None:
    with pytest.raises(BadInput) as refused:
        use(Project.open(finished.root, DIGITS))
    said = str(refused.value)
    assert 'made with 2 other settings: dataset.name = "folder"' in said
    assert "run `python cli.py" not in said  # which would replace the manifest by one of digits
    assert Project.open(finished.root, [*DIGITS, *pasted(said)]).settings == finished.settings


@pytest.mark.parametrize("method", ["pool5.logreg", "ensemble", "finetune.full"])
def test_a_method_of_other_images_names_the_data_set(finished: Project, method: str) -> None:
    with pytest.raises(BadInput, match=r'dataset\.name = "folder", now it is "digits"'):
        Predictor(Project.open(finished.root, ["dataset.name=digits", "extract.image_size=32"]), method)


def test_the_root_may_move_where_only_new_images_are_looked_at(finished: Project) -> None:
    Predictor(Project.open(finished.root, ["dataset.root=elsewhere", "dataset.seed=3"]), "pool5.logreg")


@pytest.mark.parametrize("setting", ["extract.image_size=64", "extract.dtype=float32", "extract.views=flip"])
def test_features_of_other_settings_name_these(finished: Project, setting: str) -> None:
    with pytest.raises(BadInput) as refused:
        Predictor(Project.open(finished.root, [setting]), "pool5.logreg")
    assert setting.partition("=")[0] in str(refused.value)
    Predictor(Project.open(finished.root, [setting, *pasted(str(refused.value))]), "pool5.logreg")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["heads.logreg.C=[1,2]"], "pool5.logreg was trained with heads.logreg.C = [0.01, 1.0], now it is"),
        (["tuning.seed=1", "compare.refit=true"], "2 other settings: compare.refit = false, now it is true"),
        (["finetune.epochs=2"], "finetune.full was trained with finetune.epochs = 1, now it is 2"),
    ],
)
def test_what_was_trained_with_other_settings_names_these(
    finished: Project, settings: list[str], said: str
) -> None:
    with pytest.raises(BadInput) as refused:
        compare(Project.open(finished.root, settings))
    assert said in str(refused.value)
    assert Project.open(finished.root, [*settings, *pasted(str(refused.value))]).settings == finished.settings


def test_a_grid_is_written_in_short() -> None:
    grids = [load(REPOSITORY / "params.yaml", o).heads.model_dump(mode="json", by_alias=True)
             for o in ([], ["heads.logreg.C=[1]"])]  # fmt: skip
    others = differing(*grids, "heads.")
    assert in_words(others) == "heads.logreg.C = 45 from 1e-06 to 100000, now it is [1.0]"
    assert (
        tuple(  # type: ignore[union-attr]
            grids[0]["logreg"]["C"]
        )
        == load(REPOSITORY / "params.yaml", pasted(way_back(others) + ", or write")).heads.logreg.C
    )


def test_what_an_older_version_did_not_know_cannot_be_repeated() -> None:
    assert way_back(differing({"seed": 0}, {"seed": 0, "new": 1}, "tuning.")) == ""
    assert re.search("new = null, now it is 1", in_words(differing({}, {"new": 1})))
