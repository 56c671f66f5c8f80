"""Bodies: read with expat, written by hand.

Read: no DTD, no entities but XML's own five, bounded depth and number of elements; names without their namespace (SDKs
disagree on its trailing slash). Whatever cannot be read is MalformedXML.
Written: with the namespace as the service writes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

from ops.mns_server.errors import Refused

NAMESPACE = "http://mns.aliyuncs.com/doc/v1"
_MOST_DEPTH = 8
_MOST_ELEMENTS = 5000
_NOT_AS_THEY_ARE = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})  # a bare CR would be read as LF


@dataclass(slots=True)
class Element:
    """An element: its local name, its text and its children."""

    name: str
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def texts(self) -> dict[str, str]:
        """Return the texts of the children by name. Raises `Refused` (InvalidArgument) for one that is there twice."""
        result = {child.name: child.text for child in self.children}
        if len(result) < len(self.children):
            raise Refused("InvalidArgument", f"The element {self.name} holds one element more than once.")
        return result

    def within(self, name: str) -> list["Element"]:
        """Return the children of the child of that name; none where it is not there."""
        return [inner for child in self.children if child.name == name for inner in child.children]


def parse(body: bytes) -> Element:
    """Return the root. Raises `Refused` (MalformedXML)."""
    builder = _Builder()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = _refuse
    parser.ExternalEntityRefHandler = parser.SkippedEntityHandler = _refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as exc:  # the latter two: an encoding that is none
        raise _malformed() from exc
    if builder.root is None:
        raise _malformed()
    return builder.root


class _Builder:
    """Collects elements as expat reports them."""

    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[tuple[Element, list[str]]] = []
        self._count = 0

    def start(self, name: str, _: Mapping[str, str]) -> None:
        """An element begins."""
        self._count += 1
        if len(self._open) >= _MOST_DEPTH or self._count > _MOST_ELEMENTS:
            raise _malformed()
        element = Element(name.rpartition(" ")[2])
        if self._open:
            self._open[-1][0].children.append(element)
        else:
            self.root = element
        self._open.append((element, []))

    def end(self, _: str) -> None:
        """The innermost element ends."""
        element, texts = self._open.pop()
        element.text = "".join(texts)

    def data(self, text: str) -> None:
        """There is text in the innermost element."""
        self._open[-1][1].append(text)


def _refuse(*_: object) -> NoReturn:
    raise _malformed()


def _malformed() -> Refused:
    return Refused("MalformedXML", "The XML you provided was not well-formed.")


def escape(text: str) -> str:
    """Return the text as it stands in an element."""
    return text.translate(_NOT_AS_THEY_ARE)


def leaf(name: str, value: object) -> str:
    """Return an element that holds a value."""
    return f"<{name}>{escape(str(value))}</{name}>"


def leaves(elements: Mapping[str, object]) -> str:
    """Return one element for each entry."""
    return "".join(leaf(name, value) for name, value in elements.items())


def node(name: str, inner: str) -> str:
    """Return an element that holds others, already written."""
    return f"<{name}>{inner}</{name}>"


def document(name: str, inner: str) -> bytes:
    """Return a whole body with the root `name`."""
    return f'<?xml version="1.0" ?><{name} xmlns="{NAMESPACE}">{inner}</{name}>'.encode()
