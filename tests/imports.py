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


def imported(module: str, *, lazily: bool = True) -> set[str]:
    """Modules of ours that a module imports itself, and the packages that these lie in."""
    found = set()
    for name in _names(FILES[module], lazily=lazily):
        parts = name.split(".")
        found |= {known for k in range(1, len(parts) + 1) if (known := ".".join(parts[:k])) in FILES}
    return found - {module}


def closure(module: str) -> set[str]:
    """A module and everything that importing and using it can import."""
    reached, ahead = {module}, [module]
    while ahead:
        new = imported(ahead.pop()) - reached
        reached |= new
        ahead += new
    return reached


def _names(path: Path, *, lazily: bool) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    for node in _walked(tree, lazily=lazily):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _walked(node: ast.AST, *, lazily: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING":
            continue
        if not lazily and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from _walked(child, lazily=lazily)
