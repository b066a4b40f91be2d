"""JSON, XML and YAML of strangers: read in constant memory or within a limit, nested so deep and no deeper.

No entity is expanded, no DTD read, no alias followed.
"""

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any
from xml.parsers import expat

import yaml

from ownvision.data_rights.formats.unpack import Files, read, refused

ELEMENT_CHARACTERS = 16 * 2**20  # of one element of an array, such as an annotation with its mask
LINE_BYTES = 16 * 2**20
XML_BYTES = 16 * 2**20
YAML_BYTES = 256 * 1024
_XML_DEPTH = 32
_YAML_DEPTH = 16
_CHUNK = 256 * 1024
_SPACE = " \t\r\n"
_BEHIND = frozenset(_SPACE + ",]}:")


def elements(files: Files, name: str) -> Iterator[tuple[str, Any]]:
    """What the object in a JSON file holds: (key, value), and for a key with an array (key, element) for each element.

    Raises:
        OwnVisionError: BadRequestInvalid, for what is no such file.
    """
    with files.open(name) as stream:
        yield from _Reader(stream, name).elements()


class _Reader:
    """Reads one JSON object from a stream, an element at a time."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream, self._name = stream, name
        self._text, self._at, self._ended = "", 0, False
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._parse = json.JSONDecoder().raw_decode

    def elements(self) -> Iterator[tuple[str, Any]]:
        self._expect("{")
        if self._next() == "}":
            return
        while True:
            key = self._value()
            if not isinstance(key, str):
                raise self._wrong("a key of its object is no text")
            self._expect(":")
            if self._next() == "[":
                self._at += 1
                if self._next() == "]":
                    self._at += 1
                else:
                    yield key, self._value()
                    while self._either(",]") == ",":
                        yield key, self._value()
            else:
                yield key, self._value()
            if self._either(",}") == "}":
                return

    def _more(self) -> bool:
        if self._ended:
            return False
        data = self._stream.read(_CHUNK)
        try:
            more = self._decode(data, not data)
        except UnicodeDecodeError:
            raise self._wrong("it is no UTF-8") from None
        self._text, self._at, self._ended = self._text[self._at :] + more, 0, not data
        return not self._ended

    def _next(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            while self._at < len(self._text):
                if (character := self._text[self._at]) not in _SPACE:
                    return character
                self._at += 1
            if not self._more():
                return ""

    def _expect(self, character: str) -> None:
        if self._next() != character:
            raise self._wrong(f"{character!r} is missing")
        self._at += 1

    def _either(self, characters: str) -> str:
        found = self._next()
        if not found or found not in characters:
            raise self._wrong(f"{' or '.join(map(repr, characters))} is missing")
        self._at += 1
        return found

    def _value(self) -> Any:
        self._next()
        while True:
            try:
                value, end = self._parse(self._text, self._at)
            except RecursionError:
                raise self._wrong("it is nested too deep") from None
            except ValueError as error:
                # Only its words: the error itself holds the text that was parsed, and this frame.
                end, why = len(self._text), _short(error)
            else:
                # What was taken for a number may go on in the next chunk: "1", "1.", "1.5e3".
                if self._ended or self._text[end : end + 1] in _BEHIND:
                    self._at = end
                    return value
                end, why = len(self._text), "it ends early"
            if len(self._text) - self._at > ELEMENT_CHARACTERS:
                raise self._wrong("it is no JSON, or one of its elements is too large")
            # Twice as much each time: an element is not parsed anew for every chunk.
            wanted, grew = 2 * (len(self._text) - self._at), False
            while len(self._text) - self._at < wanted and self._more():
                grew = True
            if not grew and self._ended and end == len(self._text):
                raise self._wrong(f"it is no JSON ({why})")

    def _wrong(self, why: str) -> Exception:
        return refused("The data set", self._name, f"can't be read: {why}")


def json_lines(files: Files, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-Lines file with the numbers of their lines, from 1; empty lines are passed over.

    Raises:
        OwnVisionError: BadRequestInvalid, naming the line.
    """
    for number, line in text_lines(files, name):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            why = "is nested too deep" if isinstance(error, RecursionError) else f"is no JSON ({_short(error)})"
            raise refused("The data set", f"{name}, line {number}", why) from None
        if not isinstance(value, dict):
            raise refused("The data set", f"{name}, line {number}", "is no JSON object")
        yield number, value


def text_lines(files: Files, name: str) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file with their numbers, from 1, ends included.

    Raises:
        OwnVisionError: BadRequestInvalid, naming the line.
    """
    with files.open(name) as stream:
        number = 0
        while line := stream.readline(LINE_BYTES + 1):
            number += 1
            if len(line) > LINE_BYTES:
                raise refused("The data set", f"{name}, line {number}", "is too long")
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise refused("The data set", f"{name}, line {number}", "is no UTF-8") from None


@dataclass
class Element:
    """An element of XML: its name, its text, its children."""

    name: str
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def first(self, path: str) -> "Element | None":
        """The first descendant at a path such as ``size/width``."""
        found: Element | None = self
        for name in path.split("/"):
            found = next((child for child in (found.children if found else []) if child.name == name), None)
        return found

    def value(self, path: str) -> str:
        """Its text without spaces around; "" when it is not there."""
        found = self.first(path)
        return found.text.strip() if found else ""


def xml(files: Files, name: str) -> Element:
    """The root of an XML file.

    Raises:
        OwnVisionError: BadRequestInvalid, for what is none, has a DTD or entities, or is nested too deep.
    """
    root = Element("")
    open_elements = [root]
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(open_elements) > _XML_DEPTH:
            raise refused("The data set", name, f"nests elements more than {_XML_DEPTH} deep")
        child = Element(tag)
        open_elements[-1].children.append(child)
        open_elements.append(child)

    def text(data: str) -> None:
        open_elements[-1].text += data

    def forbidden(*_: Any) -> Any:
        raise refused("The data set", name, "has a document type or entities, which are not read here")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: open_elements.pop()
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = forbidden
    parser.EntityDeclHandler = forbidden
    parser.ExternalEntityRefHandler = forbidden
    try:
        parser.Parse(read(files, name, XML_BYTES), True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise refused("The data set", name, f"is no XML ({_short(error)})") from None
    return root.children[0]


class _Plain(yaml.BaseLoader):  # type: ignore[misc] # yaml has no annotations
    """Texts, lists and mappings only: "yes", "1" and "null" stay the texts they are."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read here")
        return super().compose_node(parent, index)

    def fetch_flow_collection_start(self, token: Any) -> None:
        # Every token costs as much as there are brackets around it.
        if self.flow_level >= _YAML_DEPTH:
            raise yaml.YAMLError("it is nested too deep")
        super().fetch_flow_collection_start(token)


def yaml_mapping(files: Files, name: str) -> dict[str, Any]:
    """The mapping of a YAML file; its scalars are texts.

    Raises:
        OwnVisionError: BadRequestInvalid, for what is none.
    """
    try:
        value = yaml.load(read(files, name, YAML_BYTES), _Plain)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise refused("The data set", name, f"is no YAML ({_short(error)})") from None
    if not isinstance(value, dict):
        raise refused("The data set", name, "holds no mapping")
    return value


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
