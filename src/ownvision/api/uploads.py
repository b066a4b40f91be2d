"""Bodies that carry pictures: multipart (any part name, with or without file name), raw bytes, JSON with base64.

Multipart is parsed raw: SDKs send parts without a file name, which form parsers take for text and spoil. Everything is
read as it streams, each picture against its own cap: one too large is thrown away while it comes.
"""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from ownvision.api import models
from ownvision.api.errors import too_large, unsupported_media
from ownvision.api.long_strings import SHORT, LongStrings, unescaped
from ownvision.api.routes import Call
from ownvision.api.spool import Spool, check_space
from ownvision.api.wire import loads
from ownvision.errors import OwnVisionError
from ownvision.services.intake import OK, Picture
from ownvision.services.regions import Box

_SIZE = "ErrorImageSize"
_MARGIN = 64 * 1024  # of headers and the like, per picture
_FILE_NAME = re.compile(r';\s*filename=("(?:\\"|[^"])*"|[^;]*)', re.IGNORECASE)
_NAME = re.compile(r';\s*name=("(?:\\"|[^"])*"|[^;]*)', re.IGNORECASE)
_BINARY = {"type": "string", "format": "binary"}
PICTURES_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"imageData": _BINARY}, "required": ["imageData"]}
        },
        "application/octet-stream": {"schema": _BINARY},
    },
}
FILES_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ImageFileCreateBatch"}}},
}
_TEXT = re.compile(r"(application/(json|xml|x-www-form-urlencoded)|text/.*)$")


async def pictures(request: Request, call: Call, spool: Spool, cap: int) -> list[Picture]:
    """The pictures of a multipart or raw body, in order.

    Args:
        request: The request.
        call: Who calls.
        spool: Where their bytes are kept.
        cap: Bytes one picture may have; a larger one comes with status ErrorImageSize.

    Raises:
        OwnVisionError: BadRequestImageStream for a body that can't be read, UnsupportedMediaType,
            BadRequestExceededBatchSize.
        Refused: 413, 408, 507.
    """
    most = call.limits.batch_images
    _expect(request, call, most * (cap + _MARGIN))
    given = request.headers.get("content-type", "")
    kind, options = parse_options_header(given)
    if kind == b"multipart/form-data":
        parts = _Parts(spool, cap, most)
        await _multipart(request, options.get(b"boundary", b""), parts)
        if parts.count > most:
            raise OwnVisionError(
                "BadRequestExceededBatchSize", f"A batch takes {most} images; these are {parts.count}."
            )
        return parts.pictures
    if _TEXT.match(kind.decode("latin-1")):
        raise unsupported_media(kind.decode("latin-1"))
    parts = _Parts(spool, cap, most)
    async for chunk in request.stream():
        parts.data(chunk, 0, len(chunk))
    if not parts.seen:
        raise OwnVisionError("BadRequestImageStream", "The body is empty; it must be the image.")
    parts.end()
    return parts.pictures


async def one_picture(request: Request, call: Call, spool: Spool, cap: int) -> bytes:
    """The picture of a request that takes one.

    Raises:
        OwnVisionError: as `pictures`; BadRequestImageSizeBytes.
    """
    found = await pictures(request, call, spool, cap)
    if not found:
        raise OwnVisionError("BadRequestImageStream", "The body holds no image.")
    if found[0].status == _SIZE or found[0].read is None:
        raise OwnVisionError("BadRequestImageSizeBytes", f"The image is larger than {cap} bytes.")
    return found[0].read()


async def files(request: Request, call: Call, spool: Spool) -> tuple[models.ImageFileCreateBatch, list[Picture]]:
    """The batch of an ``images/files`` body and its pictures.

    Raises:
        OwnVisionError: BadRequest for what is no such batch, UnsupportedMediaType, BadRequestExceededBatchSize,
            BadRequestImageMetadata… for a pair that is far too long.
        Refused: 413, 408, 507.
    """
    limits = call.limits
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind not in ("application/json", "text/json"):
        raise unsupported_media(kind)
    encoded = 4 * (limits.training_image_bytes // 3 + 1)
    # .NET's serialisers write "+" as six characters; base64 has one "+" among 64, so an eighth more is ample.
    cap = encoded + encoded // 8
    rest = limits.batch_images * _MARGIN
    _expect(request, call, limits.batch_images * cap + rest)
    scan = LongStrings(spool.keep, cap=cap, rest_cap=rest)
    async for chunk in request.stream():
        if not scan.feed(chunk):
            raise too_large(rest)
    batch = _parsed(scan.text())
    entries = batch.images or []
    if len(entries) > limits.batch_images:
        raise OwnVisionError(
            "BadRequestExceededBatchSize", f"A batch takes {limits.batch_images} images; these are {len(entries)}."
        )
    _check_long(batch, scan)
    return batch, [_from_entry(entry, scan) for entry in entries]


def box(item: models.Region) -> Box:
    """A region of a body as the services know it."""
    return Box(item.tag_id, item.left, item.top, item.width, item.height)


def boxes(entry: models.Entry) -> list[Box]:
    """The regions of a batch's entry."""
    return [box(item) for item in entry.regions or []]


def check_room(call: Call, coming: int = 0) -> None:
    """Refuse to take bytes in while the disk is nearly full.

    Raises:
        Refused: 507.
    """
    settings = call.components.settings
    check_space(settings.data, settings.min_free_bytes, coming)


def _expect(request: Request, call: Call, limit: int) -> None:
    """Allow the body to be so large, and see that there is room for it."""
    request.scope["ownvision.body"].limit = limit
    declared = request.headers.get("content-length", "0")
    check_room(call, int(declared) if declared.isdigit() else 0)


def _parsed(text: bytes) -> models.ImageFileCreateBatch:
    if not text.strip():
        raise OwnVisionError("BadRequestRequiredParamIsNull", "The body is missing: it is an ImageFileCreateBatch.")
    try:
        return models.ImageFileCreateBatch.model_validate(loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise OwnVisionError("BadRequest", f"{where}: {first['msg'].removeprefix('Value error, ')}.") from None
    except (ValueError, RecursionError):
        raise OwnVisionError("BadRequest", "The body is not JSON.") from None


def _check_long(batch: models.ImageFileCreateBatch, scan: LongStrings) -> None:
    """Refuse long strings that are not the contents of an entry: their marker would be taken for them."""
    for key, value in (batch.metadata or {}).items():
        for text, what in ((key, "Key"), (value, "Value")):
            if scan.taken(text)[0]:
                raise OwnVisionError(
                    f"BadRequestImageMetadata{what}", f"A metadata {what.lower()} is longer than {SHORT} bytes."
                )
    contents = [entry for entry in batch.images or [] if scan.taken(entry.contents or "")[0]]
    if len(contents) != scan.count:
        raise OwnVisionError("BadRequest", f"A string is longer than {SHORT} bytes; only `contents` of images may be.")


def _from_entry(entry: models.ImageFileCreateEntry, scan: LongStrings) -> Picture:
    common: dict[str, Any] = {"file_name": entry.name, "tag_ids": entry.tag_ids or [], "boxes": boxes(entry)}
    contents = entry.contents or ""
    long, read = scan.taken(contents)
    if long and read is None:
        return Picture(entry.name or "", None, _SIZE, **common)
    if not contents:
        return Picture(entry.name or "", None, "ErrorSource", **common)
    return Picture(entry.name or "", _decoder(read or (lambda: contents.encode())), OK, **common)


def _decoder(read: Callable[[], bytes]) -> Callable[[], bytes]:
    def decoded() -> bytes:
        try:
            return base64.b64decode(unescaped(read()))
        except (binascii.Error, ValueError):
            return b""  # what is no base64 is no image

    return decoded


async def _multipart(request: Request, boundary: bytes, parts: "_Parts") -> None:
    broken = OwnVisionError("BadRequestImageStream", "The multipart body can't be read: it is cut off or malformed.")
    try:
        if not boundary:
            raise FormParserError("no boundary")
        parser = MultipartParser(boundary, parts.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
        parser.finalize()
    except FormParserError:
        raise broken from None
    if not parts.finished:
        raise broken


class _Parts:
    """Gathers the parts of a body as the parser calls."""

    def __init__(self, spool: Spool, cap: int, most: int) -> None:
        self._spool, self._cap, self._most = spool, cap, most
        self._buffer = bytearray()
        self._over = False
        self._field, self._value, self._headers = bytearray(), bytearray(), dict[str, str]()
        self.pictures: list[Picture] = []
        self.count = 0
        self.seen = False
        self.finished = False

    def callbacks(self) -> Any:
        """What `MultipartParser` calls."""
        return {
            "on_part_begin": self.begin,
            "on_part_data": self.data,
            "on_part_end": self.end,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self.header,
            "on_end": self.finish,
        }

    def begin(self) -> None:
        """A part begins."""
        self._headers = {}

    def header(self) -> None:
        """A header of a part is complete."""
        self._headers[_decoded(self._field).lower()] = _decoded(self._value)
        self._field.clear()
        self._value.clear()

    def data(self, data: bytes, start: int, end: int) -> None:
        """Bytes of a part; those of one too large, or too many, are thrown away."""
        if end > start:
            self.seen = True
        if self._over or self.count >= self._most:
            return
        self._buffer += memoryview(data)[start:end]
        if len(self._buffer) > self._cap:
            self._over = True
            self._buffer = bytearray()

    def end(self) -> None:
        """A part is complete."""
        self.count += 1
        if self.count <= self._most:
            source, file_name = _names(self._headers.get("content-disposition", ""))
            if self._over:
                self.pictures.append(Picture(source, None, _SIZE, file_name))
            else:
                self.pictures.append(Picture(source, self._spool.keep(self._buffer), OK, file_name))
        self._buffer = bytearray()
        self._over = False

    def finish(self) -> None:
        """The closing boundary was seen."""
        self.finished = True


def _decoded(data: bytearray) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _names(disposition: str) -> tuple[str, str | None]:
    """What a part is called in the answer (its file name as sent, quotes and all), and the file name to keep."""
    if match := _FILE_NAME.search(disposition):
        sent = match[1].strip()
        plain = sent[1:-1].replace('\\"', '"') if sent.startswith('"') and sent.endswith('"') else sent
        return sent, re.split(r"[/\\]", plain)[-1] or None
    match = _NAME.search(disposition)
    return (match[1].strip() if match else ""), None
