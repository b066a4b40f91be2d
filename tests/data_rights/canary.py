"""Canaries: random words planted in whatever a client can send, and a search for them in every file there is.

A word is looked for as it is, in UTF-16, in hexadecimal and in base64; in objects opened with keys that were copied
before they were destroyed, and in what is packed within them; and in what rows keep sealed.
"""

import base64
import io
import secrets
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ownvision.data_rights import resealing
from ownvision.store.blobs import BlobDamaged, BlobMissing
from ownvision.store.blobs.local import LocalBlobs
from ownvision.store.blobs.sealed import SealedBlobs
from ownvision.store.database import Database
from ownvision.store.keys import KeyMissing, KeyStore, unseal
from ownvision.store.tables import Job


def word() -> str:
    """A word that nothing else says; letters and digits, so that it can stand in any field."""
    return f"canary{secrets.token_hex(8)}"


def bmp(marker: str, seed: int) -> bytes:
    """A picture whose very pixels spell a word, again and again, as they lie in the file."""
    text = (marker.encode() * 400)[: 48 * 40 * 3]
    pixels = bytearray(text.ljust(48 * 40 * 3, bytes([seed % 256])))
    pixels[-3:] = struct.pack("<I", seed)[:3]
    buffer = io.BytesIO()
    Image.frombytes("RGB", (48, 40), bytes(pixels), "raw", "BGR").save(buffer, "BMP")
    assert marker.encode() in buffer.getvalue()
    return buffer.getvalue()


def png(marker: str, colour: tuple[int, int, int]) -> bytes:
    """A picture that has a word in its comment and another, the same reversed, in its EXIF."""
    said = PngInfo()
    said.add_text("Comment", marker)
    exif = Image.Exif()
    exif[0x010E] = marker[::-1]
    buffer = io.BytesIO()
    Image.new("RGB", (48, 40), colour).save(buffer, "PNG", pnginfo=said, exif=exif)
    return buffer.getvalue()


def forms(marker: str) -> Iterator[bytes]:
    """How a word may be written; base64 without the characters at its ends that depend on its neighbours."""
    plain = marker.encode()
    yield plain
    for coding in ("utf-16-le", "utf-16-be"):
        yield marker.encode(coding)
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    for before in range(3):
        yield base64.b64encode(b"\0" * before + plain)[(4 * before + 2) // 3 + (before > 0) : -4]


class Search:
    """Looks for words.

    Args:
        words: By what they were planted in.
        keys: A copy of the key store, made while all keys were there.
    """

    def __init__(self, words: Mapping[str, str], keys: Path) -> None:
        self.forms = [(name, form) for name, marker in words.items() for form in forms(marker)]
        self.keys = KeyStore(keys)

    def found(self, data: Path, *others: Path) -> dict[str, set[str]]:
        """Where each word is, of those that are anywhere: in a data folder and in other files."""
        places: dict[str, set[str]] = {}
        for where, content in self._contents(data, others):
            for name, form in self.forms:
                if form in content:
                    places.setdefault(name, set()).add(where)
        return places

    def _contents(self, data: Path, others: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
        blobs = SealedBlobs(LocalBlobs(data / "objects"), self.keys)
        for path in sorted(data.rglob("*")):
            yield "name", path.name.encode()
            if not path.is_file():
                continue
            below = path.relative_to(data).as_posix()
            yield below, path.read_bytes()
            if below.startswith("objects/"):
                try:
                    yield from _unpacked(below, blobs.read(below.removeprefix("objects/")))
                except (BlobMissing, BlobDamaged, KeyMissing):
                    continue
        for path in others:
            yield path.name, path.read_bytes()
        yield from self._sealed(data)

    def _sealed(self, data: Path) -> Iterator[tuple[str, bytes]]:
        installations = [self.keys.installation(), *self.keys.retired().values()]
        database = Database(f"sqlite:///{data / 'ownvision.db'}")
        with database.read() as session:
            kept = [
                (column.key, getattr(row, column.key), purpose(row))
                for column, purpose in resealing.COLUMNS
                for row in session.query(column.class_).where(column.is_not(None))
            ]
            for job in session.query(Job):
                for name, text in resealing.PAYLOADS.items():
                    if name in job.payload:
                        kept.append((name, base64.b64decode(job.payload[name]), text))
        database.close()
        for name, value, purpose_text in kept:
            for key in installations:
                try:
                    yield f"sealed {name}", unseal(key, value, purpose_text)
                except KeyMissing:
                    continue


def _unpacked(where: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    yield where, content
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield from _unpacked(f"{where}/{name}", archive.read(name))
    if content.startswith(b"\x89PNG"):
        packed = b"".join(_chunks(content, b"IDAT"))
        yield f"{where} pixels", zlib.decompress(packed)


def _chunks(content: bytes, wanted: bytes) -> Iterator[bytes]:
    at = 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        if content[at + 4 : at + 8] == wanted:
            yield content[at + 8 : at + 8 + length]
        at += 12 + length


def rows(data: Path) -> int:
    """How many rows all tables have together: that a search looked at something."""
    with closing(sqlite3.connect(data / "ownvision.db")) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return sum(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names)
