"""Bytes: a small protocol, one implementation per place. Keys are opaque paths made by `store.ledger`."""

from collections.abc import Iterable, Iterator
from typing import Protocol


class BlobExists(Exception):
    """A create-only put found the key taken."""


class BlobMissing(Exception):
    """There is no object of that key."""


class BlobDamaged(Exception):
    """An object is not what was written: a frame fails its authentication, or is missing."""


class BlobStore(Protocol):
    """Create-only puts, range reads, listing and deletion. One conformance suite holds every implementation to it."""

    def put_new(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """Write an object; with `durable=False` it survives a power cut only after `sync`.

        Raises:
            BlobExists: The key is taken.
        """

    def put_parts(self, key: str, parts: Iterable[bytes]) -> None:
        """Write an object that comes in parts, durably; only a part is in memory.

        Whatever `parts` raises is raised on, and nothing is left of the object.

        Raises:
            BlobExists: The key is taken.
        """

    def read(self, key: str) -> bytes:
        """The whole object.

        Raises:
            BlobMissing: There is none.
        """

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes `[start, end)` of the object, fewer at its end.

        Raises:
            BlobMissing: There is none.
        """

    def size(self, key: str) -> int:
        """The object's length in bytes.

        Raises:
            BlobMissing: There is none.
        """

    def exists(self, key: str) -> bool:
        """Whether there is an object of that key."""

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys and sizes as stored, whose key begins with a prefix: empty, or ending in a slash or a dot."""

    def names(self, prefix: str = "") -> Iterator[str]:
        """The keys of `list` alone, in any order: far faster, since nothing is asked about each."""

    def delete_prefix(self, prefix: str) -> None:
        """Remove everything whose key begins with a prefix ending in a slash or a dot; nothing there is no error."""

    def sync(self) -> None:
        """Make all puts so far durable."""
