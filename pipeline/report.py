"""The page people look at: `report/index.html`, one file that needs nothing else.

python cli.py report
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from features.errors import BadInput
from features.files import written_aside
from pipeline import budget, plots
from pipeline.advice.hindsight import judge
from pipeline.advice.results import judgement
from pipeline.advice.scenario import named
from pipeline.compare import Line, baseline_of, best_head, confusion_of, read_lines
from pipeline.plot_tables import read_tuning
from pipeline.project import Project, read_json
from pipeline.results import at_equal_budget, cells
from pipeline.verdict import verdict

PROBLEMS_SHOWN = 200


@dataclass(frozen=True)
class Picture:
    """An SVG, its title, and what it shows in words."""

    title: str
    words: str
    svg: Markup


def report(project: Project) -> None:
    """Write the report of the last comparison; BadInput where `compare` has to run first."""
    lines, test_images = read_lines(project)
    lines = sorted(lines, key=lambda line: -line.top1)
    for needed, command in ((project.dataset_record, "prepare"), (project.extract_record, "extract")):
        if not needed.exists():
            raise BadInput(f"there is no {needed}; run `python cli.py {command}` first")
    baseline = baseline_of(lines)
    environment = Environment(
        loader=PackageLoader("pipeline"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    problems = _problems(project)
    page = environment.get_template("report.html").render(
        verdict=verdict(lines, test_images),
        lines=lines,
        cells={line.method: cells(line, with_difference=baseline is not None) for line in lines},
        baseline=baseline,
        advice=_advice(project, lines, test_images),
        budget=at_equal_budget(budget.read(project)),
        test_images=test_images,
        pictures=_pictures(project),
        dataset=read_json(project.dataset_record),
        weights=read_json(project.weights_folder / "provenance.json"),
        extraction=read_json(project.extract_record),
        problems=problems[:PROBLEMS_SHOWN],
        problem_count=len(problems),
    )
    with written_aside(project.report) as aside:
        aside.write_text(page, "utf-8")


def _advice(project: Project, lines: Sequence[Line], test_images: int) -> list[str]:
    """What `advise` said of these images, and whether it was right; nothing where it was not asked."""
    path, images = project.artifacts / "advice.json", read_json(project.dataset_record)["manifest"]
    if not path.exists() or (advice := read_json(path))["manifest"] != images:
        return []
    found, method = named(**advice["scenario"]), advice["advised"]["method"]
    return [
        f"From the features alone: {found.name}. The classic rule says: {found.says}. Advised was {method}.",
        *judgement(judge(project, lines, test_images, advised=method, large=found.large)),
    ]


def _pictures(project: Project) -> list[Picture]:
    lines, test_images = read_lines(project)
    # Markup: matplotlib escapes the names it draws
    found = [
        Picture(
            "Accuracy of all methods",
            f"Top-1 accuracy on {test_images} test images with 95 % intervals. "
            "Orange: fine-tuned. Hollow: a layer with untrained weights. Grey: controls without a network; "
            "the majority class is left out.",
            Markup(plots.accuracies(lines)),  # noqa: S704
        )
    ]
    if tried := read_tuning(project):
        found.append(
            Picture(
                "Accuracy against C",
                "What was tried of the linear heads, on validation rows: C is the inverse strength of the "
                "penalty. A best value at the edge of its grid has extended the grid.",
                Markup(plots.regularisation(tried)),  # noqa: S704
            )
        )
    for line in (best_head(lines), baseline_of(lines)):
        if line:
            table, classes = confusion_of(project, line.method)
            right, total = int(table.trace()), int(table.sum())
            found.append(
                Picture(
                    f"Confusion: {line.label}",
                    f"Test images by true and predicted class; {right} of {total} are right.",
                    Markup(plots.confusion(table, classes)),  # noqa: S704
                )
            )
    return found


def _problems(project: Project) -> list[dict[str, Any]]:
    with project.problems.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
