"""Folders of image files: `root/<class>/**`, or `root/<split>/<class>/**` (see `layout`)."""

from pathlib import Path

from features.errors import BadInput
from features.images import ImageFolder
from features.manifest import SPLITS
from pipeline.datasets.base import Found, Listing, Problem
from pipeline.datasets.faults import checked
from pipeline.datasets.layout import held, layout
from pipeline.datasets.names import in_utf8, shown
from pipeline.datasets.walk import Passed, Place, Tree, place


def listing(root: Path) -> Listing:
    """List the image files; what is passed over becomes problems.

    Raises
    ------
    BadInput
        No such folder, no images, a class folder without any, folders of which it is not clear what they
        are (see `layout`), a disk that does not answer.
    """
    if not root.is_dir():
        raise BadInput(f"dataset.root: {'this is a file:' if root.exists() else 'there is no folder'} {root}")
    tree = Tree()
    arranged = layout(tree, place(str(root)))
    found: list[Found] = []
    passed = list(arranged.passed)
    for split, folder in arranged.classes:
        images = _images(tree, folder, root, passed)
        found += [Found(_relative(one.path, root), folder.name, split) for one in images]
    problems = [_problem(one, root) for one in passed]
    if not found:
        listed = f" ({len(problems)} entries were passed over)" if problems else ""
        raise BadInput(
            f"no images found in {root}{listed}; expected {root}/<class>/*.jpg "
            f"or {root}/{{{','.join(SPLITS)}}}/<class>/*.jpg"
        )
    found.sort(key=lambda image: image.path)
    given = frozenset(split for split, _ in arranged.classes) - {""}
    return Listing(ImageFolder(root), found, problems, given)


def _images(tree: Tree, folder: Place, root: Path, passed: list[Passed]) -> list[Place]:
    """Images of a class folder; what the manifest cannot name is passed over, too."""
    images, others = [], []
    for one in tree.walk(folder):
        if isinstance(one, Passed):
            others.append(one)
        elif _is_text(one.path):
            images.append(one)
        else:
            kind, said = "named not in UTF-8", "the name is not valid UTF-8"
            others.append(Passed(one.path, kind, said, lost=True))
    if not images:
        said = held(others)
        raise BadInput(
            f"the class folder {shown(folder.path)} holds no images"
            f"{f' that can be used, but {said}' if said else ''}; fill it, or take it out of {root}"
        )
    passed += others
    return images


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _problem(passed: Passed, root: Path) -> Problem:
    """Say it of the path below root; BadInput where it may be otherwise the next time."""
    if passed.error:
        checked(passed.path, passed.error)
    action = "set aside" if passed.lost else "ignored"
    return Problem(in_utf8(_relative(passed.path, root)), passed.reason, action, passed.kind)


def _relative(path: str, root: Path) -> str:
    return path[len(str(root)) :].lstrip("/")
