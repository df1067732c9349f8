"""What the folders of a data set are: classes, or splits with classes in them, or neither.

    photos/cat/*.jpg        photos/train/cat/*.jpg        photos/archive/train/cat/*.jpg
    photos/dog/*.jpg        photos/valid/cat/*.jpg        …
                            photos/test/cat/*.jpg

Folders decide, never files beside them. Where the names allow two readings, both are named and refused.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from features.errors import BadInput
from features.manifest import SPLITS
from pipeline.datasets.faults import checked
from pipeline.datasets.names import form, part_of, says_nothing, split_of, split_within
from pipeline.datasets.system import THUMBNAILS
from pipeline.datasets.walk import Passed, Place, Tree

SHARED = 2  # folders of one name in two siblings from which on these are no classes
TABLE = "list the images in a table (dataset.name = csv)"


@dataclass(frozen=True)
class ClassFolders:
    """Class folders by split (empty: to be drawn), and what lies beside them."""

    classes: list[tuple[str, Place]]
    passed: list[Passed]


def layout(tree: Tree, root: Place) -> ClassFolders:
    """Find the class folders.

    Raises
    ------
    BadInput
        Where folders look like classes as well as splits, or one folder stands under two names.
    """
    passed: list[Passed] = []
    outer = _outer(tree, root, passed)
    splits = _splits(tree, outer)
    if not splits:
        return ClassFolders([("", folder) for folder in _classes(tree, outer, passed)], passed)
    _beside(tree, outer, list(splits.values()), "not in a split folder", passed)
    found = []
    for split in SPLITS:
        if split in splits:
            inner = _within(tree, splits[split], split, passed)
            found += [(split, folder) for folder in _classes(tree, inner, passed)]
    return ClassFolders(found, passed)


def _outer(tree: Tree, folder: Place, passed: list[Passed]) -> Place:
    """Go into the one folder that holds all, as archives have it; a split folder is none."""
    been = {folder.real}
    while True:
        holding = [inner for inner in tree.level(folder).folders if tree.holds_images(inner)]
        if len(holding) != 1 or holding[0].real in been:  # links may lead back
            return folder
        if split_of(holding[0].name) or not tree.level(holding[0]).folders:
            return folder
        _beside(tree, folder, holding, "not in a class folder", passed)
        folder = holding[0]
        been.add(folder.real)


def _within(tree: Tree, folder: Place, split: str, passed: list[Passed]) -> Place:
    """Go into seg_train/seg_train or train/images, where the class folders are."""
    been = {folder.real}
    while True:
        inner = tree.level(folder).folders
        if len(inner) != 1 or inner[0].real in been or not tree.level(inner[0]).folders:
            return folder
        if split_of(inner[0].name) != split and not says_nothing(inner[0].name):
            return folder
        _beside(tree, folder, inner, "not in a class folder", passed)
        folder = inner[0]
        been.add(folder.real)


def _splits(tree: Tree, outer: Place) -> dict[str, Place]:
    """Split folders by split; none where the folders are classes.

    One folder with the name of a split may be a class (trains), two are splits.
    """
    folders = tree.level(outer).folders
    named = {folder: split for folder in folders if (split := split_of(folder.name))}
    others = [folder for folder in folders if folder not in named]
    if len(named) == 1 and not _is_split(tree, outer, next(iter(named)), others):
        return {}
    _refuse_unclear(tree, outer, named)
    return {split: folder for folder, split in named.items()}


def _is_split(tree: Tree, outer: Place, only: Place, others: Sequence[Place]) -> bool:
    """Whether the one folder with the name of a split is one: it has class folders, and no siblings."""
    if split_of(only.name) != "train" or not tree.level(only).folders:
        return False
    holding = [folder for folder in others if tree.holds_images(folder)]
    if holding:
        raise BadInput(
            f"{outer.path}: {only.name} may be the train split, with {tree.level(only).folders[0].name} and "
            f"so on as classes, or a class beside {holding[0].name}; if it is a split, move "
            f"{holding[0].name} out, else rename {only.name}"
        )
    return True


def _refuse_unclear(tree: Tree, outer: Place, named: dict[Place, str]) -> None:
    """Refuse split folders of which it is not sure that they are, or which one is meant."""
    for folder, split in named.items():
        if split == "either":
            raise BadInput(
                f"{outer.path}: {folder.name} may be validation or test; rename it to the one that it is"
            )
    for one, other in combinations(named, 2):
        if named[one] == named[other]:
            raise BadInput(
                f"{outer.path} has both {one.name} and {other.name} for {named[one]}; keep one of them"
            )
        if one.real == other.real:
            raise BadInput(
                f"{outer.path}: {one.name} and {other.name} are one folder by a link; delete the link"
            )
    if named and "train" not in named.values():
        names = " and ".join(folder.name for folder in named)
        raise BadInput(
            f"{outer.path}: {names} have the names of splits, and there is no train beside them; add it, or "
            "rename them if they are classes"
        )
    flat = [folder for folder in named if not tree.level(folder).folders]
    if flat:
        _check_readable(tree, flat[0])
        out = "" if len(flat) == len(named) else f", or move {flat[0].name} out of {outer.path}"
        raise BadInput(
            f"{outer.path}: {flat[0].name} has the name of a split, as have others beside it, and holds no "
            f"class folders ({held(tree.walk(flat[0])) or 'nothing at all'}); sort its images into "
            f"folders, one for each class, or {TABLE}{out}, or rename it if it is a class"
        )


def _classes(tree: Tree, folder: Place, passed: list[Passed]) -> list[Place]:
    """Class folders within a folder.

    Raises
    ------
    BadInput
        Where siblings hold the same folders, which are then the classes, or one is a link to another.
    """
    classes = tree.level(folder).folders
    _beside(tree, folder, classes, "not in a class folder", passed)
    first: dict[str, Place] = {}
    for one in classes:
        other = first.setdefault(one.real, one)
        if other is not one:
            raise BadInput(
                f"{folder.path}: {other.name} and {one.name} are one folder by a link; delete the link"
            )
    _refuse_split_names(folder, classes)
    within = {one: _names_within(tree, one) for one in classes}
    counts = Counter(name for names in within.values() for name in names)
    common = {name for name, count in counts.items() if count > 1}
    several = [(one, names & common) for one, names in within.items() if len(names & common) >= SHARED]
    for (one, names), (other, more) in combinations(several, 2):
        if len(both := names & more) >= SHARED and 2 * len(both) >= len(within[one] | within[other]):
            raise BadInput(_no_classes(folder, one, other, sorted(both)))
    if len(classes) > 1 and len({part_of(one.name) for one in classes}) == 1 and part_of(classes[0].name):
        raise BadInput(
            f"{folder.path}: {classes[0].name} and {classes[1].name} have the names of parts of a data set, "
            f"not of classes; {TABLE}, or rename them if they are classes"
        )
    return classes


def _refuse_split_names(folder: Place, classes: Sequence[Place]) -> None:
    """Refuse train_cats beside test_cats: splits of one class, that would be two classes."""
    first: dict[tuple[str, ...], tuple[str, Place]] = {}
    for one in classes:
        split, rest = split_within(one.name)
        if split:
            other, place = first.setdefault(rest, (split, one))
            if other != split:
                name = " ".join(rest)
                raise BadInput(
                    f"{folder.path}: {place.name} and {one.name} look like splits of one class; arrange "
                    f"them as {other}/{name} and {split}/{name}, or rename them if they are classes"
                )


def _names_within(tree: Tree, folder: Place) -> set[str]:
    return {form(inner.name) for inner in tree.level(folder).folders} - THUMBNAILS


def _no_classes(folder: Place, one: Place, other: Place, both: list[str]) -> str:
    inner = ", ".join(both[:3]) + (", …" if len(both) > 3 else "")
    if all(split_of(name) for name in both):
        return (
            f"{folder.path}: {one.name} and {other.name} hold splits ({inner}) and should be held by them; "
            f"arrange them as train/{one.name}, train/{other.name} and so on, or {TABLE}"
        )
    return (
        f"{folder.path}: {one.name} and {other.name} hold the same folders ({inner}): these may be the "
        f"classes and {one.name} and {other.name} splits, or the other way round; if they are splits, "
        f"call them train, validation and test, else {TABLE}"
    )


def _beside(tree: Tree, folder: Place, taken: Sequence[Place], why: str, passed: list[Passed]) -> None:
    """Pass over what lies in a folder beside those that are taken."""
    level = tree.level(folder)
    _check_readable(tree, folder)
    passed += level.passed
    passed += [Passed(image.path, "outside class folders", why, lost=True) for image in level.images]
    for inner in level.folders:
        if inner in taken:
            continue
        if tree.holds_images(inner):
            said = f"{why}; it holds {held(tree.walk(inner))}"
            passed.append(Passed(inner.path, "in other folders", said, lost=True))
        else:
            passed.append(Passed(inner.path, "without images", why, lost=False))


def _check_readable(tree: Tree, folder: Place) -> None:
    """Refuse a folder that cannot be read where it decides what the others are."""
    for passed in tree.level(folder).passed:
        if passed.path == folder.path and passed.error:
            raise BadInput(f"{folder.path} {checked(folder.path, passed.error)}; make it readable")


def held(found: Iterable[Place | Passed]) -> str:
    """In words, what a walk found and in which number: "12 images, 3 .txt"; empty for nothing."""
    kinds = Counter("images" if isinstance(one, Place) else one.kind for one in found)
    return ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common(4))
