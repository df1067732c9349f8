"""What names mean: which split a folder or a cell stands for, and which names people cannot tell apart.

split_of("Training")      # "train"
split_of("seg_test")      # "test"
split_of("trains")        # "": no split's name
part_of("fold_3")         # "fold"
twins(["Cat", "dog", "cat"])   # yields ("Cat", "cat", "in upper and lower case only")
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator

# How people name a split, in folders and tables, in any case, and what it is called from here on
SPLIT_NAMES = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing", "tst"),
}
# Means validation to some and test to others: never guessed
EITHER = ("eval", "evaluation", "holdout", "hold-out", "held-out")
# What stands around it and says nothing: seg_train, train_set, test-images, val2017
AROUND = r"(?:seg|sets?|subset|split|data|dataset|images?|imgs?|photos?|pictures?|folder|(?:19|20)\d\d)"
UNICODE = "in Unicode form only"
_MEANT = {word: split for split, words in SPLIT_NAMES.items() for word in words}
_SPLIT = re.compile(rf"(?:{AROUND}[\W_]*)*({'|'.join(_MEANT)}|{'|'.join(EITHER)})(?:[\W_]*{AROUND})*")
_PART = re.compile(rf"(fold|split|batch|shard|chunk|{'|'.join(_MEANT)})[\W_]*[0-9]+")
# Spreadsheets drop leading zeros and plus signs, data frames make 1 to 1.0 and 1.50 to 1.5
_NUMBER = re.compile(r"(?:\+|(-))?0*([0-9]+?)(?:\.([0-9]*?)0*)?")
JOINERS = "\u200c\u200d"  # of letters in many scripts, and of emoji
_AROUND = re.compile(rf"{AROUND}(?:[\W_]*{AROUND})*")


def split_of(name: str) -> str:
    """Return the split that a name stands for, in any case; "either" for eval and the like; or nothing."""
    found = _SPLIT.fullmatch(name.strip().casefold())
    return _MEANT.get(found[1], "either") if found else ""


def words(name: str) -> list[str]:
    """Words of a name, in lower case: of train_cats, trainCats and "train cats" these are train and cats."""
    return [word.casefold() for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", name) if word]


def split_within(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the split that one word of a name stands for, and the other words; nothing for none."""
    said = words(name)
    for k, word in enumerate(said):
        if len(said) > 1 and word in _MEANT:
            return _MEANT[word], (*said[:k], *said[k + 1 :])
    return "", ()


def part_of(name: str) -> str:
    """Return the word of a name such as fold0 or train_2, that of a part and of no class; or nothing."""
    found = _PART.fullmatch(name.strip().casefold())
    return found[1] if found else ""


def says_nothing(name: str) -> bool:
    """Whether a name tells of no class: data, images, photos, dataset."""
    return _AROUND.fullmatch(name.strip().casefold()) is not None


def in_utf8(path: str | os.PathLike[str]) -> str:
    """Return a path as it was given, but for bytes that are not UTF-8: they become backslash escapes."""
    try:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # text that no file system can write: half of a surrogate pair
        return os.fspath(path).encode("utf-8", "backslashreplace").decode()


def shown(text: str) -> str:
    """Return a name as a terminal can show it: what is not UTF-8, or would move its cursor, as escapes."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in in_utf8(text)
    )


def form(name: str) -> str:
    """Return what people see of a name: Unicode's composed form, without case, runs of space as one.

    Letters that nobody sees (zero width, marks of direction and of byte order, soft hyphens) are left
    out. Of a number it is the number, however it is written, in whichever digits.
    """
    if not name.isascii():
        name = _without_unseen(unicodedata.normalize("NFC", name))
    seen = " ".join(name.casefold().split())
    number = _NUMBER.fullmatch(unicodedata.normalize("NFKC", seen))
    if not number:
        return seen
    sign, whole, fraction = number.groups("")
    return sign + whole + (f".{fraction}" if fraction else "")


def _without_unseen(name: str) -> str:
    return "".join(letter for letter in name if letter in JOINERS or unicodedata.category(letter) != "Cf")


def twins(names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Find names that people cannot tell from an earlier one: that one, the name, what they differ in."""
    seen: dict[str, str] = {}
    for name in sorted(set(names)):
        first = seen.setdefault(form(name), name)
        if first != name:
            yield first, name, _difference(first, name)


def _difference(name: str, other: str) -> str:
    """Say what two names of one `form` differ in."""
    composed, same = (unicodedata.normalize("NFC", each) for each in (name, other))
    if composed == same:
        return UNICODE
    if _without_unseen(composed) == _without_unseen(same):
        return "in letters that nobody sees only"
    if composed.casefold() == same.casefold():
        return "in upper and lower case only"
    if composed.split() == same.split():
        return "in spaces only"
    if composed.casefold().split() == same.casefold().split():
        return "in spaces and case only"
    return "in how the number is written only"
