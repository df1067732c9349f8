"""The page people look at: `report/index.html`, one file that needs nothing else.

    python cli.py report

At most about 8 MB, whatever the number of images and classes: long tables, matrices and pictures are
shortened, and say so. The same comparison makes the same bytes.
"""

import csv
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from features.files import naming, written_aside
from pipeline.advice.hindsight import judge
from pipeline.advice.scenario import named
from pipeline.advice.table import judgement
from pipeline.comparison.table import at_equal_budget
from pipeline.comparison.verdict import verdict
from pipeline.inspection.inspection import inspection
from pipeline.inspection.thumbnails import Thumbnails
from pipeline.project import Project, read_json
from pipeline.records.budget import read_budget
from pipeline.records.since import since
from pipeline.report import (
    accuracy,
    confusion,
    cost,
    differences,
    per_class,
    provenance,
    reliability,
    studies,
    training,
)
from pipeline.report.compared import Compared
from pipeline.report.section import Section

PROBLEMS_SHOWN = 200


def report(project: Project) -> None:
    """Write the report of the last comparison; BadInput where `compare` has to run first."""
    compared = Compared.read(project)
    thumbnails = Thumbnails(project, compared.manifest)
    sections = _sections(compared, thumbnails)  # which ask for pictures
    page = (
        _environment()
        .get_template("report.html")
        .render(
            about=_about(compared),
            verdict=[*since(project), *verdict(compared.lines, compared.test_images)],
            sections=sections,
            thumbnails=thumbnails.used,
        )
    )
    with written_aside(project.report) as aside:
        aside.write_text(page, "utf-8")


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _about(compared: Compared) -> dict[str, Any]:
    return {
        "name": compared.project.settings.dataset.name,
        "classes": len(compared.manifest.classes),
        "images": len(compared.manifest),
        "test_images": compared.test_images,
    }


def _sections(compared: Compared, thumbnails: Thumbnails) -> list[Section]:
    """All that there is something to say in, in the page's order."""
    found = inspection(compared.project, compared.lines, thumbnails)
    every = [
        accuracy.section(compared),
        cost.section(compared),
        differences.section(compared),
        confusion.section(compared, thumbnails),
        per_class.section(compared),
        reliability.section(compared),
        training.section(compared),
        studies.section(compared),
        Section("inspection", "What the features show of the images", found) if found else None,
        _advice(compared),
        _equal_budget(compared.project),
        _problems(compared.project),
        provenance.section(compared),
    ]
    return [section for section in every if section]


def _advice(compared: Compared) -> Section | None:
    """What `advise` said of these images, and whether it was right; None where it was not asked."""
    path = compared.project.studies / "advice.json"
    advice = read_json(path) if path.exists() else {}
    of_now = advice.get("manifest") == compared.manifest.digest and "none" not in advice
    if not of_now or not compared.is_of_now(advice["features"]):
        return None
    found, method = named(**advice["scenario"]), advice["advised"]["method"]
    hindsight = judge(
        compared.project, compared.lines, compared.test_images, advised=method, large=found.large
    )
    sentences = [
        f"From the features alone: {found.name}. The classic rule says: {found.says}. Advised was {method}.",
        *judgement(hindsight),
    ]
    return Section("advice", "Was the advice right?", sentences)


def _equal_budget(project: Project) -> Section | None:
    """What the baselines reach at the price of the best head; None without either."""
    sentences = at_equal_budget(read_budget(project))
    return Section("budget", "At the price of the best head", sentences) if sentences else None


def _problems(project: Project) -> Section:
    """What was found wrong with the images."""
    with naming(project.problems), project.problems.open(newline="", encoding="utf-8") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    content = {"rows": rows[:PROBLEMS_SHOWN], "count": len(rows)}
    return Section("problems", "Problems found in the images", content)
