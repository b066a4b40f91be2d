"""The data map names everything there is: a service lives a rich life, and all that it left is looked at."""

import ast
import io
import json
import logging
import re
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import typer.main
from sqlalchemy import create_engine, inspect

from ownvision import app as service_app
from ownvision.api import middleware
from ownvision.api.application import _ROUTERS
from ownvision.api.metrics import Metrics
from ownvision.cli import app as cli
from ownvision.client.local import running_service
from ownvision.data_rights import retention
from ownvision.data_rights.inventory import KINDS, Files, Kind, Log, Memory, Metric, Notes, Objects, Rows
from ownvision.jobs import worker
from ownvision.settings import Settings
from ownvision.store import ledger
from ownvision.store.tables import Base
from ownvision.store.tables.blob import KINDS as LEDGER_KINDS
from tests.data_rights import life, page
from tests.test_docs import commands

SOURCE = Path(service_app.__file__).parent
CACHES = {"cache", "lru_cache", "cached_property"}
TERM = re.compile(r"_(days|hours|minutes)$")


@dataclass(frozen=True)
class Found:
    """What there is, of each sort of place."""

    columns: set[tuple[str, str]] = field(default_factory=set)
    ledger_kinds: set[str] = field(default_factory=set)
    objects: set[tuple[str, str]] = field(default_factory=set)  # kind of the ledger, name below the prefix
    files: set[str] = field(default_factory=set)  # of the data folder, but for objects
    elsewhere: set[str] = field(default_factory=set)  # below the folders for temporary files, caches, the home
    settings: set[str] = field(default_factory=set)
    log_fields: set[tuple[str, str]] = field(default_factory=set)
    metrics: set[tuple[str, str]] = field(default_factory=set)
    caches: set[str] = field(default_factory=set)


def unnamed(found: Found, kinds: tuple[Kind, ...] = KINDS) -> list[str]:
    """What there is and the map does not name."""
    places = [place for kind in kinds for place in kind.places]
    terms = {term.setting for name, term in retention.TERMS.items() if name in {kind.retention for kind in kinds}}
    patterns = [re.sub(r"\{\w+\}", "*", place.pattern) for place in places if isinstance(place, Files)]
    objects = [place for place in places if isinstance(place, Objects)]
    metrics = [(place.name, label) for place in places if isinstance(place, Metric) for label in ("", *place.labels)]
    named = {
        "column": {(one.table, column) for one in places if isinstance(one, Rows) for column in one.columns},
        "ledger kind": {one.kind for one in objects}
        | {kind for one in places if isinstance(one, Notes) for kind in one.kinds},
        "setting": terms | {kind.setting for kind in kinds},
        "log field": {(one.of, name) for one in places if isinstance(one, Log) for name in one.fields},
        "cache": {one.name for one in places if isinstance(one, Memory)},
    }
    there = {
        "column": found.columns,
        "ledger kind": found.ledger_kinds,
        "setting": found.settings,
        "log field": found.log_fields,
        "cache": found.caches,
    }
    return [
        *(f"{sort} {one}" for sort in there for one in sorted(there[sort] - named[sort], key=str)),  # type: ignore[type-var]
        *(
            f"object {kind} {name}"
            for kind, name in sorted(found.objects)
            if not [one for one in objects if one.kind == kind and fnmatchcase(name, one.name)]
        ),
        *(
            f"file {name}"
            for name in sorted(found.files)
            if not [pattern for pattern in patterns if fnmatchcase(name, pattern)]
        ),
        *(f"file elsewhere {name}" for name in sorted(found.elsewhere)),
        *(
            f"metric {name} {label}".rstrip()
            for name, label in sorted(found.metrics)
            if not [one for one, of in metrics if fnmatchcase(name, one) and of == label]
        ),
    ]


def settings() -> set[str]:
    """Settings that say for how long something is kept."""
    return {name for name in Settings.model_fields if TERM.search(name)}


def log_fields() -> set[tuple[str, str]]:
    """Fields of each form of log line: of a record with all that a record may have."""
    record = logging.LogRecord("ownvision.x", logging.ERROR, "x", 1, "text", None, (ValueError, ValueError("x"), None))
    lines = {"requests": _request_line(), "the service": json.loads(service_app._JsonLines().format(record))}
    return {(of, name) for of, line in lines.items() for name in line} | {
        ("the worker", name) for name in re.findall(r"%\((\w+)\)", worker.LOG_FORMAT)
    }


def _request_line() -> dict[str, Any]:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler, level = Keep(), middleware.requests.level
    middleware.requests.addHandler(handler)
    middleware.requests.setLevel(logging.INFO)
    try:
        middleware._log("id", "GET", "/", 200, 0.1)
    finally:
        middleware.requests.removeHandler(handler)
        middleware.requests.setLevel(level)
    line: dict[str, Any] = json.loads(lines[0])
    return line


def metrics() -> set[tuple[str, str]]:
    """(name, label) of each metric; "" is the metric itself."""
    made = Metrics()
    made.count("GET", "/", 200, 0.1)
    found = set()
    for family in made.registry.collect():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}  # a histogram's bound
        found |= {(family.name, label) for label in ("", *labels)}
    return found


def caches(source: Path = SOURCE) -> set[str]:
    """Whatever remembers results, as ``module.function``; of properties of a class the class is enough."""
    found: set[str] = set()
    for path in source.rglob("*.py"):
        module = ".".join(path.relative_to(source).with_suffix("").parts)
        found |= {f"{module}.{name}" for name in _caches(ast.parse(path.read_text()))}
    return found


def _caches(tree: ast.AST, within: str = "") -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _caches(node, f"{within}{node.name}.")
        elif isinstance(node, ast.FunctionDef) and any(map(_remembers, node.decorator_list)):
            yield within.rstrip(".") or node.name
        elif isinstance(node, ast.Assign) and any(map(_remembers, ast.walk(node.value))):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _remembers(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        node = node.func
    return (isinstance(node, ast.Name) and node.id in CACHES) or (
        isinstance(node, ast.Attribute) and node.attr in CACHES
    )


def files_in_source() -> set[str]:
    """Names that the source puts straight into the data folder."""
    texts = (path.read_text() for path in SOURCE.rglob("*.py"))
    return {name for text in texts for name in re.findall(r'\bdata / "([^"]+)"', text)} - {"objects", "keys"}


def columns(data: Path) -> set[tuple[str, str]]:
    """Tables and columns of an installation's database as it is."""
    engine = create_engine(f"sqlite:///{data / 'ownvision.db'}")
    try:
        looked = inspect(engine)
        return {(table, column["name"]) for table in looked.get_table_names() for column in looked.get_columns(table)}
    finally:
        engine.dispose()


def objects(data: Path) -> set[tuple[str, str]]:
    """Kinds of the ledger and file names of an installation's objects."""
    with closing(create_engine(f"sqlite:///{data / 'ownvision.db'}").raw_connection()) as connection:
        kinds = dict(connection.cursor().execute("SELECT prefix, kind FROM blobs").fetchall())
    found = set()
    for key in life.files(data / "objects"):
        prefix = ledger.prefix_of(key)
        found.add((kinds.get(prefix, "(nobody's)"), key.removeprefix(prefix)))
    return found


@dataclass(frozen=True)
class Lived:
    """What a life left behind."""

    found: Found
    logged: set[tuple[str, str]]
    members: set[str]  # of a takeout


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    folder = tmp_path_factory.mktemp("life")
    elsewhere = folder / "elsewhere"
    places = {name: elsewhere / name.lower() for name in ("TMPDIR", "HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")}
    for place in places.values():
        place.mkdir(parents=True)
    environment = {name: str(place) for name, place in places.items()}
    environment |= {"OWNVISION_MIN_FREE_BYTES": "0", "OWNVISION_SCRUB_SECONDS": "0"}
    with running_service(folder / "data", environment) as service:
        seen: set[tuple[str, str]] = set()
        archive = life.live(service, lambda: seen.update(objects(service.data)))
        left = {name for name in life.files(service.data) if not name.startswith("objects/")}
        logged = set(_logged(service.log))
    found = Found(
        columns(service.data),
        set(LEDGER_KINDS),
        seen,
        left | files_in_source(),
        life.files(elsewhere),
        settings(),
        log_fields(),
        metrics(),
        caches(),
    )
    return Lived(found, logged, set(zipfile.ZipFile(io.BytesIO(archive)).namelist()))


def _logged(log: Path) -> Iterator[tuple[str, str]]:
    for line in log.read_text().splitlines():
        if line.startswith("{"):
            fields = json.loads(line)
            yield from (("requests" if "route" in fields else "the service", name) for name in fields)


@pytest.mark.service
def test_the_map_names_everything_that_a_rich_life_leaves_behind(lived: Lived) -> None:
    assert unnamed(lived.found) == []


@pytest.mark.service
def test_what_the_map_says_of_the_folder_is_there(lived: Lived) -> None:
    """The life was rich enough: it made every object and file that the map names, but for those it can't make."""
    places = [place for kind in KINDS for place in kind.places]
    for place in places:
        if isinstance(place, Objects):
            made = [name for kind, name in lived.found.objects if kind == place.kind]
            assert [name for name in made if fnmatchcase(name, place.name)], f"{place}: {made}"
    patterns = {re.sub(r"\{\w+\}", "*", place.pattern) for place in places if isinstance(place, Files)}
    passing = {"restoring", "restoring.receipts", "keys/installation.next", "keys/retired/*.key", "imports/*"}
    passing |= {"weights", "weights/*"}  # no backbone was added
    for pattern in patterns - {"", "*/.*", "ballast.new", "etilqs_*", "ownvision.db-journal"} - passing:
        assert [name for name in lived.found.files if fnmatchcase(name, pattern)], pattern


@pytest.mark.service
def test_log_lines_have_the_named_fields_and_no_others(lived: Lived) -> None:
    assert lived.logged
    assert lived.logged <= lived.found.log_fields


@pytest.mark.service
def test_a_takeout_has_what_the_map_says_and_nothing_else(lived: Lived) -> None:
    whole = {"README.md", "files.jsonl", "manifest.json", "projects/*/annotations/*", "projects/*/restore/*"}
    paths = {path.strip() for kind in KINDS for path in kind.export.split(",") if path.strip()}
    patterns = {re.sub("…|(?<=/)N(?=/)", "*", path) + ("*" if path.endswith("/") else "") for path in paths}
    known = patterns | whole
    assert not [name for name in lived.members if not [one for one in known if fnmatchcase(name, one)]]
    assert not [one for one in patterns if not [name for name in lived.members if fnmatchcase(name, one)]]


def test_the_map_names_every_table_and_column_of_the_code() -> None:
    """The quick half of it, for `make check`."""
    there = {(table.name, column.name) for table in Base.metadata.tables.values() for column in table.columns}
    found = Found(
        columns=there,
        ledger_kinds=set(LEDGER_KINDS),
        files=files_in_source(),
        settings=settings(),
        log_fields=log_fields(),
        metrics=metrics(),
        caches=caches(),
    )
    assert unnamed(found) == []


@pytest.mark.parametrize(
    ("planted", "complaint"),
    [
        ({"columns": {("diaries", "id")}}, "column ('diaries', 'id')"),
        ({"columns": {("images", "camera")}}, "column ('images', 'camera')"),
        ({"ledger_kinds": {"voice"}}, "ledger kind voice"),
        ({"objects": {("image", "faces")}}, "object image faces"),
        ({"objects": {("prediction", "embedding-1")}}, "object prediction embedding-1"),
        ({"files": {"cache/1.jpg"}}, "file cache/1.jpg"),
        ({"files": {"keys/old.key"}}, "file keys/old.key"),
        ({"files": {"notes.txt"}}, "file notes.txt"),
        ({"elsewhere": {"tmpdir/spool.1"}}, "file elsewhere tmpdir/spool.1"),
        ({"settings": {"face_days"}}, "setting face_days"),
        ({"log_fields": {("requests", "address")}}, "log field ('requests', 'address')"),
        ({"metrics": {("ownvision_requests", "account")}}, "metric ownvision_requests account"),
        ({"metrics": {("ownvision_faces", "")}}, "metric ownvision_faces"),
        ({"caches": {"services.tags.names"}}, "cache services.tags.names"),
    ],
)
def test_what_the_map_does_not_name_is_found(planted: dict[str, Any], complaint: str) -> None:
    assert unnamed(Found(**planted)) == [complaint]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kind_that_is_taken_off_the_map_is_missed(kind: Kind) -> None:
    """No row of the map is there in vain: what only it names is then unnamed."""
    rest = tuple(one for one in KINDS if one is not kind)
    own = [
        place
        for place in kind.places
        if isinstance(place, Rows | Objects | Files | Log | Metric | Memory | Notes)
        and not [place for other in rest for same in other.places if same == place]
    ]
    if not own:
        return  # only words, or shared with another
    found = Found(
        columns={(place.table, column) for place in own if isinstance(place, Rows) for column in place.columns},
        objects={(place.kind, place.name) for place in own if isinstance(place, Objects)},
        files={re.sub(r"\{\w+\}", "x", place.pattern) for place in own if isinstance(place, Files) and place.pattern},
        log_fields={(place.of, name) for place in own if isinstance(place, Log) for name in place.fields},
        metrics={(place.name, "") for place in own if isinstance(place, Metric)},
        caches={place.name for place in own if isinstance(place, Memory)},
    )
    assert unnamed(found) == []
    if found != Found() and kind.name != "import tokens":  # a column of `jobs`, named there too
        assert unnamed(found, rest)


def test_a_cache_in_the_source_is_found(tmp_path: Path) -> None:
    (tmp_path / "faces.py").write_text(
        "@lru_cache\ndef a(): ...\n@functools.cache\ndef b(): ...\nclass C:\n    @cached_property\n"
        "    def d(self): ...\ne = functools.lru_cache(maxsize=1)(f)\ndef g(): ...\n"
    )
    assert caches(tmp_path) == {"faces.a", "faces.b", "faces.C", "faces.e"}


def test_every_remembering_class_of_the_map_exists() -> None:
    for place in (place for kind in KINDS for place in kind.places if isinstance(place, Memory)):
        module, _, name = place.name.rpartition(".")
        path = SOURCE / f"{module.replace('.', '/')}.py"
        assert re.search(rf"\b{name}\b", path.read_text()), place.name


def test_a_ledger_entry_of_an_unknown_kind_is_refused() -> None:
    process = Base.metadata.tables["blobs"].c.kind.type.process_bind_param
    with pytest.raises(ValueError, match="no kind of the ledger"):
        process("voice", None)


def test_the_names_of_kinds_are_unique_and_every_term_is_on_the_map() -> None:
    names = [kind.name for kind in KINDS]
    assert len(set(names)) == len(names)
    assert {kind.retention for kind in KINDS} - {None} == set(retention.TERMS)


def _ways() -> set[str]:
    ways = {name for name, _ in commands(typer.main.get_command(cli), "ownvision")}
    for route in (route for router in _ROUTERS for route in router.routes):
        ways.add(str(getattr(route, "operation_id", "")))
        for method in getattr(route, "methods", ()):
            ways.add(f"{method} {getattr(route, 'path', '')}")
    return ways


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_way_to_see_and_delete_exists(kind: Kind) -> None:
    assert {*kind.view, *kind.delete} <= _ways()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_can_not_be_seen_taken_or_deleted_says_why(kind: Kind) -> None:
    assert (kind.view or kind.export) or kind.without
    assert kind.export or kind.without


def test_the_page_is_what_the_map_says() -> None:
    text = page.PAGE.read_text()
    assert page.written(text) == text, "run `python -m tests.data_rights.page`"


def test_a_page_that_is_not_what_the_map_says_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.PAGE.read_text()
    monkeypatch.setattr(page.inventory, "ORIGINAL", (replace(KINDS[0], what="something else"),))
    assert page.written(text) != text
