"""The house: who may import whom, what a stage depends on, and what stays light."""

import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
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

# What stages run besides their deps, and that changes no result
NO_RESULT = {
    "cli": "parses and calls",
    "pipeline": "a docstring",
    "pipeline.made_with": "what is said",
    "pipeline.meter": "what it cost",
    "pipeline.overrides": "what it reads are parameters, which DVC knows",
    "pipeline.params": "what it reads are parameters, which DVC knows",
    "pipeline.project": "where files lie, and whether they fit",
    "pipeline.terminal": "how wide a table is",
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
        for other in sorted(imported(module)):
            theirs, their_room = floor(other)
            if their_room != room and theirs >= own:
                wrong.append(f"{module} imports {other}")
    assert not wrong


def test_no_circle_lazily_either() -> None:
    graph = {module: imported(module) for module in FILES}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


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
    ]
    assert not missing, f"dvc.yaml: {stage} lacks {', '.join(missing)}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_code_that_it_does_not_run(stage: str) -> None:
    reached = {FILES[module] for module in closure(COMMANDS[stage])}
    code = [dep for dep in STAGES[stage]["deps"] if dep.startswith(("features", "pipeline"))]
    idle = [dep for dep in code if not any(ROOT / dep in {file, *file.parents} for file in reached)]
    assert not idle


HEAVY = ("torch", "torchvision", "sklearn", "numba")


@pytest.mark.parametrize(
    "module",
    [
        *(COMMANDS[name] for name in ("results", "compare", "layer-map", "info", "cache", "predict")),
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
        "from cli import main\n"
        "for name in main.commands: assert CliRunner().invoke(main, [name, '--help']).exit_code == 0\n"
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


@pytest.mark.parametrize("part", ["features", "pipeline"])
def test_tests_lie_where_what_they_test_lies(part: str) -> None:
    tests = [path.relative_to(ROOT / "tests") for path in (ROOT / "tests" / part).rglob("test_*.py")]
    assert tests
    assert not [str(test) for test in tests if not (ROOT / test.parent / "__init__.py").exists()]
    rooms = {module.rpartition(".")[2]: module for module in FILES if module.count(".") > 1}
    astray = {
        str(test): rooms[name]
        for test in tests
        if len(test.parts) == 2 and (name := test.stem.removeprefix("test_")) in rooms
        if f"{part}.{name}" not in FILES and rooms[name].startswith(part)
    }
    assert not astray
