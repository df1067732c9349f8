"""The comparison in words and as a table on the terminal.

python cli.py results
"""

from pipeline.comparison.table import at_equal_budget, table
from pipeline.comparison.verdict import verdict
from pipeline.project import Project
from pipeline.records.budget import read_budget
from pipeline.records.comparison import read_lines
from pipeline.records.since import since
from pipeline.terminal import plain_console, print_whole


def results(project: Project) -> None:
    """Print the table of the last comparison, the verdict, and where the report is."""
    lines, test_images = read_lines(project)
    console = plain_console()
    print_whole(console, table(lines, test_images))
    if not all(line.converged for line in lines):
        console.print("* the solver stopped before it converged")
    for sentence in (*since(project), *verdict(lines, test_images)):
        console.print(sentence)
    for sentence in at_equal_budget(read_budget(project)):
        console.print(sentence)
    if project.report.exists():
        console.print(f"Report: {project.report}", soft_wrap=True)
