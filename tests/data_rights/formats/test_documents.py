"""JSON, XML and YAML of strangers: read in parts, and not at all where they try more than to say something."""

import json
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ownvision.data_rights.formats import documents, unpack
from ownvision.data_rights.formats.unpack import Files
from ownvision.errors import OwnVisionError
from tests.data_rights.formats.sets import laid_out


def using(tmp_path: Path, data: bytes | str, read: Callable[[Files, str], Any]) -> Any:
    with unpack.opened(laid_out(tmp_path / "set", {"x": data})) as files:
        return read(files, "x")


def elements(files: Files, name: str) -> list[tuple[str, Any]]:
    return list(documents.elements(files, name))


OBJECTS = [
    ("{}", []),
    ('\ufeff { "a" : [ 1 , -2.5e3,[3] ] , "b":{"c":[]}, "d":[],"e":"\\u00e9\\"" } ',
     [("a", 1), ("a", -2500.0), ("a", [3]), ("b", {"c": []}), ("e", 'é"')]),
    ('{"a":12}', [("a", 12)]),
]  # fmt: skip


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("text", "wanted"), OBJECTS)
def test_an_object_is_read_an_element_at_a_time_wherever_it_is_cut(
    text: str, wanted: list[tuple[str, Any]], chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_CHUNK", chunk)
    assert using(tmp_path, text, elements) == wanted


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"a"}', '{"a":[1}', '{"a":[1,]}', '{"a":1,}', '{"a":[1', '{"a":tru', "{1:2}", '{"a":[1 2]}', "no"],
)  # fmt: skip
@pytest.mark.parametrize("chunk", [1, 1000])
def test_what_is_no_object_is_refused(text: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_CHUNK", chunk)
    with pytest.raises(OwnVisionError, match="x can't be read"):
        using(tmp_path, text, elements)


def test_a_large_document_takes_no_more_memory_than_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_CHUNK", 32_768)
    rows = ",".join(json.dumps({"id": number, "bbox": [1, 2, 3, 4]}) for number in range(60_000))
    with unpack.opened(laid_out(tmp_path / "set", {"x": f'{{"annotations":[{rows}]}}'})) as files:
        assert files.size("x") > 2_000_000
        tracemalloc.start()
        counted = Counter(key for key, _ in documents.elements(files, "x"))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert counted == {"annotations": 60_000}
    assert peak < 400_000


BOMBS: list[tuple[str, bytes | str, Callable[[Files, str], Any], str]] = [
    ("JSON nested deep", '{"a":' + "[" * 200_000, elements, "nested too deep"),
    ("JSON nested deep in lines", '{"a":' + "[" * 200_000, lambda f, n: list(documents.json_lines(f, n)), "too deep"),
    ("an element without an end", '{"a":["' + "x" * 17_000_000, elements, "too large"),
    ("a number of many digits", '{"a":' + "9" * 10_000 + "}", elements, "it is no JSON"),
    ("no UTF-8", b'{"a":"\xff"}', elements, "no UTF-8"),
    ("a line without an end", "x" * 20_000_000, lambda f, n: list(documents.text_lines(f, n)), "too long"),
    ("entities", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", documents.xml, "document type or entities"),
    ("laughs", "<!DOCTYPE a [<!ENTITY b 'cc'><!ENTITY d '&b;&b;'>]><a>&d;</a>", documents.xml, "document type"),
    ("a file of this machine", "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", documents.xml, "document type"),
    ("an unknown entity", "<a>&b;</a>", documents.xml, "is no XML"),
    ("XML nested deep", "<a>" * 50_000, documents.xml, "nests elements"),
    ("large XML", "<a>" + " " * 17_000_000 + "</a>", documents.xml, "are allowed here"),
    ("an unknown encoding", "<?xml version='1.0' encoding='x-none'?><a/>", documents.xml, "is no XML"),
    ("aliases", "a: &a [x]\nnames: [*a, *a]", documents.yaml_mapping, "aliases"),
    ("YAML nested deep", "names: " + "[" * 2_000, documents.yaml_mapping, "is no YAML"),
    ("a Python object", "names: !!python/object/apply:os.system ['true']", documents.yaml_mapping, ""),
    ("no mapping", "- a", documents.yaml_mapping, "no mapping"),
    ("large YAML", "a: b\n" * 100_000, documents.yaml_mapping, "are allowed here"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "read", "why"), [case[1:] for case in BOMBS], ids=[case[0] for case in BOMBS])
def test_a_hostile_document_is_refused(
    data: bytes | str, read: Callable[[Files, str], Any], why: str, tmp_path: Path
) -> None:
    if not why:  # what YAML calls an object stays the text or list it is written as
        assert using(tmp_path, data, read) == {"names": ["true"]}
        return
    with pytest.raises(OwnVisionError) as refusal:
        using(tmp_path, data, read)
    assert why in refusal.value.message
    assert len(refusal.value.message) < 500


def test_xml_is_read_whatever_its_encoding_says(tmp_path: Path) -> None:
    text = "<?xml version='1.0' encoding='iso-8859-1'?><a><b> \u00e9 </b><c><![CDATA[<d>]]></c></a>"
    root = using(tmp_path, text.encode("latin-1"), documents.xml)
    assert (root.name, root.value("b"), root.value("c"), root.value("gone/d")) == ("a", "\u00e9", "<d>", "")


def test_yaml_keeps_names_as_they_are_written(tmp_path: Path) -> None:
    found = using(tmp_path, "names: [yes, 1, null, 2020-01-01, 'x: y']", documents.yaml_mapping)
    assert found == {"names": ["yes", "1", "null", "2020-01-01", "x: y"]}
