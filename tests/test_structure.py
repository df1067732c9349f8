"""The house: who may import whom, what a stage depends on, and what stays light."""

import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.imports import FILES, ROOT, closure, imported

# Each imports from the floors below it and from itself, never from beside it or above: lazily neither
FLOORS = (
    ("features",),
    ("pipeline.statistics", "pipeline.terminal", "pipeline.overrides"),
    ("pipeline.heads",),
    ("pipeline.params",),
    ("pipeline.made_with",),
    ("pipeline.project",),
    ("pipeline.records", "pipeline.datasets"),
    ("pipeline.meter", "pipeline.plots"),
    ("pipeline.tuning", "pipeline.stores", "pipeline.checks"),
    ("pipeline.finetuning",),
    ("pipeline.predict", "pipeline.comparison", "pipeline.studies"),
    ("pipeline.advice", "pipeline.inspection", "pipeline.export"),
    ("pipeline.report",),
    ("cli",),
)

COMMANDS = {
    "prepare": "pipeline.datasets.prepare",
    "weights": "pipeline.stores.weights",
    "extract": "pipeline.stores.extract",
    "train": "pipeline.tuning.train",
    "finetune": "pipeline.finetuning.finetune",
    "compare": "pipeline.comparison.compare",
    "report": "pipeline.report.report",
    "results": "pipeline.comparison.results",
    "advise": "pipeline.advice.advise",
    "curve": "pipeline.studies.curve",
    "layer-map": "pipeline.studies.layer_map",
    "sweep-cut": "pipeline.studies.sweep_cut",
    "predict": "pipeline.predict.predict",
    "export": "pipeline.export.export",
    "verify": "pipeline.stores.verify",
    "info": "pipeline.stores.info",
    "cache": "pipeline.stores.cache",
    "doctor": "pipeline.checks.doctor",
}

# What stages run, and what changes no result: how they talk, what they show, where files lie, and how
# what is wrong is found and said
NO_RESULT = {
    "cli": "parses and calls",
    "features.cores": "how many threads",
    "features.errors": "what is said",
    "features.files": "how files are written",
    "features.progress": "what is shown",
    "features.profile": "where the time went",
    "features.turns": "who waits for whom",
    "pipeline.made_with": "what is said",
    "pipeline.meter": "what it cost",
    "pipeline.overrides": "what it reads are parameters, which DVC knows",
    "pipeline.params": "what it reads are parameters, which DVC knows",
    "pipeline.project": "where files lie, and whether they fit",
    "pipeline.terminal": "what is shown",
}


def floor(module: str) -> tuple[int, str]:
    """The floor a module is on, and its room."""
    return next(
        (number, room)
        for number, rooms in enumerate(FLOORS)
        for room in rooms
        if module == room or module.startswith(f"{room}.")
    )


def test_every_module_imports_downward_only() -> None:
    wrong = []
    for module in sorted(FILES):
        if module == "pipeline":
            continue
        own, room = floor(module)
        for other in sorted(imported(module) - {"pipeline"}):
            theirs, their_room = floor(other)
            if their_room != room and theirs >= own:
                wrong.append(f"{module} imports {other}")
    assert not wrong


def test_no_circle_lazily_either() -> None:
    reached = {module: closure(module) for module in FILES}
    packages = {module for module in FILES if any(other.startswith(f"{module}.") for other in FILES)}
    circles = [
        f"{one} and {other} import each other"
        for one in sorted(set(FILES) - packages)
        for other in sorted(reached[one] - {one} - packages)
        if one in reached[other]
    ]
    assert not circles


def test_only_the_command_line_imports_commands() -> None:
    modules = set(COMMANDS.values())
    assert modules <= set(FILES)
    wrong = [
        f"{module} imports {command}"
        for module in sorted(set(FILES) - {"cli"})
        for command in sorted(imported(module) & modules)
    ]
    assert not wrong


STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_that_its_command_imports(stage: str) -> None:
    deps = [ROOT / dep for dep in STAGES[stage]["deps"]]
    missing = [
        module
        for module in sorted(closure(COMMANDS[stage]) - set(NO_RESULT))
        if not any(FILES[module] == dep or dep in FILES[module].parents for dep in deps)
        and FILES[module].read_text("utf-8").count("\n") > 1  # more than a docstring
    ]
    assert not missing, f"dvc.yaml: {stage} lacks {', '.join(missing)}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_code_that_it_does_not_run(stage: str) -> None:
    reached = {FILES[module] for module in closure(COMMANDS[stage])}
    code = [dep for dep in STAGES[stage]["deps"] if dep.startswith(("features", "pipeline"))]
    idle = [dep for dep in code if not any(ROOT / dep in {file, *file.parents} for file in reached)]
    assert not [dep for dep in idle if not dep.endswith((".md", "templates"))]


HEAVY = ("torch", "torchvision", "sklearn", "numba")


@pytest.mark.parametrize(
    "module",
    [
        *(
            COMMANDS[name]
            for name in ("results", "compare", "layer-map", "info", "cache", "predict", "export")
        ),
        *sorted(module for module in FILES if module.startswith("pipeline.records")),
        "pipeline.finetuning.plan",
        "pipeline.heads",
        "pipeline.project",
    ],
)
def test_reading_what_a_stage_left_imports_nothing_that_trains(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{n.split('.')[0] for n in sys.modules}} & set({HEAVY!r})))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == []


def test_the_help_of_every_command_is_light() -> None:
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from cli import cli\n"
        f"for name in cli.commands: assert CliRunner().invoke(cli, [name, '--help']).exit_code == 0\n"
        f"print(*sorted({{n.split('.')[0] for n in sys.modules}} & set({(*HEAVY, 'zarr', 'matplotlib')!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == []


def test_features_know_nothing_of_the_pipeline() -> None:
    assert not [module for module in FILES if module.startswith("features") and any(
        other.startswith(("pipeline", "cli")) for other in imported(module)
    )]  # fmt: skip


def test_no_room_is_empty() -> None:
    rooms = [path for path in (ROOT / "pipeline").iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert all((room / "__init__.py").exists() for room in rooms), [str(Path(room)) for room in rooms]
