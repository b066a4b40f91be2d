"""The archive of a takeout, as a stream of bytes, from any `Source`. Memory does not grow with the number of images.

What is needed again once the pictures are out (lines of images, annotations, pages of a restore) waits in nameless
files.
"""

import hashlib
import io
import json
import re
import tempfile
import unicodedata
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from ownvision.data_rights.formats import Box
from ownvision.data_rights.formats import Picture as Annotated
from ownvision.data_rights.formats import writers as formats
from ownvision.data_rights.takeout import readme
from ownvision.data_rights.takeout.contents import (
    FORMAT,
    VERSION,
    ExportRow,
    IterationExtra,
    KeptImageRow,
    KeptImagesMember,
    Manifest,
    PredictionRow,
    PredictionsMember,
    SuggestionRow,
    SuggestionsMember,
)
from ownvision.data_rights.takeout.source import (
    Exported,
    Learned,
    Missing,
    Picture,
    ProjectSource,
    Shape,
    Source,
    Stored,
)
from ownvision.data_rights.takeout.zip import Parts, Writer, Written
from ownvision.services.travel import leaving
from ownvision.services.travel.contents import PAGE, Counts, CountsMember

Out = Generator[bytes, None, None]
K = TypeVar("K", Picture, Stored)
_AHEAD_BYTES, _AHEAD = 16 * 2**20, 64  # of pictures that are read before they are wanted
_PAGE_BYTES = 4 * 2**20
# The archive is made while what was made before is written: so many bundles ahead, of a megabyte or one picture.
_BUNDLES, _BUNDLE = 8, 2**20
_SMALL = 64 * 2**10  # smaller parts leave together
_NAME = 100  # characters of a file's name
_line = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\u0080-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]')
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\.|$)")
_SUFFIX = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "BMP": "bmp"}


@dataclass
class Told:
    """What came of a takeout, for its row and for a person."""

    counts: dict[str, int] = field(default_factory=dict)
    done: int = 0  # images and predictions, for the progress

    def count(self, kind: str, more: int = 1) -> None:
        """Add to what there is of a kind."""
        self.counts[kind] = self.counts.get(kind, 0) + more


def stream(source: Source, folder: Path, told: Told) -> Iterator[bytes]:
    """The archive, in parts of up to 1 MiB or one picture; it is made in threads of its own.

    Args:
        source: What it is made from.
        folder: Where nameless files may be made.
        told: Grows as the archive does, a little ahead of its parts.

    Raises:
        Withdrawn: What is taken out was deleted meanwhile.
    """
    with ExitStack() as stack:
        readers = stack.enter_context(ThreadPoolExecutor(2, "reading"))
        maker = stack.enter_context(ThreadPoolExecutor(1, "making"))
        stack.callback(maker.shutdown, cancel_futures=True)  # first of all, where nobody wants the rest
        bundles = _bundles(_Takeout(source, folder, told, stack, readers).parts())
        made = deque(maker.submit(next, bundles, None) for _ in range(_BUNDLES))
        while (bundle := made.popleft().result()) is not None:
            made.append(maker.submit(next, bundles, None))
            yield from bundle


def _bundles(parts: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Parts together, so that few things pass between threads: small ones become one, no picture is copied."""
    bundle: list[bytes] = []
    small: list[bytes] = []
    size = 0
    for part in parts:
        size += len(part)
        if len(part) < _SMALL:
            small.append(part)
        else:
            bundle += [b"".join(small), part]
            small = []
        if size >= _BUNDLE:
            yield [*bundle, b"".join(small)]
            bundle, small, size = [], [], 0
    yield [*bundle, b"".join(small)]


class _Spool:
    """Records that come back in the order they were kept."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        spool = tempfile.SpooledTemporaryFile(2**20, dir=str(folder))  # noqa: SIM115 - closed with the stack
        self._file = stack.enter_context(spool)

    def keep(self, data: bytes) -> None:
        """Keep a record without a line's end."""
        self._file.write(data + b"\n")

    def lines(self) -> Iterator[bytes]:
        """All records, each with its line's end."""
        self._file.seek(0)
        yield from self._file
        self._file.seek(0, io.SEEK_END)


@dataclass
class _Takeout:
    source: Source
    folder: Path
    told: Told
    stack: ExitStack
    threads: ThreadPoolExecutor
    size: int = 0  # bytes of all files so far
    files: int = 0
    projects: list[dict[str, Any]] = field(default_factory=list)

    def parts(self) -> Out:
        self.zip = Writer(self.folder)
        self.stack.callback(self.zip.close)
        self.listing = _Spool(self.folder, self.stack)
        account = self.source.account()
        if account is not None:
            yield from self.json("account.json", account)
        yield from self.lines("audit.jsonl", self._counted("audit events", self.source.audit()))
        yield from self.lines("receipts.jsonl", self._counted("receipts", self.source.receipts()))
        folders = Names()
        for project in self.source.projects():
            name = folders.free(project.shape["name"], "project", "")
            yield from _Project(self, project, f"projects/{name}/").parts()
        yield from self.text("README.md", [readme.text(self.source, self.told.counts, self.projects).encode()])
        yield from self._end()

    def _end(self) -> Out:
        files = yield from self.zip.text("files.jsonl", self.listing.lines())
        yield from self.zip.text("manifest.json", [_page(self._manifest(files).model_dump(mode="json"))])
        yield from self.zip.end()

    def _manifest(self, files: Written) -> Manifest:
        return Manifest(
            format=FORMAT,
            version=VERSION,
            made=self.source.made,
            origin=self.source.origin,
            scope=self.source.scope,
            projects=self.projects,
            counts=dict(sorted(self.told.counts.items())),
            files=self.files,
            bytes=self.size,
            files_sha256=files.sha256,
        )

    def _counted(self, kind: str, shapes: Iterable[Shape]) -> Iterator[Shape]:
        for shape in shapes:
            self.told.count(kind)
            yield shape

    def note(self, written: Written) -> None:
        """Add a file to ``files.jsonl``."""
        self.files, self.size = self.files + 1, self.size + written.size
        path = _line(written.path).encode("utf-8", "replace")
        self.listing.keep(b'{"path":%b,"bytes":%d,"sha256":"%b"}' % (path, written.size, written.sha256.encode()))

    def text(self, path: str, chunks: Iterable[bytes]) -> Parts:
        """A compressed member."""
        written = yield from self.zip.text(path, chunks)
        self.note(written)
        return written

    def json(self, path: str, value: Any) -> Parts:
        """A member that is one JSON value."""
        return (yield from self.text(path, [_page(value)]))

    def lines(self, path: str, values: Iterable[Any]) -> Parts:
        """A member of one JSON value a line."""
        return (yield from self.text(path, (_dump(value) + b"\n" for value in values)))

    def binary(self, path: str, chunks: Iterable[bytes]) -> Parts:
        """A member that would not become smaller; any length.

        Raises:
            Missing: It is gone; nothing was given out.
        """
        written = yield from self.zip.binary(path, chunks)
        self.note(written)
        return written

    def read(self, items: Iterable[K]) -> Iterator[tuple[K, "_Bytes | None"]]:
        """Items with their bytes, some of them read ahead; None: they are gone."""
        waiting: deque[tuple[K, Future[_Bytes | None], int]] = deque()
        ahead = 0
        for item in items:
            size = item.row.size or _AHEAD_BYTES // 8
            waiting.append((item, self.threads.submit(_bytes, item.read, item.row.sha256), size))
            ahead += size
            while waiting and (ahead > _AHEAD_BYTES or len(waiting) > _AHEAD):
                first, future, size = waiting.popleft()
                ahead -= size
                yield first, future.result()
        for first, future, _ in waiting:
            yield first, future.result()

    def picture(self, path: str, found: "_Bytes", at: Any) -> Out:
        """A picture as a member."""
        yield from self.zip.stored(path, found.data, found.crc, at)
        self.note(Written(path, len(found.data), found.sha256))


@dataclass(frozen=True)
class _Bytes:
    data: bytes
    crc: int
    sha256: str


def _bytes(read: Callable[[], bytes], sha256: str) -> _Bytes | None:
    # A hash that is known was taken when the bytes came in; that they are still those, the reading has seen to: objects
    # here are authenticated, and what an import from Azure fetched is compared.
    try:
        data = read()
    except Missing:
        return None
    return _Bytes(data, zlib.crc32(data), sha256 or hashlib.sha256(data).hexdigest())


@dataclass
class _Project:
    takeout: _Takeout
    source: ProjectSource
    folder: str
    # Where pictures are, by the 16 bytes of their image's id.
    places: dict[bytes, str] = field(default_factory=dict)
    sent: Counts = field(default_factory=lambda: Counts(images=0, tags=0, regions=0, iterations=0))
    learned: list[IterationExtra] = field(default_factory=list)
    exports: list[ExportRow] = field(default_factory=list)

    def parts(self) -> Out:
        takeout = self.takeout
        with ExitStack() as stack:
            self.restore, self.annotated, self.listed, self.others = (_Spool(takeout.folder, stack) for _ in range(4))
            tags = self.source.tags()
            self.sent.tags = len(self.source.tag_rows().tags)
            self.keep("tags.json", self.source.tag_rows())
            yield from takeout.json(f"{self.folder}tags.json", list(tags))
            yield from self._images()
            yield from takeout.json(f"{self.folder}project.json", self._local(self.source.shape))
            for learned in self.source.iterations():
                yield from self._iteration(learned)
            predictions = yield from self._predictions()
            suggestions = yield from self._suggestions()
            self.count("projects")
            self.count("tags", len(tags))
            yield from self._annotations([tag["name"] for tag in tags])
            yield from self._restore(predictions, suggestions)
        name = self.source.shape["name"]
        takeout.projects.append({"name": name, "folder": self.folder, "counts": self.sent.model_dump()})

    def count(self, kind: str, more: int = 1) -> None:
        self.takeout.told.count(kind, more)

    def keep(self, name: str, member: BaseModel) -> None:
        """Keep a member of ``restore/`` until it is written."""
        self.restore.keep(name.encode() + b"\t" + member.model_dump_json().encode())

    def _images(self) -> Out:
        names, number = Names(), 0
        page: list[KeptImageRow] = []
        size = 0
        for picture, found in self.takeout.read(self.source.images()):
            self.takeout.told.done += 1
            row = picture.row
            if found is None:
                self.count("missing")
                row.path = None
                row.sha256 = row.sha256 or "0" * 64
            else:
                yield from self._picture(picture, found, names)
            page.append(row)
            size += 300 * (len(row.regions) + len(row.tags)) + 1_024
            if len(page) == PAGE or size > _PAGE_BYTES:
                self.keep(f"images/{number:06}.json", KeptImagesMember.model_construct(images=page))
                page, size, number = [], 0, number + 1
        if page:
            self.keep(f"images/{number:06}.json", KeptImagesMember.model_construct(images=page))
        lines = (line for spool in (self.listed, self.others) for line in spool.lines())
        yield from self.takeout.text(f"{self.folder}images.jsonl", lines)

    def _picture(self, picture: Picture, found: _Bytes, names: "Names") -> Out:
        row, shape = picture.row, picture.shape
        suffix = _SUFFIX.get(row.format, row.format.lower())
        path = f"images/{names.free(row.file_name, row.id, suffix)}"
        row.path, row.sha256, row.size = path, found.sha256, len(found.data)
        yield from self.takeout.picture(self.folder + path, found, row.created)
        self.places[_key(row.id)] = path
        self.sent.images += 1
        self.sent.regions += len(row.regions)
        self.count("images")
        line = {**_local(shape, path), "path": path, "fileName": row.file_name, "sha256": row.sha256}
        if picture.in_workspace:
            self.count("regions", len(shape.get("regions", ())))
            self.listed.keep(_dump(line))
            self.annotated.keep(_dump(_annotation(path, shape)))
        else:
            self.others.keep(_dump({**line, "onlyInIterations": True}))

    def _local(self, shape: Shape) -> Shape:
        """A shape of the project itself: its thumbnail is of one of its images."""
        thumbnail = re.search(r"/t-([0-9a-f]{32})", shape.get("thumbnailUri") or "")
        return {**shape, "thumbnailUri": self.places.get(bytes.fromhex(thumbnail[1])) if thumbnail else None}

    def _iteration(self, learned: Learned) -> Out:
        takeout, folder = self.takeout, f"iterations/{learned.number}/"
        at = self.folder + folder
        yield from takeout.json(f"{at}iteration.json", learned.shape)
        yield from takeout.json(f"{at}tags.json", list(learned.tags))
        if learned.row is not None and learned.row.search is not None:
            yield from takeout.json(f"{at}search.json", [trial.model_dump() for trial in learned.row.search])
        if learned.performance is not None:
            yield from takeout.json(f"{at}performance.json", learned.performance)
            yield from takeout.lines(f"{at}image-performances.jsonl", map(self._performed, learned.performances()))
        self.count("iterations")
        kept = learned.row is not None and learned.extra is not None
        if learned.model is not None:
            try:
                yield from takeout.binary(f"{at}model.onnx", learned.model())
            except Missing:
                self.count("missing")
                kept = False
        shapes = []
        for export in learned.exports():
            place = yield from self._export(export, folder)
            shapes.append(_local(export.shape, place))
            if place is not None and kept:
                self.exports.append(export.row)
        yield from takeout.json(f"{at}exports.json", shapes)
        if kept:
            self._keep_iteration(learned)

    def _keep_iteration(self, learned: Learned) -> None:
        assert learned.row is not None
        assert learned.extra is not None
        number = learned.number
        self.keep(f"iterations/{number}.json", learned.row)
        for place, page in enumerate(learned.scores()):
            self.keep(f"iterations/{number}-{place:06}.json", page)
        self.learned.append(learned.extra)
        self.sent.iterations += 1

    def _performed(self, shape: Shape) -> Shape:
        return {**_plain(shape), "imageUri": self.places.get(_key(shape["id"]))}

    def _export(self, export: Exported, folder: str) -> Generator[bytes, None, str | None]:
        if export.chunks is None:
            return None
        row = export.row
        name = "-".join(filter(None, (row.platform, row.flavor)))
        path = f"{folder}exports/{safe(name)}.zip"
        try:
            written = yield from self.takeout.binary(self.folder + path, export.chunks())
        except Missing:
            self.count("missing")
            return None
        row.path, row.sha256 = path, written.sha256
        self.count("exports")
        return path

    def _predictions(self) -> Generator[bytes, None, int]:
        pages = _Pages(lambda name, rows: self.keep(name, PredictionsMember.model_construct(predictions=rows)))
        with ExitStack() as stack:
            lines = _Spool(self.takeout.folder, stack)
            for stored, found in self.takeout.read(self.source.predictions()):
                self.takeout.told.done += 1
                row = stored.row
                if found is None:
                    self.count("missing")
                    continue
                path = f"predictions/{row.id}.{_SUFFIX.get(row.format, row.format.lower())}"
                row.path, row.sha256, row.size = path, found.sha256, len(found.data)
                yield from self.takeout.picture(self.folder + path, found, row.created)
                lines.keep(_dump({**_local(stored.shape, path), "path": path, "sha256": row.sha256}))
                pages.add("predictions", row)
                self.count("predictions")
            yield from self.takeout.text(f"{self.folder}predictions.jsonl", lines.lines())
        return pages.end("predictions")

    def _suggestions(self) -> Generator[bytes, None, int]:
        pages = _Pages(lambda name, rows: self.keep(name, SuggestionsMember.model_construct(suggestions=rows)))

        def lines() -> Iterator[bytes]:
            for shape, row in self.source.suggestions():
                place = self.places.get(_key(shape["id"]))
                if place is not None:
                    pages.add("suggestions", row)
                    self.count("suggestions")
                    yield _dump(_local(shape, place)) + b"\n"

        yield from self.takeout.text(f"{self.folder}suggestions.jsonl", lines())
        return pages.end("suggestions")

    def _annotations(self, tags: list[str]) -> Out:
        def pictures() -> Iterator[Annotated]:
            for line in self.annotated.lines():
                path, width, height, names, boxes = json.loads(line)
                yield Annotated(path, width, height, names, [Box(*box) for box in boxes])

        for path, chunks in formats.write(pictures, tags, self.source.detection):
            yield from self.takeout.text(f"{self.folder}annotations/{path}", chunks)

    def _restore(self, predictions: int, suggestions: int) -> Out:
        head = self.source.head
        yield from self._member("project.json", head.model_dump_json().encode())
        for line in self.restore.lines():
            name, _, data = line.rstrip(b"\n").partition(b"\t")
            yield from self._member(name.decode(), data)
        counts = CountsMember(sent=self.sent, missing=leaving.missing(head.counts, self.sent))
        yield from self._member("counts.json", counts.model_dump_json().encode())
        extra = self.source.extra()
        extra.iterations, extra.exports = self.learned, self.exports
        extra.predictions, extra.suggestions = predictions, suggestions
        yield from self._member("extra.json", extra.model_dump_json().encode())

    def _member(self, name: str, data: bytes) -> Out:
        yield from self.takeout.text(f"{self.folder}restore/{name}", [data])


class _Pages:
    """Gathers rows into members of up to `PAGE`."""

    def __init__(self, keep: Callable[[str, Any], None]) -> None:
        self._keep = keep
        self._rows: list[PredictionRow | SuggestionRow] = []
        self._count = self._number = self._size = 0

    def add(self, folder: str, row: PredictionRow | SuggestionRow) -> None:
        self._rows.append(row)
        self._count += 1
        self._size += 200 * len(row.predictions) + 500
        if len(self._rows) == PAGE or self._size > _PAGE_BYTES:
            self._out(folder)

    def end(self, folder: str) -> int:
        """How many there were."""
        if self._rows:
            self._out(folder)
        return self._count

    def _out(self, folder: str) -> None:
        self._keep(f"{folder}/{self._number:06}.json", self._rows)
        self._rows, self._size, self._number = [], 0, self._number + 1


class Names:
    """File names that are safe on every system and, but for their suffix and the case of letters, unique."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def free(self, wished: str | None, otherwise: str, suffix: str) -> str:
        """A name like the one wished for.

        Args:
            wished: As a person gave it; None: none.
            otherwise: What to call it then.
            suffix: What it ends in where the wish has no suffix; "": folders have none.
        """
        base = re.split(r"[/\\]", wished or "")[-1] if suffix else wished or ""
        name = safe(base) or otherwise
        stem, dot, end = name.rpartition(".") if suffix else (name, "", "")
        if not dot or not stem or not end.isalnum() or len(end) > 5:
            stem, end = name, suffix
        key = _folded(stem)
        number = self._next.get(key, 1)
        chosen = stem
        while _folded(chosen) in self._taken:
            number += 1
            chosen = f"{stem}~{number}"
        if number > 1:
            self._next[key] = number
        self._taken.add(_folded(chosen))
        return f"{chosen}.{end}" if end else chosen


def safe(name: str) -> str:
    """A name that every file system takes: no folders, no control or direction characters, no device of Windows."""
    name = unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())
    name = _UNSAFE.sub("_", name).strip(" ").rstrip(".")
    if len(name) > _NAME or len(name.encode()) > 2 * _NAME:
        stem, dot, end = name.rpartition(".")
        end = end if dot and len(end) <= 5 else ""
        stem = (stem if end else name).encode()[: _NAME - 6].decode(errors="ignore").rstrip(" .")
        name = f"{stem}.{end}" if end else stem
    name = name.lstrip(".") if not name.strip(".") else name
    return f"_{name}" if _DEVICES.match(name) or name.startswith(".") else name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _key(id: str) -> bytes:
    return bytes.fromhex(id.replace("-", ""))


def _plain(shape: Shape) -> Shape:
    """Without addresses, which expire."""
    return {key: value for key, value in shape.items() if not key.endswith("Uri")}


def _local(shape: Shape, path: str | None) -> Shape:
    """With the place in the archive instead of addresses."""
    place = {"originalImageUri", "downloadUri"}
    return {key: path if key in place else value for key, value in shape.items() if key in place or key[-3:] != "Uri"}


def _annotation(path: str, shape: Shape) -> list[Any]:
    boxes = [[one["tagName"], one["left"], one["top"], one["width"], one["height"]] for one in shape.get("regions", ())]
    return [path, shape["width"], shape["height"], [tag["tagName"] for tag in shape.get("tags", ())], boxes]


def _dump(value: Mapping[str, Any] | list[Any]) -> bytes:
    return _line(value).encode("utf-8", "replace")


def _page(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8", "replace") + b"\n"
