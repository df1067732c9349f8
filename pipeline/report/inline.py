"""SVG text made fit for a page: nothing in it can run or load, its ids are its own, its ink is the page's.

inline(plots.svg(figure), "accuracy", words="Accuracy of all methods", hints={"point-0": "pool5.knn: 96.3 %"})

What is not on the lists below is dropped: SVG files lie in a folder where anyone may edit them.
"""

import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET

from markupsafe import Markup

from features.errors import BadInput
from pipeline.plots import INK

TAGS = frozenset(("svg", "g", "defs", "clipPath", "path", "rect", "use", "image", "text", "tspan", "title"))
ATTRIBUTES = frozenset(
    ("id", "d", "style", "transform", "x", "y", "width", "height", "viewBox", "clip-path", "href",
     "preserveAspectRatio")
)  # fmt: skip
SAFE_LINK = re.compile(r"#[\w.-]+|data:image/png;base64,[A-Za-z0-9+/=\s]+")
INNER_REFERENCE = re.compile(r"url\(#([\w.-]+)\)")
FAMILIES = re.compile(r"'DejaVu Sans'.*?sans-serif")  # matplotlib lists a dozen at every text
LEAST, MOST = 0.55, 1.15  # of the size it was drawn for: between, the page's width decides
FINE_DIGITS = re.compile(r"(\.\d\d)\d+")  # below a hundredth of a point


def inline(text: str, name: str, *, words: str, hints: Mapping[str, str] | None = None) -> Markup:
    """Make SVG text part of a page.

    Parameters
    ----------
    text : str
        As `pipeline.plots.svg` writes it.
    name : str
        Goes before every id, so that no two pictures share one.
    words : str
        What the picture shows, for those who do not see it.
    hints : mapping of str to str, optional
        What is said of an element, by its id, where a pointer rests on it.

    Raises
    ------
    BadInput
        For text that is no SVG.
    """
    root = _parsed(text)
    _clean(root)
    used = {link for element in root.iter() for link in _links(element)}
    for element in root.iter():
        hint = (hints or {}).get(element.get("id", ""))
        if hint:
            ET.SubElement(element, "title").text = hint
        _rename(element, name, used)
    width = float(root.attrib.pop("width", "0pt").removesuffix("pt")) * 4 / 3
    root.attrib.pop("height", None)
    scale = f"min-width: {LEAST * width:.0f}px; max-width: {MOST * width:.0f}px"
    root.attrib |= {"role": "img", "aria-label": words, "style": scale}
    # Markup: made of the elements and attributes listed above, all text escaped by the serialiser
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704


def _parsed(text: str) -> ET.Element:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadInput("an SVG with a document type is not read; make the picture again")
    try:
        root = ET.fromstring(text)  # noqa: S314 - no document type, so no entities that could grow
    except ET.ParseError as error:
        raise BadInput(f"a picture is damaged ({error}); make it again") from error
    if _local(root.tag) != "svg":
        raise BadInput("a picture is no SVG; make it again")
    return root


def _clean(element: ET.Element) -> None:
    """Drop namespaces, and every element and attribute that is not listed."""
    element.tag = _local(element.tag)
    element.attrib = {
        _local(key): value for key, value in element.attrib.items() if _allowed(_local(key), value)
    }
    if element.tag in ("g", "defs", "svg"):
        element.text = None
    for child in list(element):
        child.tail = None if element.tag != "text" else child.tail
        if isinstance(child.tag, str) and _local(child.tag) in TAGS:
            _clean(child)
        else:
            element.remove(child)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _allowed(key: str, value: str) -> bool:
    if key == "href":
        return SAFE_LINK.fullmatch(value) is not None
    return key in ATTRIBUTES and "url(" not in INNER_REFERENCE.sub("", value)


def _links(element: ET.Element) -> list[str]:
    """The ids that an element refers to."""
    found = INNER_REFERENCE.findall(" ".join(element.attrib.values()))
    return [*found, element.get("href", "").removeprefix("#")]


def _rename(element: ET.Element, name: str, used: set[str]) -> None:
    """Keep only ids that are referred to, with the picture's name before them; ink is the page's colour."""
    if element.attrib.get("id") not in used:
        element.attrib.pop("id", None)
    for key, value in element.attrib.items():
        element.set(key, _renamed(key, value, name))


def _renamed(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value[1:]}" if value.startswith("#") else value
    if key in ("d", "transform"):
        return FINE_DIGITS.sub(r"\1", value)
    value = INNER_REFERENCE.sub(rf"url(#{name}-\1)", value)
    return FAMILIES.sub("sans-serif", value).replace(INK, "currentColor")
