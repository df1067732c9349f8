"""What imports what, read from the source: lazy imports included, types alone not."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = ("features", "pipeline", "cli")


def name_of(path: Path) -> str:
    """`pipeline.heads.linear`; a package by its own name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {
    name_of(path): path
    for path in [*ROOT.glob("features/**/*.py"), *ROOT.glob("pipeline/**/*.py"), ROOT / "cli.py"]
}


def imported(module: str) -> set[str]:
    """Modules of ours that a module names in its imports."""
    return {name for name in _names(FILES[module]) if name in FILES} - {module}


def with_packages(modules: set[str]) -> set[str]:
    """Modules, and the packages that they lie in, whose `__init__` runs before them."""
    parts = [name.split(".") for name in modules]
    above = {".".join(each[:k]) for each in parts for k in range(1, len(each) + 1)}
    return above & set(FILES)


def closure(module: str) -> set[str]:
    """A module and everything that importing and using it can import."""
    reached, ahead = set[str](), [module]
    while ahead:
        new = with_packages({ahead.pop()}) - reached
        reached |= new
        ahead += [name for each in new for name in imported(each) - reached]
    return reached


def _names(path: Path) -> Iterator[str]:
    for node in _without_types(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in FILES else node.module


def _without_types(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING"):
            yield child
            yield from _without_types(child)
