"""The documents: links lead somewhere, commands exist, and what is generated is current."""

import re
import tomllib
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

import cli
from docs.parameters import PAGE, PARAMS, entries, fields, page
from pipeline.params import Settings, load
from tests.conftest import REPOSITORY

PAGES = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *REPOSITORY.glob("docs/**/*.md"),
        *(REPOSITORY / folder / "README.md" for folder in ("benchmarks", "data")),
    ]
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"python cli\.py((?: +[a-z][a-z-]*)+)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def anchors(text: str) -> set[str]:
    """Names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.relative_to(REPOSITORY).as_posix())
def test_relative_links_lead_somewhere(file: Path) -> None:
    for link in LINK.findall(file.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = file.parent / name if name else file
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target.read_text("utf-8")), f"{link}: no such heading"


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.relative_to(REPOSITORY).as_posix())
def test_commands_exist_with_the_options_that_are_named(file: Path) -> None:
    text = re.sub(r"\\\n\s*", " ", file.read_text("utf-8"))  # a command over several lines
    for line in re.split(r"[\n`#]", text):
        if named := COMMAND.search(line):
            command: click.Command = cli.main
            for word in named[1].split():
                if not isinstance(command, click.Group):
                    break  # a word after the command
                assert word in command.commands, f"{file.name}: there is no command {named[1]}"
                command = command.commands[word]
            known = {option for parameter in command.params for option in parameter.opts} | {
                "--help",
                "--version",
            }
            unknown = set(OPTION.findall(line[named.end() :])) - known
            assert not unknown, f"{file.name}: {named[0]} has no {unknown}"


def test_the_page_of_parameters_is_what_its_generator_writes() -> None:
    assert PAGE.read_text("utf-8") == page(PARAMS.read_text("utf-8")), "run `python -m docs.parameters`"


def test_every_parameter_is_on_the_page_with_its_default() -> None:
    settings = load(PARAMS)
    found = {entry.key: entry.value for entry in entries(PARAMS.read_text("utf-8"))}
    assert {key for key, *_ in fields(Settings)} <= set(found)
    assert found["finetune.epochs"] == str(settings.finetune.epochs)
    assert found["heads.mlp.batch_size"] == str(settings.heads.mlp.batch_size)  # type: ignore[union-attr]


def test_the_citation_is_of_this_version() -> None:
    cited = YAML(typ="safe", pure=True).load((REPOSITORY / "CITATION.cff").read_text("utf-8"))
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        ours = tomllib.load(file)["project"]
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(cited)
    assert (str(cited["version"]), cited["license"]) == (ours["version"], ours["license"])
    for reference in cited["references"]:
        assert {"type", "title", "authors"} <= set(reference)
