"""What the settings switch off: a head that is null, no baseline. DVC runs their stages all the same."""

import pytest

from features.errors import BadInput
from features.files import read_text
from pipeline.comparison.compare import compare
from pipeline.finetuning.finetune import finetune
from pipeline.project import Project
from pipeline.stores.extract import extract
from pipeline.tuning.train import train
from tests.conftest import Cli, refusal

FEW = ("extract.layers=[pool5]", "extract.pixels=false", "finetune.modes=[]")


def test_a_head_that_is_null_leaves_no_method(prepared: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project = Project.open(prepared.root, FEW)
    extract(project, project.layers)
    for head in ("majority", "knn"):
        train(project, head)
    off = Project.open(prepared.root, [*FEW, *(f"heads.{name}=null" for name in OTHERS)])
    train(off, "knn")
    assert "train: knn is switched off (heads.knn is null)\n" in capsys.readouterr().out
    left = [
        path.relative_to(off.artifacts / "heads").as_posix() for path in off.artifacts.glob("heads/knn/**/*")
    ]
    assert left == ["knn/README.md"]  # an empty folder would be a warning of DVC's
    finetune(off, ())
    assert [line.method for line in compare(off)] == ["majority"]
    train(project, "knn")  # and on again
    assert sorted(path.name for path in project.head_folder("knn").iterdir()) == ["pool5.knn"]


OTHERS = ("logreg", "linear-svm", "rbf-svm", "mlp", "knn")


def test_a_head_that_is_misspelt_or_left_out_stays_an_error(prepared: Project, cli: Cli) -> None:
    with pytest.raises(BadInput, match=r"there is no 'mpl' in params\.yaml"):
        train(Project.open(prepared.root, ["heads.mlp=null"]), "mpl")
    where = ("--project", prepared.root)
    assert "there is no parameter 'heads.mpl'" in refusal(
        cli("train", "--head", "mlp", "-S", "heads.mpl=null", *where, code=2)
    )
    off = cli("train", "--head", "mlp", "-S", "heads.mlp=null", *where)
    assert off.stdout == "train: mlp is switched off (heads.mlp is null)\n"


def test_no_baseline_leaves_a_word_that_goes_when_there_is_one(prepared: Project) -> None:
    off = Project.open(prepared.root, ["finetune.modes=[]"])
    finetune(off, ())
    note = off.finetune_folder() / "README.md"
    assert "finetune.modes is []" in read_text(note)
    finetune(off, ())
    assert [path.name for path in off.finetune_folder().iterdir()] == ["README.md"]
    cut = Project.open(prepared.root, ["extract.layers=[pool5]", "extract.pixels=false"])
    extract(cut, cut.layers)
    finetune(cut, ("freeze:pool5",))
    assert not note.exists()
